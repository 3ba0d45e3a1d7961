"""The lock of a memory store: for critical sections of a microsecond, never held across I/O.

It is a token in a list. ``del lock.token[0]`` takes it and raises `IndexError` while it is taken;
``lock.owner = get_ident()`` comes next; ``lock.owner = None`` and ``lock.token.append(None)`` give it back.

Why not `threading.Lock` or `RLock`, which say what they are (measured in docs/adr/0020):

- A plain ``with lock`` convoys: threads that queue for it are switched at each release, so sixteen threads together
  made a twentieth of the decisions that this lock lets them make.
- ``RLock.acquire(blocking=False)`` and a short sleep does not convoy and is nearly as fast. But a signal may be handled
  between the return of ``acquire`` and the ``try`` that releases it; if its handler raises, the lock is lost. CPython
  handles signals only after calls and at backward jumps. There is neither between ``del``, the owner's assignment and
  the ``try`` whose ``finally`` gives this one back. (CPython 3.12 compiles the end of an ``except`` that falls through
  as a backward jump: no such end may stand between them either.)

What it promises: mutual exclusion between threads. A call from a signal handler or a finalizer that interrupts a
section of its own thread does not deadlock: it runs inside that section. An exception raised by a signal handler never
loses the token. A forked child finds the lock free, unless the forking thread holds it itself.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import get_ident
from time import sleep
from typing import TypeVar

_Given = TypeVar("_Given")
_Made = TypeVar("_Made")

_PAUSE = 0.000_001  # seconds, to let the owner run: the system makes some 50 µs of it


class Lock:
    """A reentrant lock that does not queue its waiters.

    Attributes:
        token: One None while the lock is free.
        owner: The thread that holds it.
    """

    __slots__ = ("__weakref__", "owner", "token")

    def __init__(self) -> None:
        self.token: list[None] = [None]
        self.owner: int | None = None

    def run_locked(self, work: Callable[[_Given], _Made], given: _Given) -> _Made:
        """Return ``work(given)``, run while holding the lock. Reentrant."""
        me = get_ident()
        while True:
            try:
                del self.token[0]
                self.owner = me
                break
            except IndexError:
                if self.owner == me:
                    return work(given)
                sleep(_PAUSE)
        try:
            return work(given)
        finally:
            self.owner = None
            self.token.append(None)

    def after_fork(self) -> None:
        """Free the lock in a forked child, unless the forking thread holds it: no other thread is there to do so."""
        if self.owner != get_ident():
            self.owner = None
            self.token[:] = [None]
