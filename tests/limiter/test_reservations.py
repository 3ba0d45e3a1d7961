"""Reservations: the estimate is charged while the block runs, and what was used when it ends."""

from __future__ import annotations

import asyncio
import gc
import math
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

import servers
from limiter.reserving import Reserving, wait_until
from sluicegate import (
    AsyncLimiter,
    AsyncRedisStore,
    CalendarWindow,
    FixedWindow,
    InvalidCost,
    InvalidKey,
    InvalidPolicy,
    InvalidSpan,
    InvalidStore,
    Limiter,
    LimiterClosed,
    MemoryStore,
    RedisStore,
    ReservationError,
    SlidingWindow,
    TokenBucket,
)
from sluicegate.testing import ManualClock
from stores.conftest import harness  # noqa: F401 - a fixture
from stores.harness import Harness

POLICIES = [
    SlidingWindow(10, window=60),
    TokenBucket(10, window=60),
    FixedWindow(10, window=60),
    CalendarWindow(10, every="day"),
]
LLM = SlidingWindow(5, window=60, name="requests"), SlidingWindow(1000, window=60, name="tokens")

each_policy = pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.algorithm)


@pytest.fixture
def llm(harness: Harness) -> Reserving:  # noqa: F811
    return Reserving(harness, *LLM)


@pytest.fixture
def ten(harness: Harness) -> Reserving:  # noqa: F811
    return Reserving(harness, POLICIES[0])


class Failed(Exception): ...


# What is charged


@each_policy
def test_the_estimate_is_charged_while_the_block_runs_and_what_was_used_when_it_ends(
    harness: Harness,  # noqa: F811
    policy: Any,
):
    limiter = Reserving(harness, policy)
    for actual in (0, 2, 6, 9):
        key = f"used-{actual}"
        with limiter.reserve(key, 6) as r:
            assert r and r.allowed
            assert (r.decision.remaining, r.decision.source) == (4, "store")
            r.settle(actual)
            assert limiter.remaining(key) == (4,)
        assert limiter.remaining(key) == (10 - actual,)
        assert limiter.take(key, 10 - actual + 1).allowed is False


@each_policy
def test_what_was_used_beyond_the_limit_is_a_debt(harness: Harness, policy: Any):  # noqa: F811
    limiter = Reserving(harness, policy)
    with limiter.reserve("a", 1) as r:
        r.settle(25)
    denied = limiter.peek("a")
    assert (denied.allowed, denied.remaining) == (False, 0)
    harness.advance(denied.retry_after - 0.000001)
    assert not limiter.peek("a")
    harness.advance(0.000001)
    assert limiter.take("a")


def test_what_a_call_may_use_at_most_can_be_settled(ten: Reserving):
    with ten.reserve("a") as r:
        r.settle(10**11)
    assert ten.remaining() == (0,)


def test_the_last_note_counts(ten: Reserving):
    for notes, left in [([7, 2], 8), ([2, 7], 3), (["cancel", 3], 7), ([3, "cancel"], 10), ([9, 5], 5), ([], 5)]:
        with ten.reserve(str(notes), 5) as r:
            for note in notes:
                r.cancel() if note == "cancel" else r.settle(note)
        assert ten.remaining(str(notes)) == (left,)


@pytest.mark.parametrize("charge_when", ["always", "success", "failure"])
def test_without_a_note_the_estimate_stands_as_charge_when_says_and_a_note_is_always_sent(
    ten: Reserving, charge_when: Any
):
    for fails, noted in [(False, None), (True, None), (False, 2), (True, 2)]:
        key = f"{fails} {noted}"
        with suppress(Failed), ten.reserve(key, 5, charge_when=charge_when) as r:
            if noted is not None:
                r.settle(noted)
            if fails:
                raise Failed
        stands = charge_when == "always" or (charge_when == "failure") == fails
        assert ten.remaining(key) == (10 - (noted if noted is not None else 5 * stands),)


def test_what_the_block_raises_is_raised(ten: Reserving):
    error = Failed()
    with pytest.raises(Failed) as caught, ten.reserve("a", 5):
        raise error
    assert caught.value is error


def test_a_denied_reservation_runs_its_block_and_takes_nothing(ten: Reserving):
    ten.take("a", 8)
    ran = False
    with ten.reserve("a", 3) as r:
        ran = True
        assert not r
        assert (r.decision.allowed, r.decision.remaining, r.decision.retry_after) == (False, 2, 60.0)
        r.settle(1)
    assert ran
    assert ten.remaining() == (2,)
    with ten.reserve("a", 11) as r:
        assert r.decision.retry_after == math.inf
    assert ten.remaining() == (2,)


@each_policy
@pytest.mark.parametrize("actual", [0, 10])
def test_settling_after_the_window_is_over_changes_nothing(harness: Harness, policy: Any, actual: int):  # noqa: F811
    limiter = Reserving(harness, policy)
    with limiter.reserve("a", 5) as r:
        r.settle(actual)
        harness.advance(86400)
        limiter.take("a", 3)
    assert limiter.remaining() == (7,)


@each_policy
@pytest.mark.parametrize("actual", [0, 9])
def test_settling_what_was_forgotten_changes_nothing(harness: Harness, policy: Any, actual: int):  # noqa: F811
    limiter = Reserving(harness, policy)
    with limiter.reserve("a", 5) as r:
        r.settle(actual)
        limiter.forget("a")
        harness.advance(0.000001)  # a count on a server is known by the microsecond that it was made in
        limiter.take("a", 6)
    assert limiter.remaining() == (4,)


def test_the_window_of_what_is_left_begins_with_the_charge_and_not_with_its_settling(ten: Reserving, harness: Harness):  # noqa: F811
    with ten.reserve("a", 8) as r:
        harness.advance(50)
        r.settle(6)
    assert ten.peek("a", 5).retry_after == 10.0
    harness.advance(10)
    assert ten.remaining() == (10,)


def test_a_bucket_gives_back_no_unit_that_has_drained_already(harness: Harness):  # noqa: F811
    limiter = Reserving(harness, TokenBucket(10, window=60))
    with limiter.reserve("a", 10) as r:
        harness.advance(30)  # 5 units drain
        r.cancel()
    assert limiter.remaining() == (10,)
    with limiter.reserve("a", 4) as r:
        limiter.take("a", 6)
        harness.advance(12)  # 2 units drain
        r.cancel()
    assert limiter.remaining() == (4,)


@each_policy
def test_reservations_of_one_instant_are_settled_one_by_one(harness: Harness, policy: Any):  # noqa: F811
    limiter = Reserving(harness, policy)
    with limiter.reserve("a", 3) as first, limiter.reserve("a", 4) as second:
        first.cancel()
        second.settle(2)
        assert limiter.remaining() == (3,)
    assert limiter.remaining() == (8,)


def test_a_charge_that_comes_between_stays(ten: Reserving, harness: Harness):  # noqa: F811
    with ten.reserve("a", 4) as r:
        harness.advance(1)
        ten.take("a", 5)
        r.cancel()
    assert ten.remaining() == (5,)
    harness.advance(59.999999)
    assert ten.remaining() == (5,)
    harness.advance(0.000001)
    assert ten.remaining() == (10,)


def test_a_block_on_the_key_does_not_keep_units_from_coming_back(ten: Reserving):
    with ten.reserve("a", 4) as r:
        ten.block("a", 30)
        r.cancel()
    assert not ten.peek("a")
    ten.block("a", 0)
    assert ten.remaining() == (10,)


def test_a_key_is_counted_as_take_counts_it(harness: Harness):  # noqa: F811
    limiter = Reserving(harness, SlidingWindow(5, window=60, per="user"), SlidingWindow(9, window=60, shared=True))
    with limiter.reserve({"user": "alice"}, 3) as r:
        r.settle(1)
    assert limiter.remaining({"user": "alice"}) == (4, 8)
    assert limiter.remaining({"user": "bob"}) == (5, 8)
    with pytest.raises(InvalidKey), limiter.reserve("alice"):
        pass


# Several policies


@pytest.mark.parametrize("fails", [False, True], ids=["succeeds", "raises"])
def test_each_policy_is_settled_by_its_name_and_those_that_are_not_named_stay(llm: Reserving, fails: bool):
    for actual, left in [
        (None, (4, 400)),
        (40, (0, 960)),
        (0, (5, 1000)),
        ({"tokens": 350}, (4, 650)),
        ({"tokens": 900}, (4, 100)),
        ({"requests": 0, "tokens": 0}, (5, 1000)),
        ({"requests": 2}, (3, 400)),
        ({}, (4, 400)),
    ]:
        key = str(actual)
        with suppress(Failed), llm.reserve(key, {"tokens": 600}) as r:
            assert llm.remaining(key) == (4, 400)
            if actual is not None:
                r.settle(actual)
            if fails:
                raise Failed
        assert llm.remaining(key) == left


def test_one_policy_denies_for_all(llm: Reserving):
    with llm.reserve("a", {"tokens": 600}), llm.reserve("a", {"tokens": 600}) as second:
        assert second.decision.policy == "tokens"
        second.cancel()
    assert llm.remaining() == (4, 400)


def test_a_window_that_is_over_keeps_no_other_from_being_settled(harness: Harness):  # noqa: F811
    limiter = Reserving(harness, SlidingWindow(5, window=1, name="short"), SlidingWindow(100, window=60, name="long"))
    with limiter.reserve("a", 5) as r:
        harness.advance(1)
        limiter.take("a", {"short": 2, "long": 10})
        r.settle({"short": 0, "long": 1})
    assert limiter.remaining() == (3, 89)


# Bad input


NOT_USED: list[Any] = [-1, 10**11 + 1, True, False, 1.5, "3", None, {"tokens": -1}, {"tokens": True}, {"no": 1}, {1: 1}]


def test_what_cannot_have_been_used_is_refused_and_what_was_noted_before_stands(llm: Reserving):
    with llm.reserve("a", {"tokens": 600}) as r:
        r.settle({"tokens": 100})
        for actual in NOT_USED:
            with pytest.raises(InvalidCost):
                r.settle(actual)
    assert llm.remaining() == (4, 900)


def test_an_error_says_what_is_expected(llm: Reserving):
    with llm.reserve("a") as r:
        with pytest.raises(InvalidCost, match=r"^what was used must be a whole number from 0 to 100000000000, got -1$"):
            r.settle(-1)
        with pytest.raises(InvalidCost, match=r"^what was used of policy tokens must be .*, got 'x'$") as caught:
            r.settle({"tokens": "x"})
        assert (caught.value.cost, caught.value.policy) == ("x", "tokens")
        with pytest.raises(InvalidCost, match=r"named 'token': there is requests, tokens; did you mean tokens\?$"):
            r.settle({"token": 1})


def test_a_reservation_is_entered_once_and_settled_inside_its_block(ten: Reserving):
    reservation = ten.limiter.reserve("a", 5)
    for early in (
        reservation.cancel,
        reservation.__bool__,
        lambda: reservation.decision,
        lambda: reservation.settle(1),
    ):
        with pytest.raises(ReservationError, match=r"this reservation has not begun, "):
            early()
    assert reservation.lost is False
    assert ten.remaining() == (10,)
    with ten.entered(reservation):
        with pytest.raises(ReservationError, match="was entered before, nothing was taken"), ten.entered(reservation):
            pass
        assert ten.remaining() == (5,)
    for late in (reservation.cancel, lambda: reservation.settle(1)):
        with pytest.raises(ReservationError, match="this reservation has ended, nothing was noted"):
            late()
    with pytest.raises(ReservationError, match="was entered before"), ten.entered(reservation):
        pass
    assert ten.remaining() == (5,)
    assert reservation.allowed


def test_another_thread_settles_nothing(ten: Reserving):
    refused: list[ReservationError] = []

    def settle() -> None:
        with pytest.raises(ReservationError, match="belongs to another thread, nothing was noted") as caught:
            r.settle(1)
        refused.append(caught.value)

    with ten.reserve("a", 5) as r:
        thread = threading.Thread(target=settle)
        thread.start()
        thread.join()
        assert len(refused) == 1
    assert ten.remaining() == (5,)


def test_a_bad_estimate_is_refused_where_the_block_begins(ten: Reserving):
    for cost in (0, -1, True, 10**11 + 1, "5", {"nobody": 1}):
        with pytest.raises(InvalidCost), ten.reserve("a", cost):
            pytest.fail("the block ran")
    assert ten.remaining() == (10,)


@pytest.mark.parametrize("timeout", [-1, math.nan, math.inf, True, "5", 10**40], ids=str)
@pytest.mark.parametrize("kind", [Limiter, AsyncLimiter])
def test_a_bad_time_out_is_refused(kind: Any, timeout: Any):
    limiter = kind("10/minute")
    with pytest.raises(InvalidSpan, match="timeout must be None or a number of seconds"):
        limiter.reserve("a", wait=True, timeout=timeout)
    with pytest.raises(InvalidSpan):
        limiter.reserve("a", timeout=timeout)


@pytest.mark.parametrize("kind", [Limiter, AsyncLimiter])
def test_an_option_that_fits_nothing_is_refused(kind: Any):
    async def coroutine() -> None: ...

    class Awaited:
        async def __call__(self) -> None: ...

    limiter = kind("10/minute")
    with pytest.raises(InvalidSpan, match=r"^timeout=5 is for a wait: write wait=True as well$"):
        limiter.reserve("a", timeout=5)
    with pytest.raises(InvalidPolicy, match="charge_when must be one of 'always', 'success', 'failure', got 'never'"):
        limiter.reserve("a", charge_when="never")
    for on_lost in (5, coroutine, Awaited()):
        with pytest.raises(InvalidPolicy, match="on_lost must be a synchronous function without arguments, got"):
            limiter.reserve("a", on_lost=on_lost)
    assert limiter.statistics().allowed == 0


@pytest.mark.parametrize("kind", [Limiter, AsyncLimiter])
def test_a_policy_with_buckets_cannot_be_reserved(kind: Any):
    limiter = kind(SlidingWindow(10, window=60, buckets=6), "5/second")
    with pytest.raises(InvalidPolicy, match=r"needs exact entries, and policy sliding-window-60s has buckets=6"):
        limiter.reserve("a")


class Plain:
    """A store of somebody else's that cannot settle."""

    def decide(self, request): ...

    def forget(self, counters): ...

    def block(self, counters, span_us): ...

    def close(self): ...


def test_a_store_that_cannot_settle_is_refused():
    with pytest.raises(InvalidStore, match=r"must be a sluicegate.stores.ReservingStore to reserve, got Plain"):
        Limiter("10/minute", store=Plain()).reserve("a")


# Beside other features


def test_what_is_not_limited_is_not_charged_and_settles_nothing(harness: Harness):  # noqa: F811
    limiter = Reserving(harness, POLICIES[0], exempt={"root"})
    with limiter.reserve("root", 50) as r:
        assert r.decision.source == "bypass"
        r.settle(20)
    limiter.limiter.enabled = False
    with limiter.reserve("a", 5) as r:
        assert r
        limiter.limiter.enabled = True
        r.settle(20)
    assert limiter.remaining("root") == limiter.remaining("a") == (10,)


def test_the_limit_of_the_key_applies_and_a_limit_of_0_denies_without_a_charge(harness: Harness):  # noqa: F811
    limiter = Reserving(harness, POLICIES[0], limits={"a": 3, "zero": 0}.get)
    with limiter.reserve("a", 4) as r:
        assert not r
    with limiter.reserve("a", 3) as r:
        assert r
        r.settle(1)
    assert limiter.remaining("a") == (2,)
    with limiter.reserve("zero") as r:
        assert (bool(r), r.decision.retry_after) == (False, math.inf)
        r.settle(5)


def test_reservations_are_counted_as_decisions(ten: Reserving):
    for cost in (9, 1, 1):
        with ten.reserve("a", cost):
            pass
    statistics = ten.limiter.statistics()
    assert (statistics.allowed, statistics.denied, statistics.unsettled, statistics.leases_lost) == (2, 1, 0, 0)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_closed_limiter_reserves_nothing_and_a_block_that_runs_is_settled(asynchronous: bool):
    store = MemoryStore()
    form = Harness("memory", asynchronous=asynchronous)
    form.store = store
    limiter = Reserving(form, POLICIES[0])
    with limiter.reserve("a", 5) as r:
        limiter.run(limiter.limiter.aclose() if asynchronous else limiter.limiter.close())
        r.settle(2)
    with pytest.raises(LimiterClosed), limiter.reserve("a"):
        pass
    assert Limiter(POLICIES[0], store=store).peek("a").remaining == 8
    form.close()


def test_units_that_come_back_end_remembered_denials_at_once(server: servers.Server, prefix: str):
    with RedisStore.from_url(server.url, prefix=prefix, denial_ttl=60) as store:
        limiter = Limiter(POLICIES[0], store=store)
        with limiter.reserve("a", 10) as r:
            assert [limiter.take("a").source for _ in range(3)] == ["store", "denial-cache", "denial-cache"]
            assert not limiter.allow("a")
            with limiter.reserve("a") as other:
                assert (bool(other), other.decision.source) == (False, "denial-cache")
            r.settle(8)
        assert limiter.allow("a")
        taken = limiter.take("a")
        assert (taken.allowed, taken.source) == (True, "store")


def test_units_that_come_back_to_a_task_end_remembered_denials_at_once(server: servers.Server, prefix: str):
    async def main() -> None:
        async with AsyncRedisStore.from_url(server.url, prefix=prefix, denial_ttl=60) as store:
            limiter = AsyncLimiter(POLICIES[0], store=store)
            async with limiter.reserve("a", 10) as r:
                assert [(await limiter.take("a")).source for _ in range(2)] == ["store", "denial-cache"]
                r.settle(9)
            assert await limiter.allow("a")

    asyncio.run(main())


# Waiting for one's turn


def test_a_wait_that_cannot_be_met_is_not_begun_and_the_block_runs_without(ten: Reserving):
    ten.take("a", 10)
    for timeout in (0, 59.9):
        with ten.reserve("a", wait=True, timeout=timeout) as r:
            assert not r
            r.settle(5)
    with ten.reserve("b", 3, wait=True, timeout=0) as r:
        assert r
        r.settle(1)
    assert (ten.remaining("a"), ten.remaining("b")) == ((0,), (9,))


def test_a_thread_that_waits_begins_when_its_turn_comes_and_is_settled_like_others():
    clock = ManualClock()
    limiter = Limiter(POLICIES[0], store=MemoryStore(clock=clock))
    limiter.take("a", 10)
    began = threading.Event()

    def work() -> None:
        with limiter.reserve("a", 5, wait=True, timeout=60) as r:
            assert r
            began.set()
            r.settle(2)

    thread = threading.Thread(target=work)
    thread.start()
    wait_until(lambda: limiter.statistics().waiting == 1)
    clock.advance(59.999999)
    assert not began.is_set()
    clock.advance(0.000001)
    thread.join(60)
    assert began.is_set()
    assert limiter.peek("a").remaining == 8


@pytest.mark.parametrize("kind", ["memory", "server"])
def test_units_that_come_back_are_for_who_waits(server: servers.Server, prefix: str, kind: str):
    store = MemoryStore() if kind == "memory" else RedisStore.from_url(server.url, prefix=prefix)
    limiter = Limiter(SlidingWindow(10, window=3600), store=store)
    granted: list[bool] = []

    def work() -> None:
        with limiter.reserve("a", 5, wait=True) as r:
            granted.append(bool(r))

    with limiter.reserve("a", 10) as r:
        thread = threading.Thread(target=work)
        thread.start()
        wait_until(lambda: limiter.statistics().waiting == 1)
        r.settle(5)
    thread.join(60)
    assert granted == [True]
    assert limiter.peek("a").remaining == 0
    store.close()


@pytest.mark.parametrize("kind", ["memory", "server"])
def test_units_that_come_back_are_for_the_task_that_waits(server: servers.Server, prefix: str, kind: str):
    async def main() -> None:
        store: Any = MemoryStore() if kind == "memory" else AsyncRedisStore.from_url(server.url, prefix=prefix)
        limiter = AsyncLimiter(SlidingWindow(10, window=3600), store=store)

        async def work() -> bool:
            async with limiter.reserve("a", 5, wait=True) as r:
                return bool(r)

        async with limiter.reserve("a", 10) as r:
            task = asyncio.create_task(work())
            while limiter.statistics().waiting < 1:
                await asyncio.sleep(0.001)
            r.settle(5)
        async with asyncio.timeout(60):
            assert await task
        await store.aclose()

    asyncio.run(main())


# Failures only: parallel tries cannot slip through


class LogIns:
    """500 tries to log in, half of them with the right password; and how many wrong ones were tried at a time."""

    LIMIT = 3

    def __init__(self) -> None:
        self.trying = self.most = self.wrong = 0
        self._lock = threading.Lock()

    def begin(self, number: int) -> None:
        with self._lock:
            self.wrong += number % 2
            self.trying += number % 2
            self.most = max(self.most, self.trying)

    def end(self, number: int) -> None:
        with self._lock:
            self.trying -= number % 2
        if number % 2:
            raise Failed


@pytest.mark.usefixtures("hasty_threads")
def test_of_500_log_ins_by_threads_at_most_3_wrong_ones_are_tried_in_a_window():
    limiter = Limiter(SlidingWindow(LogIns.LIMIT, window=3600))
    log_ins = LogIns()
    start = threading.Barrier(20)

    def work(first: int) -> None:
        start.wait()
        for number in range(first, 500, 20):
            try:
                with limiter.reserve("alice", charge_when="failure") as r:
                    if r:
                        log_ins.begin(number // 20 + first)
                        log_ins.end(number // 20 + first)
            except Failed:
                pass

    threads = [threading.Thread(target=work, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert log_ins.most <= log_ins.wrong == LogIns.LIMIT
    assert limiter.peek("alice").remaining == 0


@pytest.mark.parametrize("at_once", [500, 10])
def test_of_500_log_ins_by_tasks_at_most_3_wrong_ones_are_tried_in_a_window(
    server: servers.Server, prefix: str, at_once: int
):
    async def main() -> None:
        store = AsyncRedisStore.from_url(server.url, prefix=prefix)
        limiter = AsyncLimiter(SlidingWindow(LogIns.LIMIT, window=3600), store=store)
        log_ins = LogIns()
        few = asyncio.Semaphore(at_once)

        async def log_in(number: int) -> None:
            async with few:
                try:
                    async with limiter.reserve("alice", charge_when="failure") as r:
                        if r:
                            log_ins.begin(number)
                            await asyncio.sleep(0)
                            log_ins.end(number)
                except Failed:
                    pass

        await asyncio.gather(*[log_in(number) for number in range(500)])
        assert log_ins.most <= log_ins.wrong <= LogIns.LIMIT
        # What right ones held is free again: so many wrong ones were tried as are counted now.
        assert (await limiter.peek("alice")).remaining == LogIns.LIMIT - log_ins.wrong
        assert log_ins.wrong > 0
        await store.aclose()

    asyncio.run(main())


# Ends that are not as planned


def test_a_task_that_is_cancelled_in_its_block_leaves_the_estimate_and_sends_what_it_noted(
    server: servers.Server, prefix: str
):
    async def main() -> None:
        store = AsyncRedisStore.from_url(server.url, prefix=prefix)
        limiter = AsyncLimiter(POLICIES[0], store=store)

        async def work(key: str, noted: int | None) -> None:
            async with limiter.reserve(key, 5) as r:
                if noted is not None:
                    r.settle(noted)
                inside.set()
                await asyncio.Event().wait()

        for key, noted in (("estimate", None), ("noted", 2)):
            inside = asyncio.Event()
            task = asyncio.create_task(work(key, noted))
            await inside.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert [(await limiter.peek(key)).remaining for key in ("estimate", "noted")] == [5, 8]
        await store.aclose()

    asyncio.run(main())


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("on_outage", ["closed", "raise"])
@pytest.mark.parametrize("answers", [True, False], ids=["the server answers", "it does not"])
def test_a_task_that_is_cancelled_while_it_leaves_sends_what_it_noted_all_the_same(
    server: servers.Server, answers: bool, on_outage: Any
):
    async def main(own: servers.Server) -> None:
        deadline = 60 if answers else 0.1
        store = AsyncRedisStore.from_url(own.url, timeout=60)
        limiter = AsyncLimiter(POLICIES[0], store=store, deadline=deadline, on_outage=on_outage)

        async def work() -> None:
            async with limiter.reserve("a", 5) as r:
                r.settle(2)
                inside.set()
                await asyncio.Event().wait()

        inside = asyncio.Event()
        task = asyncio.create_task(work())
        await inside.wait()
        own.freeze()
        before = asyncio.create_task(limiter.peek("b"))  # a call in flight: what is sent now waits for its reply
        await asyncio.sleep(0)
        for _ in range(2):
            task.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert limiter.statistics().unsettled == 0
        if answers:
            own.thaw()
        await asyncio.gather(before, return_exceptions=True)
        async with asyncio.timeout(60):
            while limiter._sending:
                await asyncio.sleep(0.001)
        assert limiter.statistics().unsettled == (not answers)
        if answers:
            assert (await limiter.peek("a")).remaining == 8
        own.thaw()
        await store.aclose()

    with servers.running(server.kind) as own:
        asyncio.run(main(own))


@pytest.mark.usefixtures("quiet")
def test_a_limiter_that_closes_its_store_sends_what_cancelled_tasks_noted_first(server: servers.Server):
    async def main(own: servers.Server) -> None:
        async with AsyncLimiter(POLICIES[0], store=own.url, deadline=60) as limiter:

            async def work() -> None:
                async with limiter.reserve("a", 5) as r:
                    r.settle(2)

            await limiter.peek("a")
            task = asyncio.create_task(work())
            while not limiter._sending:
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert limiter.statistics().unsettled == 0
        with RedisStore.from_url(own.url) as store:
            assert Limiter(POLICIES[0], store=store).peek("a").remaining == 8

    with servers.running(server.kind) as own:
        asyncio.run(main(own))


def test_settling_in_memory_starts_no_task():
    async def main() -> None:
        limiter = AsyncLimiter(POLICIES[0])
        made: list[Any] = []
        asyncio.get_running_loop().set_task_factory(lambda *args, **_: made.append(args))
        async with limiter.reserve("a", 5) as r:
            r.settle(2)
        asyncio.get_running_loop().set_task_factory(None)
        assert made == []
        assert (await limiter.peek("a")).remaining == 8

    asyncio.run(main())


def test_a_task_that_is_cancelled_while_it_enters_takes_nothing(server: servers.Server, prefix: str):
    async def main() -> None:
        store = AsyncRedisStore.from_url(server.url, prefix=prefix)
        limiter = AsyncLimiter(POLICIES[0], store=store)
        await limiter.peek("a")

        async def work() -> None:
            async with limiter.reserve("a", 5):
                pytest.fail("the block ran")

        for steps in range(3):
            task = asyncio.create_task(work())
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        while (await limiter.peek("a")).remaining < 10:
            await asyncio.sleep(0.001)
        await store.aclose()

    asyncio.run(asyncio.wait_for(main(), 60))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="for systems that fork")
def test_a_forked_child_that_leaves_the_block_settles_nothing(server: servers.Server, prefix: str):
    with RedisStore.from_url(server.url, prefix=prefix) as store:
        limiter = Limiter(POLICIES[0], store=store)
        with limiter.reserve("a", 5) as r:
            r.settle(2)
            child = os.fork()
            if child:
                assert os.waitpid(child, 0)[1] == 0
                assert limiter.peek("a").remaining == 5
        if not child:
            os._exit(0)
        assert limiter.peek("a").remaining == 8


@pytest.mark.usefixtures("quiet")
def test_a_loop_that_ends_while_a_block_runs_settles_it_and_closes_cleanly(server: servers.Server, prefix: str):
    async def main() -> None:
        async def work() -> None:
            async with AsyncRedisStore.from_url(server.url, prefix=prefix) as store:
                limiter = AsyncLimiter(POLICIES[0], store=store)
                async with limiter.reserve("a", 5) as r:
                    r.settle(2)
                    inside.set()
                    await asyncio.Event().wait()

        inside = asyncio.Event()
        tasks.append(asyncio.create_task(work()))
        await inside.wait()

    tasks: list[asyncio.Task[None]] = []
    asyncio.run(main())
    assert tasks[0].cancelled()
    with RedisStore.from_url(server.url, prefix=prefix) as store:
        assert Limiter(POLICIES[0], store=store).peek("a").remaining == 8


# Nothing is left behind


def reservations() -> int:
    gc.collect()
    return sum(type(each).__name__ in ("Reservation", "AsyncReservation") for each in gc.get_objects())


@pytest.fixture
def things() -> Iterator[None]:
    """Check that no reservation is left."""
    before = reservations()
    yield
    assert reservations() <= before


@pytest.mark.usefixtures("things")
def test_10000_reservations_of_threads_leave_nothing():
    store = MemoryStore()
    limiter = Limiter(SlidingWindow(10**6, window=3600), store=store)
    before = threading.active_count()
    for number in range(10_000):
        with limiter.reserve("a", 3) as r:
            r.settle(number % 2)
    assert threading.active_count() == before
    assert limiter._waiting.lines.waiting == 0
    assert limiter.peek("a").remaining == 10**6 - 5000
    assert len(store) == 1
    with limiter.reserve("b", 3) as r:
        r.cancel()
    limiter.forget("a")
    limiter.forget("b")


@pytest.mark.slow
@pytest.mark.usefixtures("things", "quiet")
def test_10000_reservations_of_tasks_leave_nothing(server: servers.Server, prefix: str):
    async def main() -> None:
        store = AsyncRedisStore.from_url(server.url, prefix=prefix)
        limiter = AsyncLimiter(SlidingWindow(10**6, window=3600), store=store)
        await limiter.peek("a")

        async def work(key: str) -> None:
            async with limiter.reserve(key, 2) as r:
                r.cancel()

        for _ in range(10):
            await asyncio.gather(*[work(str(number % 50)) for number in range(1000)])
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert limiter._waiting.lines.waiting == 0
        assert servers.counters(server, prefix) == []  # an empty log is no key
        await store.aclose()

    asyncio.run(main())
