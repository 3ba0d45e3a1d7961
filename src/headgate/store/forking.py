"""What threads held when a process was forked is renewed in the child: nobody is left there to give it back."""

from __future__ import annotations

import os
from typing import Protocol
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


def _after_fork() -> None:
    for store in list(_stores):
        store.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
