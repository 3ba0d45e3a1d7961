"""The health of one store: a circuit breaker, and what happened to the server so far. No I/O and no timer.

The breaker is closed while calls succeed. Three failures in a row open it: then every call fails at once, until a probe
of the store's own has succeeded. A failure counts only if its call began after the last one that counted: when a
connection breaks, a thousand callers fail at once, and that is one failure.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterator
from contextlib import suppress
from threading import RLock
from typing import NamedTuple, Protocol
from weakref import WeakSet

from sluicegate._core.errors import StoreError, StoreUnavailable
from sluicegate._core.event import StoreEvent

logger = logging.getLogger("sluicegate")

OPENS_AFTER = 3
"""Failures in a row that open the breaker."""

FIRST_DELAY, LAST_DELAY = 0.05, 1.0
"""Seconds before the first probe, and at most before each later one."""

SOON = 0.001
"""Seconds before a probe within which it counts as under way."""


class Listener(Protocol):
    """Receives the events of a store."""

    def on_store_event(self, event: StoreEvent) -> None:
        """Take note. It must not raise, and should not take long."""


class _Why(NamedTuple):
    """Why the breaker opened. Not the error itself: that holds on to everything its callers had in hand."""

    reason: str = "unknown"
    lasts: bool = False
    what: str = ""


class Health:
    """The health of one store.

    Attributes:
        is_open: Whether the breaker is open: no call is worth making.
        unsure: Whether `answered` has something to note: nothing is known yet, or the last call failed.
        has_answered: Whether the store has ever answered.
        failures: Failures that counted, so far.
        within: Seconds within which a probe must be answered for the breaker to close: the shortest of the time-outs
            that were exceeded.
        outages: How often the breaker has opened.
        states_lost: How often the server has lost all counters.
        failovers: How often another server has taken its place, or it was restarted with its data.
    """

    def __init__(self) -> None:
        self.is_open = False
        self.unsure = True
        self.has_answered = False
        self.failures = 0
        self.within = 0.0
        self.outages = self.states_lost = self.failovers = 0
        self._in_a_row = 0
        self._why = _Why()
        self._opened_at = self._next_probe_at = 0.0
        self._down_before = 0.0  # seconds, in outages that are over
        self._reported: set[str] = set()
        self._listeners: WeakSet[Listener] = WeakSet()
        # Reentrant: a signal handler may call a limiter while its own thread holds it.
        self._lock = RLock()

    def listen(self, listener: Listener) -> None:
        """Notify a listener of all events from now on, for as long as it lives."""
        with self._lock:
            self._listeners.add(listener)

    def failed(self, error: StoreError, seen: int, within: float) -> bool:
        """Take note of a failure. Returns whether it opened the breaker: then probe the store, and call `report_down`.

        Args:
            error: The failure.
            seen: ``failures`` when the call began.
            within: The call's time-out, seconds.
        """
        with self._lock:
            if self.is_open or seen != self.failures:
                return False
            self.failures += 1
            self._in_a_row += 1
            self.unsure = True
            self.within = within if self._in_a_row == 1 else min(self.within, within)
            if self._in_a_row < OPENS_AFTER:
                return False
            self.is_open = True
            self.outages += 1
            self._why = _Why(error.reason, error.lasts, _without_address(error).partition(";")[0])
            self._opened_at = time.monotonic()
            self._next_probe_at = self._opened_at + FIRST_DELAY
        return True

    def report_down(self, error: StoreError) -> None:
        """Log that the breaker is open, and notify the listeners. To be called once probing has begun."""
        self._report(StoreEvent("down", error.reason), f"the store is down, {error.reason}: {_without_address(error)}")

    def answered(self) -> None:
        """Take note that a call succeeded."""
        with self._lock:
            self.has_answered = True
            if not self.is_open:
                self._in_a_row = 0
                self.unsure = False

    def recovered(self) -> None:
        """Close the breaker: a probe succeeded."""
        with self._lock:
            if not self.is_open:
                return
            seconds = time.monotonic() - self._opened_at
            self._close(seconds)
        self._report(StoreEvent("up", seconds=seconds), f"the store is up again, after {seconds:.1f} s")

    def reset(self) -> None:
        """Close the breaker without a probe: whether the store answers is not known."""
        with self._lock:
            self._in_a_row = 0
            if self.is_open:
                self._close(time.monotonic() - self._opened_at)

    def _close(self, seconds: float) -> None:
        self._down_before += seconds
        self._in_a_row = 0
        self.is_open = False

    def is_first(self, what: str) -> bool:
        """Tell whether something is to be logged, which is logged once."""
        if what in self._reported:
            return False
        self._reported.add(what)
        return True

    def note_failure_of_one(self, error: StoreError) -> None:
        """Log a failure that says nothing of the server, as that of a key of another type: once for each reason."""
        if self.is_first(error.reason):
            logger.warning("a request failed, %s: %s (logged once)", error.reason, _without_address(error))

    def warn_of_unknown_fleet(self, why: StoreError) -> None:
        """Log once that this instance allows the whole limit by itself, as it knows of no others."""
        if self.is_first("whole limit"):
            logger.warning(
                "the store has not answered yet, %s, so the number of instances is unknown and this one allows the "
                "whole limit by itself (logged once; share= sets another part, deadline= waits longer)",
                why.reason,
            )

    def lost_state(self) -> None:
        """Take note that the server has lost all counters."""
        self.states_lost += 1
        self._report(StoreEvent("state-lost"), "the store has lost all counters: every limit is fresh")

    def failed_over(self) -> None:
        """Take note that another server took the place, or that it was restarted with its data."""
        self.failovers += 1
        text = "the store was restarted or replaced: what was counted just before may be lost"
        self._report(StoreEvent("failed-over"), text)

    def error(self, nothing_done: str) -> StoreUnavailable:
        """Return the error for a call that is not made as the breaker is open."""
        why = self._why
        return StoreUnavailable(f"the store is down, {nothing_done}: {why.what}", reason=why.reason, lasts=why.lasts)

    def delays(self) -> Iterator[float]:
        """Yield the seconds to wait before each probe: longer and longer, with jitter."""
        delay = FIRST_DELAY
        while True:
            jittered = delay * random.uniform(0.5, 1)  # noqa: S311 - to spread the probes of a fleet
            self._next_probe_at = time.monotonic() + jittered
            yield jittered
            delay = min(2 * delay, LAST_DELAY)

    def is_overdue(self, seconds: float) -> bool:
        """Tell whether the next probe should have come so many seconds ago: nobody probes the store any more."""
        return time.monotonic() > self._next_probe_at + seconds

    @property
    def next_probe_us(self) -> int:
        """Microseconds until the next probe, 1 or more: when a request may be decided by the store again.

        While a probe is under way, or about to be, the shortest delay between two.
        """
        left = self._next_probe_at - time.monotonic() if self.is_open else FIRST_DELAY
        return round((left if left > SOON else FIRST_DELAY) * 1_000_000)

    @property
    def down_seconds(self) -> float:
        """Seconds for which the breaker has been open so far."""
        with self._lock:
            return self._down_before + (time.monotonic() - self._opened_at if self.is_open else 0.0)

    def after_fork(self) -> None:
        """Start anew in a forked child: no probe runs there."""
        self._lock = RLock()
        self.reset()

    def _report(self, event: StoreEvent, text: str) -> None:
        with suppress(Exception):  # of a log filter or handler: the caller is a decision, or a probe
            logger.warning("%s", text)
        with self._lock:
            listeners = list(self._listeners)
        for listener in listeners:  # not under the lock: they are the user's
            listener.on_store_event(event)


def _without_address(error: StoreError) -> str:
    """Return the first part of a message: what is wrong, and what to do. The rest names the server."""
    return str(error).partition(": ")[0]
