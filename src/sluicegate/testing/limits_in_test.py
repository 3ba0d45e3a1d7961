"""`LimitsInTest`: the limits of an app for the length of a test, in memory, on one clock, with outages on demand."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import count
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from sluicegate._core.errors import StoreTimeout, StoreUnavailable, short_repr
from sluicegate._core.policy import SlidingWindow
from sluicegate._limiter import registry
from sluicegate._stores import resolve
from sluicegate.testing import responses
from sluicegate.testing.clock import ManualClock
from sluicegate.testing.failing import FailingStore, checked_error

if TYPE_CHECKING:
    from sluicegate.web.limiters import Limiters

_numbers = count()


class LimitsInTest:
    """The limits of the app under test, from entering it (``with LimitsInTest() as limits:``) to leaving it.

    The fixture ``sluicegate`` is one that is entered. Meanwhile every `RateLimits` and `RateLimitMiddleware` counts in
    fresh memory, by one clock that stands still, whatever its ``store`` is; no server is connected to. Those that share
    a store share their counters, as ever. Afterwards each has its own store again, as it was.

    A `Limiter` or `AsyncLimiter` that is made meanwhile with the URL of a server counts so, too; after the test it
    raises `RuntimeError`. For one that was made before, or without a URL, pass ``store=limits.store``.

    Attributes:
        clock: The clock, which begins at 0.
        store: A store on that clock, for limiters that you make yourself. It fails with all others.
    """

    def __init__(self) -> None:
        self.clock = ManualClock()
        self._error: type[StoreUnavailable | StoreTimeout] | None = None
        self._stores: dict[int, tuple[object, _StoreOfTest]] = {}  # by where they stand in, with that: ids are reused
        self.store: FailingStore = self._store_for(self)
        self._was_enabled = True

    # Time

    def advance(self, seconds: float | timedelta) -> None:
        """Move the clock by ``seconds``: units come back, and waits end.

        Raises:
            TypeError: It is neither a finite number nor a ``timedelta``. The clock stands as before.
        """
        is_number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and math.isfinite(seconds)
        if not is_number and not isinstance(seconds, timedelta):
            raise TypeError(f"seconds must be a finite number or a timedelta, got {short_repr(seconds)}")
        self.clock.advance(seconds)

    # On and off

    @property
    def enabled(self) -> bool:
        """Whether requests to the app are limited. While False all are allowed, and nothing is counted."""
        apps = limits_of_apps()
        return apps is None or apps.are_on

    @enabled.setter
    def enabled(self, enabled: bool) -> None:
        if not isinstance(enabled, bool):
            raise TypeError(f"enabled must be True or False, got {short_repr(enabled)}")
        _switch(enabled)

    @contextmanager
    def off(self) -> Iterator[None]:
        """Limit nothing while a block runs: ``with sluicegate.off():``."""
        before, self.enabled = self.enabled, False
        try:
            yield
        finally:
            self.enabled = before

    # Outages

    def fail(self, error: type[StoreUnavailable | StoreTimeout] = StoreUnavailable) -> None:
        """Let every store fail from now on, as `FailingStore.fail` does: limits answer as their ``on_outage`` says.

        Raises:
            TypeError: ``error`` is neither the class `StoreUnavailable` nor `StoreTimeout`.
        """
        self._error = checked_error(error)
        for _, store in list(self._stores.values()):
            store.fail(error)

    def recover(self) -> None:
        """End the outage. Safe to call twice."""
        self._error = None
        for _, store in list(self._stores.values()):
            store.recover()

    @contextmanager
    def outage(self, error: type[StoreUnavailable | StoreTimeout] = StoreUnavailable) -> Iterator[None]:
        """Fail while a block runs: ``with sluicegate.outage():``. Raises as `fail` does."""
        self.fail(error)
        try:
            yield
        finally:
            self.recover()

    # Responses

    def assert_limited(self, response: Any, policy: str | None = None) -> None:
        """Check that a response is a denial: a 429.

        Args:
            response: Of Starlette's ``TestClient``, ``httpx`` or the like: with ``status_code``, ``headers`` and
                ``json()``.
            policy: The policy that must have denied it, by the name in its fields; None for any.

        Raises:
            AssertionError: It is not. The message shows its status and fields.
            TypeError: An argument is invalid.
        """
        __tracebackhide__ = True
        responses.assert_limited(response, policy)

    def assert_remaining(self, response: Any, units: int, policy: str | None = None) -> None:
        """Check how many units remain, by the RateLimit field of a response.

        Args:
            response: As for `assert_limited`.
            units: The units that must remain, 0 or more.
            policy: The policy; None for the first in the field, the one that denies first.

        Raises:
            AssertionError: Another number remains, or the field is missing. The message shows the field.
            TypeError: An argument is invalid.
        """
        __tracebackhide__ = True
        responses.assert_remaining(response, units, policy)

    # The test

    def __enter__(self) -> Self:
        if resolve.stand_in is not None:
            raise RuntimeError("limits are in a test already: use the fixture, or one LimitsInTest at a time")
        self._was_enabled = self.enabled
        resolve.stand_in = self._store_for
        _switch(True)
        for limiters in _living():
            limiters.count_in(self._store_for(limiters.where))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        resolve.stand_in = None
        for limiters in _living():
            limiters.count_in(None)
        _switch(self._was_enabled)
        for _, store in self._stores.values():
            store.is_over = True

    def __repr__(self) -> str:
        return f"LimitsInTest(clock={self.clock!r})"

    def _store_for(self, where: object) -> FailingStore:
        """Return the store that stands in for counting somewhere: at one server, or in one store."""
        if isinstance(where, _StoreOfTest):
            return where
        known = self._stores.get(id(where))
        if known is None:
            store = _StoreOfTest(clock=self.clock)
            _make_known(store)
            if self._error is not None:
                store.fail(self._error)
            known = self._stores[id(where)] = where, store
        return known[1]


class _StoreOfTest(FailingStore):
    """The store of one test. What still counts in it after the test is told so, and not left with a clock that stands.

    Attributes:
        is_over: Whether the test is over.
    """

    is_over = False

    def _call(self) -> None:
        if self.is_over:
            raise RuntimeError(
                "this limiter was made in a test with limits on a clock of its own, and the test is over: make it "
                "outside of tests, or anew in each"
            )
        super()._call()


def _make_known(store: FailingStore) -> None:
    """Register a store as one in use: as each test has new ones, an app would get the warning limiter-per-request."""
    for where in (store, store.awaited()):
        registry.register(where, (SlidingWindow(1, window=1, name=f"of-test-{next(_numbers)}"),), where)


def limits_of_apps() -> type[Limiters] | None:
    """Return the class that has the limits of all apps; None without the extra that the web layer needs."""
    try:
        from sluicegate.web.limiters import Limiters  # noqa: PLC0415 - only when a test needs it
    except ImportError as error:
        if error.name != "http_sf":
            raise
        return None
    return Limiters


def _living() -> list[Limiters]:
    apps = limits_of_apps()
    return [] if apps is None else apps.living()


def _switch(are_on: bool) -> None:
    apps = limits_of_apps()
    if apps is not None:
        apps.switch(are_on)
