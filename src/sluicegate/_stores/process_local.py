"""What is of one process.

What its threads held when it was forked is renewed in the child: nobody is left there to give it back. It is carried to
another process in no other way.
"""

from __future__ import annotations

import os
from typing import NoReturn, Protocol
from weakref import WeakSet


class Renewable(Protocol):
    """A store with a lock or the like."""

    def after_fork(self) -> None:
        """Renew it, in the child."""
        ...


_stores: WeakSet[Renewable] = WeakSet()


def renew_after_fork(store: Renewable) -> None:
    """Have ``store.after_fork()`` called in each process that is forked from this one."""
    _stores.add(store)


class ProcessLocal:
    """What cannot be pickled or copied: a copy would count by itself, or speak on a connection of another's."""

    __slots__ = ()

    def __reduce_ex__(self, _: object) -> NoReturn:
        raise TypeError(
            f"a {type(self).__name__} stays in its process and cannot be pickled or copied: make one in each process, "
            f"on the URL of one server for all"
        )


def _after_fork() -> None:
    for store in list(_stores):
        store.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
