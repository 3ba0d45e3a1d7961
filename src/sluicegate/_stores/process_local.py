"""Objects that belong to one process: their locks are made anew after a fork, and they cannot be pickled or copied."""

from __future__ import annotations

import os
from typing import NoReturn, Protocol
from weakref import WeakSet


class Renewable(Protocol):
    """Something with a lock, a connection or the like."""

    def after_fork(self) -> None:
        """Make it anew, in the child: threads that held it in the parent do not exist there."""
        ...


_renewables: WeakSet[Renewable] = WeakSet()


def renew_after_fork(renewable: Renewable) -> None:
    """Call ``renewable.after_fork()`` in every process that is forked from this one, for as long as it lives."""
    _renewables.add(renewable)


class ProcessLocal:
    """Base class that refuses to be pickled or copied: a copy would count by itself, or share a connection."""

    __slots__ = ()

    def __reduce_ex__(self, _: object) -> NoReturn:
        raise TypeError(
            f"a {type(self).__name__} stays in its process and cannot be pickled or copied: make one in each process, "
            f"with the URL of one server for all"
        )


def _after_fork() -> None:
    for renewable in list(_renewables):
        renewable.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
