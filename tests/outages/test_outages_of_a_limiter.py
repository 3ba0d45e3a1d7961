"""What a limiter answers for a store that raises: as ``on_outage`` says, and as its arguments are checked."""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
import math
from types import SimpleNamespace
from typing import Any

import pytest

from outages.every_algorithm import monotonic
from sluicegate import (
    AsyncLimiter,
    InvalidCost,
    InvalidKey,
    InvalidPolicy,
    Limiter,
    MemoryStore,
    Outcomes,
    SlidingWindow,
    StoreError,
    StoreEvent,
    StoreTimeout,
    StoreUnavailable,
)
from sluicegate._limiter import outages as module
from sluicegate._limiter.outages import DEADLINE
from sluicegate._stores import health as health_module
from sluicegate._stores.fleet import Fleet
from sluicegate._stores.health import Health
from sluicegate._stores.local import Local
from sluicegate._stores.outage import Outage
from sluicegate.testing import ManualClock

DOWN = StoreUnavailable("down", reason="unreachable")
LOST = StoreTimeout("slow", reason="timeout")
LASTS = StoreUnavailable("no password", reason="no-password", lasts=True)
MODES = ["local", "open", "closed", "raise"]


class Failing:
    """A store of somebody else's that raises, or answers once it has no error any more."""

    def __init__(self, error: Exception | None = DOWN) -> None:
        self.error = error
        self.asked: list[Any] = []
        self._inner = MemoryStore()

    def decide(self, request):
        self.asked.append(request)
        if self.error is not None:
            raise self.error
        return self._inner.decide(request)

    def forget(self, counters): ...

    def block(self, counters, span_us): ...

    def close(self): ...


class FailingAwaited(Failing):
    close = None  # type: ignore[assignment]

    async def decide(self, request):
        return super().decide(request)

    async def forget(self, counters): ...

    async def block(self, counters, span_us): ...

    async def aclose(self): ...


class WithParts:
    """Makes of such a store one that has the parts of a store of this package."""

    def __init__(self, error: Exception | None = DOWN) -> None:
        super().__init__(error)
        fleet = Fleet()
        self.outage = Outage(Health(), fleet, Local(fleet))


class Breaking(WithParts, Failing): ...


class BreakingAwaited(WithParts, FailingAwaited): ...


class Form:
    """Makes limiters and stores for threads or for tasks, and calls both in the same way."""

    def __init__(self, asynchronous: bool) -> None:
        self.limiter = AsyncLimiter if asynchronous else Limiter
        self.failing = FailingAwaited if asynchronous else Failing
        self.breaking = BreakingAwaited if asynchronous else Breaking

    def take(self, limiter, *args):
        return _run(limiter.take(*args))

    def peek(self, limiter, *args):
        return _run(limiter.peek(*args))

    def allow(self, limiter, *args):
        return _run(limiter.allow(*args))


def _run(result):
    async def awaited():
        return await result

    return asyncio.run(awaited()) if inspect.isawaitable(result) else result


@pytest.fixture(params=["threads", "tasks"])
def form(request: pytest.FixtureRequest) -> Form:
    return Form(request.param == "tasks")


each_mode = pytest.mark.parametrize("mode", MODES)
each_mode_that_answers = pytest.mark.parametrize("mode", MODES[:3])


# What is answered


@pytest.mark.parametrize(
    ("mode", "answers"), [("local", [True, True, False]), ("open", [True] * 3), ("closed", [False] * 3)]
)
@pytest.mark.parametrize("error", [DOWN, LOST, StoreError("odd")], ids=lambda error: type(error).__name__)
def test_each_policy_has_its_answers(form: Form, mode: str, answers: list[bool], error: StoreError):
    limiter = form.limiter("2/minute", store=form.failing(error), on_outage=mode)
    decisions = [form.take(limiter, "a") for _ in range(3)]
    assert [decision.allowed for decision in decisions] == answers
    assert {decision.source for decision in decisions} == {"fallback"}
    assert {decision.limit for decision in decisions} == {2}
    assert [form.allow(limiter, "b") for _ in range(3)] == answers


def test_local_is_the_default_and_an_instance_that_knows_no_other_allows_the_whole_limit(form: Form):
    limiter = form.limiter("5/minute", store=form.failing())
    assert [form.allow(limiter, "a") for _ in range(7)] == [True] * 5 + [False] * 2


def test_under_raise_the_error_of_the_store_itself_is_raised(form: Form):
    limiter = form.limiter("2/minute", store=form.failing(), on_outage="raise")
    for verb in (form.take, form.allow, form.peek):
        with pytest.raises(StoreUnavailable) as caught:
            verb(limiter, "a")
        assert caught.value is DOWN


def test_under_open_nothing_seems_used_and_under_closed_the_wait_ends(form: Form):
    open_ = form.take(form.limiter("2/minute", store=form.failing(), on_outage="open"), "a", 9)
    assert (open_.allowed, open_.remaining, open_.retry_after, open_.reset_after) == (True, 2, 0, 0)
    closed = form.take(form.limiter("2/minute", store=form.failing(), on_outage="closed"), "a", 9)
    assert (closed.allowed, closed.remaining, closed.reset_after) == (False, 0, 0)
    assert 0 < closed.retry_after <= 1


@each_mode_that_answers
def test_no_denial_of_an_outage_waits_for_ever(form: Form, mode: str):
    limiter = form.limiter("2/minute", store=form.failing(), on_outage=mode)
    for cost in (1, 2, 3, 10**11):
        assert form.take(limiter, "a", cost).retry_after < math.inf


@each_mode_that_answers
def test_an_outage_that_is_over_leaves_the_decisions_to_the_store(form: Form, mode: str):
    store = form.failing()
    limiter = form.limiter("2/minute", store=store, on_outage=mode)
    form.take(limiter, "a")
    store.error = None
    assert [form.take(limiter, "a").source for _ in range(2)] == ["store"] * 2


@each_mode
def test_only_errors_of_the_store_are_answered_for(form: Form, mode: str):
    limiter = form.limiter("2/minute", store=form.failing(ZeroDivisionError()), on_outage=mode)
    with pytest.raises(ZeroDivisionError):
        form.take(limiter, "a")


@each_mode
def test_a_bad_call_is_refused_in_an_outage_as_ever(form: Form, mode: str):
    store = form.failing()
    limiter = form.limiter("2/minute", store=store, on_outage=mode)
    with pytest.raises(InvalidKey):
        form.take(limiter, 5)
    with pytest.raises(InvalidCost):
        form.take(limiter, "a", 0)
    assert not store.asked


@each_mode
def test_what_needs_no_store_does_not_notice_an_outage(form: Form, mode: str):
    store = form.failing()
    limits = {"suspended": 0}
    limiter = form.limiter("2/minute", store=store, on_outage=mode, exempt={"root"}, limits=limits.get)
    assert form.take(limiter, "root").source == "bypass"
    suspended = form.take(limiter, "suspended")
    assert (suspended.allowed, suspended.retry_after) == (False, math.inf)
    assert not store.asked


@pytest.mark.parametrize(("mode", "allowed"), [("local", [True, True, False]), ("open", [True] * 3)])
def test_several_policies_are_answered_for_together(form: Form, mode: str, allowed: list[bool]):
    wide, narrow = SlidingWindow(5, window=60, name="wide"), SlidingWindow(2, window=60, name="narrow")
    limiter = form.limiter(wide, narrow, store=form.failing(), on_outage=mode)
    decisions = [form.take(limiter, "a") for _ in range(3)]
    assert [decision.allowed for decision in decisions] == allowed
    assert [part.source for part in decisions[0].decisions] == ["fallback"] * 2
    if mode == "local":
        assert decisions[2].policy == "narrow"
        assert [part.remaining for part in decisions[2].decisions] == [3, 0]  # the wide one was not charged


def test_limits_by_key_hold_in_an_outage(form: Form):
    limiter = form.limiter("2/minute", store=form.failing(), limits={"gold": 4}.get, share=0.5)
    for key, units in (("gold", 2), ("other", 1)):
        assert sum(form.allow(limiter, key) for _ in range(5)) == units


# The share


def test_the_share_is_that_of_the_fleet_or_a_fixed_one(form: Form):
    store = form.breaking()
    store.outage.fleet.learn(4, [])
    assert sum(form.allow(form.limiter("12/minute", store=store), "a") for _ in range(12)) == 3
    limiter = form.limiter("12/minute", store=store, share=0.5, exempt=set())
    assert sum(form.allow(limiter, "b") for _ in range(12)) == 6
    # Limiters on one store are one instance, and have one count.
    assert form.take(limiter, "a", 4).allowed is False


def test_that_the_fleet_is_unknown_is_logged_once_a_store_where_it_matters(
    form: Form, caplog: pytest.LogCaptureFixture
):
    def warnings(store, **options) -> int:
        caplog.clear()
        limiter = form.limiter("2/minute", store=store, **options)
        for _ in range(3):
            form.allow(limiter, "a")
        return sum("the whole limit by itself" in message for message in caplog.messages)

    known = form.breaking()
    known.outage.fleet.learn(1, [])
    assert warnings(known) == 0
    for options in ({"on_outage": "open"}, {"on_outage": "closed"}, {"share": 0.5}):
        assert warnings(form.breaking(), **options) == 0
    unknown = form.breaking()
    assert [warnings(unknown), warnings(unknown)] == [1, 0]


def test_peek_takes_nothing_and_owes_nothing(form: Form):
    store = form.breaking()
    limiter = form.limiter("2/minute", store=store)
    for _ in range(5):
        peeked = form.peek(limiter, "a")
        assert (peeked.allowed, peeked.remaining, peeked.source) == (True, 2, "fallback")
    assert not store.outage.local.owes
    assert [form.allow(limiter, "a") for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize(("error", "owes"), [(DOWN, True), (StoreError("odd"), False), (LOST, False)], ids=repr)
def test_what_may_stand_in_the_store_already_is_not_owed_to_it(form: Form, error: StoreError, owes: bool):
    store = form.breaking(error)
    assert form.allow(form.limiter("2/minute", store=store), "a")
    assert store.outage.local.owes is owes


@pytest.mark.parametrize("mode", ["open", "closed"])
def test_what_was_not_counted_is_not_owed(form: Form, mode: str):
    store = form.breaking()
    form.allow(form.limiter("2/minute", store=store, on_outage=mode), "a")
    assert not store.outage.local.owes


# Errors of configuration


@each_mode
def test_an_error_that_lasts_is_raised_under_every_policy_until_the_store_has_answered(form: Form, mode: str):
    store = form.breaking(LASTS)
    limiter = form.limiter("2/minute", store=store, on_outage=mode)
    for verb in (form.take, form.allow, form.peek):
        with pytest.raises(StoreUnavailable) as caught:
            verb(limiter, "a")
        assert caught.value is LASTS
    assert limiter.statistics().errors == 2
    store.outage.health.answered()
    if mode != "raise":
        assert form.take(limiter, "a").source == "fallback"


@each_mode_that_answers
def test_a_store_of_ones_own_that_has_answered_may_have_an_outage_that_lasts(form: Form, mode: str):
    store = form.failing(None)
    limiter = form.limiter("2/minute", store=store, on_outage=mode)
    assert form.take(limiter, "a").source == "store"
    store.error = LASTS
    assert form.take(limiter, "a").source == "fallback"


@each_mode_that_answers
def test_an_error_that_passes_is_answered_for_from_the_start(form: Form, mode: str):
    assert form.take(form.limiter("2/minute", store=form.failing(), on_outage=mode), "a").source == "fallback"


# The arguments


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        *(("on_outage", value) for value in ("", "Local", "deny", None, True, ["local"])),
        *(("deadline", value) for value in (0, -1, math.nan, math.inf, 3601, 10**400, "1", None, True)),
        *(("share", value) for value in (0, -0.5, 1.01, math.nan, math.inf, "0.5", True, 2)),
        *(("on_event", value) for value in (5, "print", [])),
    ],
)
def test_a_bad_argument_is_an_invalid_policy_that_names_it(form: Form, parameter: str, value: Any):
    with pytest.raises(InvalidPolicy, match=rf"^{parameter} must be .*, got "):
        form.limiter("2/minute", **{parameter: value})


def test_an_on_event_that_is_async_is_refused(form: Form):
    async def on_event(event: StoreEvent) -> None: ...

    with pytest.raises(InvalidPolicy, match=r"^on_event must be a synchronous function"):
        form.limiter("2/minute", on_event=on_event)


def test_the_bounds_of_the_arguments_are_taken(form: Form):
    for options in ({"deadline": 0.001}, {"deadline": 3600}, {"share": 1}, {"share": 1e-9}, {"on_event": print}):
        form.limiter("2/minute", **options)


def test_every_request_says_how_long_its_caller_waits(form: Form):
    store = form.failing()
    limiter = form.limiter("2/minute", store=store, deadline=0.25)
    for verb in (form.take, form.allow, form.peek):
        verb(limiter, "a")
    assert [request.within for request in store.asked] == [0.25] * 3
    assert DEADLINE == 0.1


# Statistics and events


@pytest.mark.parametrize(("mode", "outcomes"), [("local", (2, 1)), ("open", (3, 0)), ("closed", (0, 3))])
def test_answers_of_an_outage_are_counted_as_fallbacks_and_not_as_errors(form: Form, mode: str, outcomes):
    store = form.failing()
    limiter = form.limiter("2/minute", store=store, on_outage=mode)
    for _ in range(3):
        form.take(limiter, "a")
        form.peek(limiter, "a")
    store.error = None
    form.take(limiter, "a")
    statistics = limiter.statistics()
    assert statistics.by_source == {"fallback": Outcomes(*outcomes), "store": Outcomes(1, 0)}
    assert (statistics.allowed, statistics.denied, statistics.errors) == (outcomes[0] + 1, outcomes[1], 0)


def test_only_errors_that_are_raised_are_counted_as_errors_and_peeks_are_not(form: Form):
    limiter = form.limiter("2/minute", store=form.failing(), on_outage="raise")
    for verb in (form.take, form.allow, form.peek):
        with pytest.raises(StoreUnavailable):
            verb(limiter, "a")
    statistics = limiter.statistics()
    assert (statistics.errors, statistics.by_source) == (2, {})


@each_mode
def test_the_mode_and_its_time_are_those_of_the_breaker(form: Form, mode: str, monkeypatch: pytest.MonkeyPatch):
    clock = ManualClock(1000)
    for each in (module, health_module):
        monkeypatch.setattr(each, "time", monotonic(clock))
    store = form.breaking()
    health = store.outage.health
    _fail(health)
    clock.advance(100)  # before the limiter was made
    limiter = form.limiter("2/minute", store=store, on_outage=mode)
    assert limiter.statistics().mode == mode
    clock.advance(2)
    health.recovered()
    clock.advance(5)
    statistics = limiter.statistics()
    assert (statistics.mode, dict(statistics.seconds)) == ("store", {"store": 5, mode: 2})
    _fail(health)
    clock.advance(1)
    statistics = limiter.statistics()
    assert (statistics.mode, dict(statistics.seconds)) == (mode, {"store": 5, mode: 3})


def test_statistics_that_were_taken_do_not_change(form: Form):
    statistics = form.limiter("2/minute", store=form.failing()).statistics()
    with pytest.raises(TypeError):
        statistics.seconds["store"] = 5


def test_on_event_is_called_for_each_limiter_that_is_still_used(form: Form):
    store, kept, dropped = form.breaking(), [], []
    limiter = form.limiter("2/minute", store=store, on_event=kept.append)
    other = form.limiter("2/minute", store=store, on_event=dropped.append)
    del other
    gc.collect()
    _fail(store.outage.health)
    store.outage.health.lost_state()
    assert kept == [StoreEvent("down", "unreachable"), StoreEvent("state-lost")]
    assert (dropped, limiter.statistics().mode) == ([], "local")


def test_what_on_event_raises_is_logged_and_troubles_nobody(form: Form, caplog: pytest.LogCaptureFixture):
    store, told = form.breaking(), []

    def broken(event: StoreEvent) -> None:
        raise ZeroDivisionError

    async def awaited() -> None: ...

    limiters = [form.limiter("2/minute", store=store, on_event=each) for each in (broken, told.append)]
    limiters.append(form.limiter("2/minute", store=store, on_event=lambda _: awaited()))
    _fail(store.outage.health)
    assert len(told) == 1
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.getMessage() for record in errors] == ["on_event raised for down"] * 2
    assert {record.exc_info[0] for record in errors} == {ZeroDivisionError, InvalidPolicy}
    assert form.take(limiters[0], "a").source == "fallback"


def _fail(health) -> None:
    while not health.is_open:
        if health.failed(DOWN, health.failures, 0.5):
            health.report_down(DOWN)


# The parts of a store


def test_a_store_that_has_no_parts_or_something_else_of_that_name_gets_parts_for_all_its_limiters(form: Form):
    store = form.failing()
    store.outage = SimpleNamespace()
    one, other = (form.limiter("2/minute", store=store) for _ in range(2))
    assert [form.allow(limiter, "a") for limiter in (one, other, one)] == [True, True, False]


def test_a_store_that_cannot_be_hashed_gets_parts_for_each_limiter(form: Form):
    class Unhashable(form.failing):
        __hash__ = None

    store = Unhashable()
    for _ in range(2):
        limiter = form.limiter("2/minute", store=store)
        assert [form.allow(limiter, "a") for _ in range(3)] == [True, True, False]


def test_a_store_that_wraps_another_has_the_parts_of_that_one(form: Form):
    inner = form.breaking()

    class Wrapped(form.failing):
        @property
        def outage(self):
            return inner.outage

    assert form.allow(form.limiter("2/minute", store=Wrapped()), "a")
    assert inner.outage.local.owes
