"""Permits of a `Concurrency`: lent while a block runs, renewed meanwhile, and back after the ttl of a dead holder."""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Any
from weakref import ref

import pytest

import servers
from limiter.reserving import Reserving, renew_now, wait_until
from sluicegate import (
    AsyncLimiter,
    AsyncRedisStore,
    Concurrency,
    InvalidCost,
    InvalidPolicy,
    Limiter,
    MemoryStore,
    RedisStore,
    Reservation,
    SlidingWindow,
)
from sluicegate._limiter import renewing
from sluicegate.testing import ManualClock
from stores.conftest import harness  # noqa: F401 - a fixture
from stores.harness import Harness

TTL = 30
THREE = Concurrency(3, ttl=TTL)
BESIDE = Concurrency(2, ttl=TTL, name="jobs"), SlidingWindow(10, window=60, name="rate")


@pytest.fixture
def dead_holders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody renew a lease, as if all holders had died as soon as they had one."""
    for kind in (renewing.Renewing, renewing.AsyncRenewing):
        monkeypatch.setattr(kind, "add", lambda *_: None)


class Failed(Exception): ...


# What is held


def test_permits_are_held_while_the_block_runs_and_are_back_at_once(harness: Harness):  # noqa: F811
    limiter = Reserving(harness, THREE)
    with limiter.reserve("a", 2) as two:
        assert (bool(two), two.decision.remaining, two.lost) == (True, 1, False)
        with limiter.reserve("a"), limiter.reserve("a") as denied:
            assert not denied
            assert (denied.decision.policy, denied.decision.limit) == ("concurrency-30s", 3)
            assert 0 < denied.decision.retry_after <= TTL
        assert limiter.remaining() == (1,)
    assert limiter.remaining() == (3,)
    with pytest.raises(Failed), limiter.reserve("a", 3):
        raise Failed
    assert limiter.remaining() == (3,)
    with limiter.reserve("a", 4) as never:
        assert not never
    assert limiter.remaining("b") == (3,)


def test_a_denied_reservation_gives_no_permit_of_others_back(harness: Harness):  # noqa: F811
    limiter = Reserving(harness, Concurrency(1, ttl=TTL))
    with limiter.reserve("a"):
        with limiter.reserve("a") as denied:
            denied.cancel()
        assert limiter.remaining() == (0,)


def test_permits_are_held_for_each_key_and_for_all_together(harness: Harness):  # noqa: F811
    limiter = Reserving(harness, Concurrency(2, ttl=TTL, per="user"), Concurrency(3, ttl=TTL, shared=True))
    alice, bob = {"user": "alice"}, {"user": "bob"}
    with limiter.reserve(alice), limiter.reserve(alice), limiter.reserve(alice) as third, limiter.reserve(bob):
        assert third.decision.policy == "concurrency-30s-per-user"
        with limiter.reserve(bob) as fifth:
            assert fifth.decision.policy == "concurrency-30s-shared"
    assert limiter.remaining(alice) == limiter.remaining(bob) == (2, 3)


@pytest.mark.usefixtures("dead_holders")
def test_the_permits_of_a_dead_holder_are_back_after_the_ttl_and_not_before(harness: Harness):  # noqa: F811
    limiter = Reserving(harness, THREE)
    limiter.run(enter(limiter.limiter.reserve("a", 2)))
    harness.advance(1)
    limiter.run(enter(limiter.limiter.reserve("a", 1)))
    assert limiter.peek("a", 2).retry_after == 29.0
    assert limiter.peek("a", 3).retry_after == 30.0
    harness.advance(28.999999)
    assert limiter.remaining() == (0,)
    harness.advance(0.000001)
    assert limiter.remaining() == (2,)
    harness.advance(1)
    assert limiter.remaining() == (3,)


@pytest.mark.usefixtures("dead_holders")
def test_a_holder_that_ends_late_releases_nobody_elses_permit(harness: Harness):  # noqa: F811
    limiter = Reserving(harness, Concurrency(1, ttl=TTL))
    with limiter.reserve("a"):
        harness.advance(TTL)
        limiter.run(enter(limiter.limiter.reserve("a")))
        assert limiter.remaining() == (0,)
    assert limiter.remaining() == (0,)


def test_what_is_forgotten_is_free_and_its_old_holder_releases_nothing(harness: Harness):  # noqa: F811
    limiter = Reserving(harness, Concurrency(1, ttl=TTL))
    with limiter.reserve("a") as first:
        limiter.forget("a")
        with limiter.reserve("a") as second:
            assert first and second
            limiter.run(leave(first))
            assert limiter.remaining() == (0,)
        assert limiter.remaining() == (1,)


def test_a_block_denies_new_holders_and_keeps_no_permit(harness: Harness):  # noqa: F811
    limiter = Reserving(harness, THREE)
    with limiter.reserve("a"):
        limiter.block("a", 10)
        with limiter.reserve("a") as denied:
            assert not denied
            assert denied.decision.retry_after == 10.0
    with limiter.reserve("b") as other:
        assert other
    limiter.block("a", 0)
    assert limiter.remaining() == (3,)


# Beside rates


def test_a_denial_by_permits_charges_no_rate_and_one_by_a_rate_lends_no_permit(harness: Harness):  # noqa: F811
    limiter = Reserving(harness, *BESIDE)
    with limiter.reserve("a", {"jobs": 2, "rate": 3}), limiter.reserve("a") as by_jobs:
        assert (bool(by_jobs), by_jobs.decision.policy) == (False, "jobs")
        assert limiter.remaining() == (0, 7)
    assert limiter.remaining() == (2, 7)
    with limiter.reserve("a", {"rate": 8}) as by_rate:
        assert (bool(by_rate), by_rate.decision.policy) == (False, "rate")
        assert limiter.remaining() == (2, 7)


def test_settling_is_for_the_rates_and_permits_are_released_when_the_block_ends(harness: Harness):  # noqa: F811
    limiter = Reserving(harness, *BESIDE)
    for note, left in [(None, 5), (2, 8), (0, 10), (7, 3), ({"rate": 1}, 9)]:
        key = str(note)
        with limiter.reserve(key, {"rate": 5}) as r:
            if note is not None:
                r.settle(note)
            assert limiter.remaining(key) == (1, 5)
        assert limiter.remaining(key) == (2, left)
    with limiter.reserve("a") as r:
        for name in ("jobs", "job"):
            with pytest.raises(InvalidCost, match=f"no policy that can be settled is named '{name}': there is rate"):
                r.settle({name: 0})
    with Reserving(harness, THREE).reserve("a") as r:
        with pytest.raises(InvalidCost, match="there is none"):
            r.settle({"rate": 0})
        r.settle(5)
        r.cancel()
        assert Reserving(harness, THREE).remaining() == (2,)


# Through other verbs


def test_permits_are_lent_through_reserve_alone(harness: Harness):  # noqa: F811
    limiter = Reserving(harness, *BESIDE)
    for verb in ("allow", "take", "wait", "charge"):
        with pytest.raises(InvalidPolicy, match=r"policy jobs lends permits, which .* write with limiter\.reserve\("):
            limiter.run(getattr(limiter.limiter, verb)("a"))
    assert limiter.remaining() == (2, 10)
    assert limiter.limiter.statistics().allowed == 0
    limiter.forget("a")
    limiter.block("a", 5)
    assert not limiter.peek("a")


@pytest.mark.parametrize("ttl", [0, -1, float("nan"), float("inf"), True, "30", None, 10**40], ids=str)
def test_a_bad_ttl_is_refused(ttl: Any):
    with pytest.raises(InvalidPolicy, match="ttl must be a number of seconds"):
        Concurrency(3, ttl=ttl)


def test_a_reservation_that_waits_begins_when_another_one_ends_here():
    limiter = Limiter(Concurrency(1, ttl=TTL))
    began = threading.Event()

    def work() -> None:
        with limiter.reserve("a", wait=True) as r:
            assert r
            began.set()

    thread = threading.Thread(target=work)
    with limiter.reserve("a"):
        thread.start()
        wait_until(lambda: limiter.statistics().waiting == 1)
        assert not began.is_set()
    thread.join(60)
    assert began.is_set()


def test_a_reservation_that_waits_begins_when_another_one_ends_elsewhere(server: servers.Server, prefix: str):
    began = threading.Event()

    def work() -> None:
        with here.reserve("a", wait=True) as r:
            assert r
            began.set()

    thread = threading.Thread(target=work)
    stores = [RedisStore.from_url(server.url, prefix=prefix) for _ in range(2)]
    here, there = (Limiter(Concurrency(1, ttl=TTL), store=store) for store in stores)
    with there.reserve("a"):
        thread.start()
        wait_until(lambda: here.statistics().waiting == 1)
        assert not began.is_set()
    thread.join(60)
    assert began.is_set()
    for store in stores:
        store.close()


# Renewing, by a clock that is moved by hand


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def jobs(clock: ManualClock) -> Limiter:
    return Limiter(THREE, store=MemoryStore(clock=clock))


def test_a_thread_renews_what_is_held_for_as_long_as_it_is(jobs: Limiter, clock: ManualClock):
    with jobs.reserve("a") as first, jobs.reserve("a") as second:
        for _ in range(20):
            clock.advance(TTL / 3)
            wait_until(lambda: jobs.peek("a").reset_after == TTL)
        assert not first.lost and not second.lost
        assert jobs.peek("a").remaining == 1
    assert jobs.peek("a").remaining == 3


def test_a_task_renews_what_is_held_for_as_long_as_it_is(clock: ManualClock):
    async def main() -> None:
        jobs = AsyncLimiter(THREE, store=MemoryStore(clock=clock))
        async with jobs.reserve("a") as first, jobs.reserve("a") as second:
            for _ in range(20):
                clock.advance(TTL / 3)
                async with asyncio.timeout(60):
                    while (await jobs.peek("a")).reset_after < TTL:
                        await asyncio.sleep(0)
            assert not first.lost and not second.lost
            assert (await jobs.peek("a")).remaining == 1
        await asyncio.sleep(0)  # the task that renews sees that nothing is left
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


def test_who_could_not_renew_in_time_has_lost_its_permits_and_is_told_once(jobs: Limiter, clock: ManualClock):
    told: list[int] = []
    with jobs.reserve("a", 3, on_lost=lambda: told.append(threading.get_ident())) as r:
        clock.advance(TTL - 0.000001)
        assert not r.lost
        wait_until(lambda: jobs.peek("a").reset_after == TTL)
        clock.advance(TTL)
        assert r.lost
        wait_until(lambda: told)
        with jobs.reserve("a", 3) as other:
            assert other
            for _ in range(6):
                clock.advance(TTL / 3)
                wait_until(lambda: jobs.peek("a").reset_after == TTL)
            assert (r.lost, other.lost) == (True, False)
            assert jobs.statistics().leases_lost == 1
    assert len(told) == 1
    assert told[0] != threading.get_ident()
    assert r.lost
    assert jobs.peek("a").remaining == 3


def test_a_loss_that_only_the_end_of_the_block_finds_is_counted(
    jobs: Limiter, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(renewing.Renewing, "_run", lambda _: None)
    for seconds, lost in [(TTL - 1, 0), (TTL, 1)]:
        with jobs.reserve("a") as r:
            clock.advance(seconds)
        assert r.lost == bool(lost)
        assert jobs.statistics().leases_lost == lost


def test_a_task_is_told_in_its_loop(clock: ManualClock):
    async def main() -> None:
        jobs = AsyncLimiter(THREE, store=MemoryStore(clock=clock))
        told: list[object] = []
        async with jobs.reserve("a", on_lost=lambda: told.append(asyncio.get_running_loop())) as r:
            clock.advance(TTL)
            assert r.lost
            async with asyncio.timeout(60):
                while not told:
                    await asyncio.sleep(0)
            clock.advance(TTL)
            await asyncio.sleep(0.01)
        assert told == [asyncio.get_running_loop()]
        assert jobs.statistics().leases_lost == 1

    asyncio.run(main())


def test_what_on_lost_raises_is_logged_and_keeps_nobody_else_from_being_renewed(
    jobs: Limiter, clock: ManualClock, caplog: pytest.LogCaptureFixture
):
    told: list[int] = []

    def fail() -> None:
        told.append(1)
        raise Failed

    with jobs.reserve("a", on_lost=fail) as lost:
        clock.advance(TTL)
        wait_until(lambda: caplog.records)
        with jobs.reserve("b") as other:
            for _ in range(6):
                clock.advance(TTL / 3)
                wait_until(lambda: jobs.peek("b").reset_after == TTL)
            assert (lost.lost, other.lost) == (True, False)
    assert told == [1]
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [(logging.ERROR, "on_lost raised")]


def test_a_slow_on_lost_keeps_nobody_else_from_being_renewed(jobs: Limiter, clock: ManualClock):
    told, goes_on = threading.Event(), threading.Event()

    def wait() -> None:
        told.set()
        goes_on.wait(60)

    with jobs.reserve("a", on_lost=wait), jobs.reserve("b") as other:
        jobs.forget("a")
        for _ in range(6):
            clock.advance(TTL / 3)
            wait_until(lambda: jobs.peek("b").reset_after == TTL)
        assert told.wait(60)
        assert not other.lost
        goes_on.set()


def test_on_lost_is_called_where_leases_are_renewed_if_there_is_no_thread_left_for_it(
    jobs: Limiter, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
):
    told: list[str] = []
    with jobs.reserve("a", on_lost=lambda: told.append(threading.current_thread().name)):
        monkeypatch.setattr(threading.Thread, "start", no_thread_left)
        clock.advance(TTL)
        wait_until(lambda: told)
    assert told == ["sluicegate-renewing"]


def no_thread_left(*_: object) -> None:
    raise RuntimeError("can't start new thread")


def test_permits_that_no_thread_could_renew_are_given_back_and_the_block_does_not_run(
    harness: Harness,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
):
    limiter = Reserving(harness, *BESIDE)
    reservation = limiter.limiter.reserve("a", {"jobs": 2, "rate": 3})
    with monkeypatch.context() as patched:
        patched.setattr(renewing, "Thread", NoThread)
        patched.setattr(renewing.AsyncRenewing, "_start", no_thread_left)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            limiter.run(enter(reservation))
    assert limiter.remaining() == (2, 10)
    assert len(limiter.limiter._renewing._held) == 0
    with limiter.reserve("a") as r:
        assert r
    assert limiter.remaining() == (2, 9)


class NoThread(threading.Thread):
    start = no_thread_left


class Odd(MemoryStore):
    """A store that may fail to renew as no store should."""

    fails: str | None = None

    def settle(self, settlements: Any, within: float | None = None) -> list[bool]:
        if self.fails == "raises":
            raise Failed
        return [] if self.fails else super().settle(settlements)


@pytest.mark.parametrize("fails", ["raises", "answers too few"])
@pytest.mark.parametrize("kind", [Limiter, AsyncLimiter])
def test_whatever_a_store_raises_is_logged_and_it_is_tried_again(
    kind: Any, fails: str, clock: ManualClock, caplog: pytest.LogCaptureFixture
):
    store, told = Odd(clock=clock), list[int]()
    watch = Limiter(THREE, store=store)

    async def main() -> None:
        limiter = kind(THREE, store=store)
        reservation = limiter.reserve("a", on_lost=lambda: told.append(1))
        await maybe(enter(reservation))
        store.fails = fails
        clock.advance(TTL / 3)
        await happens(lambda: caplog.records)
        store.fails = None
        for _ in range(6):
            clock.advance(TTL / 3)
            await happens(lambda: watch.peek("a").reset_after == TTL)
        assert not reservation.lost
        await maybe(leave(reservation))

    asyncio.run(main())
    assert told == []
    assert caplog.records[0].getMessage() == "the store failed to renew leases"


@pytest.mark.usefixtures("quiet")
def test_a_program_that_cancels_all_its_tasks_keeps_its_permits(clock: ManualClock):
    async def main() -> None:
        jobs = AsyncLimiter(THREE, store=MemoryStore(clock=clock))
        watch = Limiter(THREE, store=jobs._store.store)
        async with jobs.reserve("a") as r:
            for _ in range(6):
                clock.advance(TTL / 3)
                for task in asyncio.all_tasks() - {asyncio.current_task()}:
                    task.cancel()
                await happens(lambda: watch.peek("a").reset_after == TTL)
            assert not r.lost

    asyncio.run(main())


async def happens(condition: Callable[[], object]) -> None:
    """Wait for what another thread or task does."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)


async def maybe(result: Any) -> None:
    """Await what is to be awaited."""
    if inspect.isawaitable(result):
        await result


def test_who_has_ended_its_block_is_told_nothing(jobs: Limiter, clock: ManualClock):
    told: list[int] = []
    with jobs.reserve("a", on_lost=lambda: told.append(1)) as r:
        pass
    with jobs.reserve("b", on_lost=lambda: told.append(2)):
        clock.advance(2 * TTL)
        wait_until(lambda: told)
    assert told == [2]
    assert not r.lost


def test_a_reservation_that_was_dropped_is_not_renewed_and_keeps_no_limiter(clock: ManualClock):
    store = MemoryStore(clock=clock)
    left = ref(entered(store, clock))
    gc.collect()
    assert left() is None
    clock.advance(TTL)
    assert Limiter(THREE, store=store).peek("a").remaining == 3


def entered(store: MemoryStore, clock: ManualClock) -> Limiter:
    """Enter a block that never ends, and let it be renewed once."""
    jobs = Limiter(THREE, store=store)
    jobs.reserve("a").__enter__()
    dropped = jobs.reserve("a")
    dropped.__enter__()
    clock.advance(TTL / 3)
    wait_until(lambda: jobs.peek("a").reset_after == TTL)
    return jobs


def test_a_block_that_runs_keeps_its_limiter_and_its_permits(clock: ManualClock):
    store = MemoryStore(clock=clock)
    with Limiter(THREE, store=store).reserve("a"):
        gc.collect()
        other = Limiter(THREE, store=store)
        for _ in range(4):
            clock.advance(TTL / 3)
            wait_until(lambda: other.peek("a").reset_after == TTL)
        assert other.peek("a").remaining == 2
    assert other.peek("a").remaining == 3


# Renewing, on a server


@pytest.mark.parametrize("count", [1, 300])
def test_leases_on_a_server_are_renewed_together_in_calls_of_a_bounded_size(
    server: servers.Server, prefix: str, count: int, monkeypatch: pytest.MonkeyPatch
):
    sizes: list[int] = []
    settle = RedisStore.settle

    def counted(self: RedisStore, settlements: Any, within: float | None = None) -> list[bool]:
        sizes.append(len(settlements))
        return settle(self, settlements, within)

    with RedisStore.from_url(server.url, prefix=prefix) as store:
        limiter = Limiter(Concurrency(count, ttl=3600), store=store)
        held = [limiter.reserve("a") for _ in range(count)]
        for each in held:
            each.__enter__()
        before = dict(leases(server, prefix))
        assert len(before) == count
        with monkeypatch.context() as patched:
            patched.setattr(RedisStore, "settle", counted)
            renew_now(limiter)
            wait_until(lambda: all(ends > before[member] for member, ends in leases(server, prefix)))
        assert sum(sizes) == count
        assert max(sizes) <= 128
        assert not any(each.lost for each in held)
        for each in held:
            each.__exit__(None, None, None)
        assert servers.counters(server, prefix) == []


def test_leases_of_tasks_are_renewed_on_a_server(server: servers.Server, prefix: str):
    async def main() -> None:
        store = AsyncRedisStore.from_url(server.url, prefix=prefix)
        limiter = AsyncLimiter(Concurrency(300, ttl=3600), store=store)
        held = [limiter.reserve("a") for _ in range(300)]
        await asyncio.gather(*[each.__aenter__() for each in held])
        before = dict(leases(server, prefix))
        renew_now(limiter)
        async with asyncio.timeout(60):
            while not all(ends > before[member] for member, ends in leases(server, prefix)):
                await asyncio.sleep(0.001)
        assert not any(each.lost for each in held)
        await asyncio.gather(*[each.__aexit__(None, None, None) for each in held])
        assert servers.counters(server, prefix) == []
        await store.aclose()

    asyncio.run(main())


def test_who_renews_a_lease_that_the_server_has_not_any_more_has_lost_it(server: servers.Server, prefix: str):
    told: list[int] = []
    with RedisStore.from_url(server.url, prefix=prefix) as store:
        limiter = Limiter(Concurrency(2, ttl=3600, name="jobs"), SlidingWindow(9, window=60, name="rate"), store=store)
        with (
            limiter.reserve("a", {"rate": 4}, on_lost=lambda: told.append(1)) as r,
            limiter.reserve("b", on_lost=lambda: told.append(2)) as other,
        ):
            limiter.forget("a")
            assert not r.lost
            renew_now(limiter)
            wait_until(lambda: told)
            renew_now(limiter)
            assert (r.lost, other.lost) == (True, False)
            assert limiter.peek("a").decisions[0].remaining == 2
        assert told == [1]
        assert limiter.statistics().leases_lost == 1
        assert [limiter.peek(key).decisions[0].remaining for key in ("a", "b")] == [2, 2]


def test_a_blocked_key_keeps_its_leases_renewed(server: servers.Server, prefix: str):
    with RedisStore.from_url(server.url, prefix=prefix) as store:
        limiter = Limiter(Concurrency(2, ttl=3600), store=store)
        with limiter.reserve("a") as r:
            (before,) = leases(server, prefix)
            limiter.block("a", 60)
            renew_now(limiter)
            wait_until(lambda: leases(server, prefix)[0][1] > before[1])
            assert not r.lost
        limiter.block("a", 0)
        assert limiter.peek("a").remaining == 2


@pytest.mark.slow
@pytest.mark.mostly_waits
def test_a_lease_is_held_for_many_times_its_ttl_by_a_thread(server: servers.Server, prefix: str):
    with RedisStore.from_url(server.url, prefix=prefix) as store:
        limiter = Limiter(Concurrency(1, ttl=1.5), store=store)
        with limiter.reserve("a") as r:
            for _ in range(100):
                threading.Event().wait(0.06)
                # Only a pause of the whole process can have lost it, and then it says so.
                free = limiter.peek("a").remaining
                assert free == 0 or r.lost
                if r.lost:
                    break
        assert limiter.peek("a").remaining == 1


@pytest.mark.slow
@pytest.mark.mostly_waits
def test_a_lease_is_held_for_many_times_its_ttl_by_a_task(server: servers.Server, prefix: str):
    async def main() -> None:
        store = AsyncRedisStore.from_url(server.url, prefix=prefix)
        limiter = AsyncLimiter(Concurrency(1, ttl=1.5), store=store)
        async with limiter.reserve("a") as r:
            for _ in range(100):
                await asyncio.sleep(0.06)
                free = (await limiter.peek("a")).remaining
                assert free == 0 or r.lost
                if r.lost:
                    break
        assert (await limiter.peek("a")).remaining == 1
        await store.aclose()

    asyncio.run(main())


# Nothing is left behind


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the thread that renews stay for a moment only."""
    monkeypatch.setattr(renewing, "IDLE", 0.001)


@pytest.mark.usefixtures("impatient")
def test_10000_leases_of_threads_leave_no_thread_and_no_lease():
    store = MemoryStore()
    limiter = Limiter(THREE, store=store)
    for _ in range(10_000):
        with limiter.reserve("a", 2) as r:
            assert r
    assert len(limiter._renewing._held) == 0
    assert limiter.peek("a").remaining == 3
    assert len(store) == 1
    wait_until(lambda: limiter._renewing._thread is None)


@pytest.mark.usefixtures("impatient", "hasty_threads")
def test_a_thread_that_ends_for_want_of_leases_misses_none_that_begins():
    clock = ManualClock()
    limiter = Limiter(THREE, store=MemoryStore(clock=clock))
    for number in range(50):
        if number % 2:
            threading.Event().wait(0.001)
        with limiter.reserve("a"):
            clock.advance(TTL / 2)
            wait_until(lambda: limiter.peek("a").reset_after == TTL)
    wait_until(lambda: limiter._renewing._thread is None)


@pytest.mark.usefixtures("quiet")
def test_2000_leases_of_tasks_leave_no_task_and_no_lease(server: servers.Server, prefix: str):
    async def main() -> None:
        store = AsyncRedisStore.from_url(server.url, prefix=prefix)
        limiter = AsyncLimiter(Concurrency(1000, ttl=TTL), store=store)
        await limiter.peek("a")

        async def work() -> None:
            async with limiter.reserve("a") as r:
                assert r

        for _ in range(4):
            await asyncio.gather(*[work() for _ in range(500)])
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert len(limiter._renewing._held) == 0
        assert servers.counters(server, prefix) == []
        await store.aclose()

    asyncio.run(main())


@pytest.mark.usefixtures("quiet")
def test_a_limiter_for_tasks_renews_on_the_next_loop_as_well(clock: ManualClock):
    jobs = AsyncLimiter(THREE, store=MemoryStore(clock=clock))
    left = jobs.reserve("a")

    async def enter_and_end() -> None:
        await left.__aenter__()

    async def go_on() -> None:
        async with jobs.reserve("b") as r:
            for _ in range(4):
                clock.advance(TTL / 3)
                async with asyncio.timeout(60):
                    while (await jobs.peek("b")).reset_after < TTL:
                        await asyncio.sleep(0)
            assert not r.lost
        await left.__aexit__(None, None, None)
        assert (await jobs.peek("a")).remaining == 3

    asyncio.run(enter_and_end())
    gc.collect()
    asyncio.run(go_on())


@pytest.mark.usefixtures("quiet")
def test_leases_of_two_loops_at_once_are_renewed(clock: ManualClock):
    jobs = AsyncLimiter(THREE, store=MemoryStore(clock=clock))
    watch = Limiter(THREE, store=jobs._store.store)
    inside, ended = threading.Semaphore(0), [threading.Event(), threading.Event()]
    lost: list[bool] = []
    held: list[Any] = []
    now = jobs._waiting.timing.now

    def work(number: int) -> None:
        async def main() -> None:
            async with jobs.reserve("a") as r:
                held.append(r)
                inside.release()
                while not ended[number].is_set():
                    await asyncio.sleep(0.001)
                lost.append(r.lost)
                held.remove(r)

        asyncio.run(main())

    def renew(times: int) -> None:
        for _ in range(times):
            clock.advance(TTL / 3)
            # Each of them, and not the one that the store shows: a loop may be slow, but must not miss three turns.
            wait_until(lambda: all(each._held.renew_at > now() + TTL / 6 for each in held))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
        inside.acquire()
    renew(4)
    for end, thread, left in zip(ended[::-1], threads[::-1], (2, 3), strict=True):
        end.set()
        thread.join()
        assert watch.peek("a").remaining == left
        renew(4 if left == 2 else 0)
    assert lost == [False, False]


def in_two_loops(main: Callable[[int], Any]) -> None:
    """Run a coroutine in each of two loops at once."""
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            asyncio.run(main(number))
        except BaseException as failure:  # noqa: BLE001 - it is shown below
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


@pytest.mark.usefixtures("quiet")
def test_two_loops_that_take_turns_have_one_task_each(clock: ManualClock):
    jobs = AsyncLimiter(Concurrency(100, ttl=TTL), store=MemoryStore(clock=clock))
    turns = threading.Barrier(2, timeout=60)
    tasks: list[int] = []

    async def main(number: int) -> None:
        held = []
        for turn in range(20):
            turns.wait()
            if turn % 2 == number:
                held.append(jobs.reserve("a"))
                await enter(held[-1])
            await asyncio.sleep(0)
        tasks.append(len(asyncio.all_tasks()) - 1)
        turns.wait()
        for each in held:
            await leave(each)

    in_two_loops(main)
    assert tasks == [1, 1]
    assert len(jobs._renewing._held) == len(jobs._renewing._workers) == 0


@pytest.mark.usefixtures("quiet")
def test_each_of_two_loops_is_told_of_its_own_loss(clock: ManualClock):
    jobs = AsyncLimiter(THREE, store=MemoryStore(clock=clock))
    both = threading.Barrier(2, timeout=60)
    told: list[bool] = []

    async def main(number: int) -> None:
        loop, here = asyncio.get_running_loop(), asyncio.Event()

        def lost() -> None:
            told.append(asyncio.get_running_loop() is loop)
            here.set()

        async with jobs.reserve("a", on_lost=lost):
            await asyncio.sleep(0)
            both.wait()
            if number == 0:
                clock.advance(TTL)
            async with asyncio.timeout(60):
                await here.wait()

    in_two_loops(main)
    assert told == [True, True]


@pytest.mark.usefixtures("quiet", "hasty_threads")
def test_two_loops_that_enter_and_leave_at_once_do_not_meet():
    jobs = AsyncLimiter(Concurrency(1000, ttl=0.03))

    async def work() -> None:
        async with jobs.reserve("a") as r:
            assert r
            await asyncio.sleep(0.005)

    async def main(_: int) -> None:
        for _ in range(10):
            await asyncio.gather(*[work() for _ in range(200)])

    in_two_loops(main)
    assert len(jobs._renewing._held) == 0
    assert Limiter(Concurrency(1000, ttl=0.03), store=jobs._store.store).peek("a").remaining == 1000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="for systems that fork")
def test_a_forked_child_neither_renews_nor_releases_what_its_parent_holds(server: servers.Server, prefix: str):
    with RedisStore.from_url(server.url, prefix=prefix) as store:
        limiter = Limiter(Concurrency(2, ttl=3600), store=store)
        with limiter.reserve("a") as r:
            child = os.fork()
            if child:
                assert os.waitpid(child, 0)[1] == 0
                assert limiter.peek("a").remaining == 1
                renew_now(limiter)
        if not child:
            ok = len(limiter._renewing._held) == 0
            with limiter.reserve("b") as own:
                ok = ok and bool(own) and len(limiter._renewing._held) == 1
            os._exit(0 if ok else 1)
        assert not r.lost
        assert [limiter.peek(key).remaining for key in ("a", "b")] == [2, 2]


def enter(reservation: Any) -> Any:
    """Enter a block that never ends."""
    return reservation.__enter__() if isinstance(reservation, Reservation) else reservation.__aenter__()


def leave(reservation: Any) -> Any:
    end = reservation.__exit__ if isinstance(reservation, Reservation) else reservation.__aexit__
    return end(None, None, None)


def leases(server: servers.Server, prefix: str) -> list[tuple[bytes, float]]:
    """List the leases on a server, and when each ends."""
    (key,) = servers.counters(server, prefix)
    return [(member, ends) for member, ends in server.client.zrange(key, 0, -1, withscores=True) if ends > 0]


def test_a_wait_that_was_longer_than_the_ttl_holds_its_permits_from_its_turn_on():
    clock = ManualClock()
    store = MemoryStore(clock=clock)
    limiter = Limiter(Concurrency(1, ttl=10), store=store, deadline=30)
    other = Limiter(Concurrency(1, ttl=10), store=store, deadline=30)
    seen: list[bool] = []

    def wait() -> None:
        with limiter.reserve("job", wait=True) as turn:
            seen.append(turn.lost)

    with other.reserve("job"):
        thread = threading.Thread(target=wait)
        thread.start()
        while not limiter.statistics().waiting:
            time.sleep(0.001)
        for _ in range(5):
            clock.advance(3)
            time.sleep(0.01)
    while thread.is_alive():
        clock.advance(0.1)
        thread.join(0.01)
    assert seen == [False]
