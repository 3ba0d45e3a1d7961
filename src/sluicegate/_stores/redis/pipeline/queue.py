"""The callers that wait to be sent, and the rule for when they are. No I/O and no lock.

A request that arrives while nothing is in flight is sent at once. Requests that arrive while a batch is in flight wait,
and are sent together when its reply is there. They join it sooner if they are as many as it has, or if it takes long:
so that two occasional callers need not wait for each other, and many constant callers still gather in large batches.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Sequence

from sluicegate._core.errors import StoreUnavailable
from sluicegate._stores.redis.diagnoses import QUEUE_FULL
from sluicegate._stores.redis.pipeline.batch import Batch
from sluicegate._stores.redis.pipeline.waiter import Failed, Verb, Waiter

MAX_CHARGES = 256
"""Charges in one batch, at most (a single request may have more): about a millisecond of the server's time."""

MAX_IN_FLIGHT = 8
"""Batches in flight at once, at most."""

PATIENCE = 0.001
"""Seconds that a smaller batch waits for the reply to the last one before it joins: twice this, and twice as long again
for each further batch in flight. A server next door has replied by then; with a slow or distant one, nobody waits for
two calls in a row."""

_MIN_GONE = 256  # callers that have left, before the queue is rid of them in one pass

MAX_WAITING = 10_000
"""The default of ``max_waiting``: callers that may wait in the queue."""


class Queue:
    """The callers that have not been sent yet, in the order in which they called.

    Args:
        max_waiting: Callers that may wait, 1 or more.
    """

    def __init__(self, max_waiting: int) -> None:
        self._max_waiting = max_waiting
        # A caller that leaves stays in here, as taking it out of the middle would cost a pass over all others.
        self._entries: deque[Waiter] = deque()
        self._waiting = 0
        self._charges = 0

    def __len__(self) -> int:
        return self._waiting

    def add(self, waiter: Waiter) -> None:
        """Put a caller at the end.

        Raises:
            StoreUnavailable: The queue is full.
        """
        if self._waiting >= self._max_waiting:
            raise StoreUnavailable(
                f"queue full: {self._max_waiting} callers are waiting; {waiter.verb.effect.none}",
                reason=QUEUE_FULL.reason,
            )
        self._entries.append(waiter)
        self._waiting += 1
        self._charges += waiter.charges

    def leave(self, waiter: Waiter, error: Exception) -> None:
        """Let a caller fail that has not been sent. Nothing is sent for it any more. A second time does nothing."""
        if waiter.outcome is not None:  # refused by an attempt to connect, just as its own time was over
            return
        waiter.outcome = Failed(error)
        self._waiting -= 1
        self._charges -= waiter.charges
        if len(self._entries) > 2 * self._waiting + _MIN_GONE:
            self._entries = deque(entry for entry in self._entries if entry.outcome is None)

    def recount(self) -> None:
        """Repair what an interrupt in the middle of a method may have left."""
        self._entries = deque(entry for entry in self._entries if entry.outcome is None and not entry.sent)
        self._waiting = len(self._entries)
        self._charges = sum([entry.charges for entry in self._entries])

    def waiting(self) -> list[Waiter]:
        """Return the callers that wait."""
        return [entry for entry in self._entries if entry.outcome is None]

    def first(self) -> Waiter | None:
        """Return the caller that has waited longest."""
        while self._entries and self._entries[0].outcome is not None:
            self._entries.popleft()
        return self._entries[0] if self._entries else None

    def joins_at(self, in_flight: Sequence[Batch]) -> float:
        """Return the time from which the next batch may be sent while these are in flight: 0 at once, ``inf`` not yet.

        A batch that is smaller than the last one is patient. So is one that begins with the same request as the last
        one: if that is denied, its reply answers both.
        """
        first = self.first()
        if first is None or len(in_flight) >= MAX_IN_FLIGHT:
            return math.inf
        if not in_flight:
            return 0
        last = in_flight[-1]
        if last.is_alone:
            return math.inf
        if self._charges >= min(last.charges, MAX_CHARGES) and first.argument != last.waiters[0].argument:
            return 0
        return last.started_at + PATIENCE * (1 << len(in_flight))

    def may_join(self, in_flight: Sequence[Batch]) -> bool:
        """Tell whether the next batch may be sent now, while these are in flight."""
        joins_at = self.joins_at(in_flight)
        return not joins_at or joins_at <= time.monotonic()

    def take_batch(self) -> list[Waiter]:
        """Take out the callers that are sent together: from the first on, all of its verb, while there is room."""
        entries, charges = self._entries, 0
        batch: list[Waiter] = []
        verb: Verb | None = None
        while entries:
            waiter = entries[0]
            if waiter.outcome is None:
                if batch and (waiter.verb != verb or charges + waiter.charges > MAX_CHARGES):
                    break
                verb = waiter.verb
                # Marked and listed before it leaves the queue: an interrupt in between loses no caller.
                waiter.sent = True
                charges += waiter.charges
                batch.append(waiter)
            entries.popleft()
        self._waiting -= len(batch)
        self._charges -= charges
        return batch
