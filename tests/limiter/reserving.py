"""Reservations for threads and for tasks behind one interface, on every store."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from sluicegate import AsyncLimiter, AsyncReservation, Limiter, Reservation
from stores.harness import Harness, LimiterAdapter

AnyReservation = Reservation | AsyncReservation


class Reserving(LimiterAdapter):
    """The verbs of a limiter, called the same way for both classes; a reservation is a ``with`` statement for both."""

    def __init__(self, harness: Harness, *policies: Any, **options: Any) -> None:
        kind = Limiter if harness._runner is None else AsyncLimiter
        self.limiter = kind(*policies, store=harness.store, **options)
        self.run = harness.run
        super().__init__(harness, self.limiter)

    @contextmanager
    def reserve(self, *args: Any, **options: Any) -> Iterator[AnyReservation]:
        with self.entered(self.limiter.reserve(*args, **options)) as reservation:
            yield reservation

    def entered(self, reservation: AnyReservation) -> AbstractContextManager[AnyReservation]:
        return entered(reservation, self.run)

    def charge(self, *args: Any) -> None:
        self.run(self.limiter.charge(*args))

    def remaining(self, key: Any = "a") -> tuple[int, ...]:
        """Return what is left of each policy."""
        return tuple(part.remaining for part in self.peek(key).decisions)


@contextmanager
def entered(reservation: AnyReservation, run: Callable[[Any], Any]) -> Iterator[AnyReservation]:
    """Run a block in a reservation of either kind; ``run`` runs what is awaited."""
    if isinstance(reservation, Reservation):
        with reservation:
            yield reservation
        return
    run(reservation.__aenter__())
    try:
        yield reservation
    except BaseException as error:
        run(reservation.__aexit__(type(error), error, error.__traceback__))
        raise
    run(reservation.__aexit__(None, None, None))


def renew_now(limiter: Limiter | AsyncLimiter) -> None:
    """Let the time have come to renew all leases."""
    renewing = limiter._renewing
    for held in list(renewing._held.values()):
        held.renew_at = 0.0
        renewing._wake(held.loop)


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for what another thread does."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it did not happen within a minute"
        time.sleep(0.001)
