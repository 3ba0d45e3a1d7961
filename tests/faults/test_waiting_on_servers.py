"""`wait` on a server: how many calls it takes, in which order callers are served, and what is given back."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from itertools import accumulate, chain
from pathlib import Path
from typing import Any

import pytest

import servers
from faults.callers import until, until_awaited
from faults.cuts import Cuts
from sluicegate import AsyncLimiter, AsyncRedisStore, Limiter, RedisStore, SlidingWindow, StoreUnavailable

WORKER = Path(__file__).with_name("waiting_worker.py")
POLICY = SlidingWindow(20, window=0.1, name="storm")
Tasks = Callable[[AsyncLimiter], Any]


def with_tasks(url: str, prefix: str, use: Tasks, *policies: Any) -> Any:
    """Let tasks use a limiter, and return what they return."""

    async def run() -> Any:
        # Denials are not remembered: each look at the server is a call that is counted.
        async with AsyncRedisStore.from_url(url, prefix=prefix, timeout=30, denial_ttl=0) as store:
            return await use(AsyncLimiter(*(policies or (POLICY,)), store=store))

    return asyncio.run(run())


def stamp(turn: Any) -> int:
    """Return when a turn was entered, by the server's clock, microseconds."""
    return int(turn.answered[1].marks[0].split()[1])


def most_in_a_window(stamps: Sequence[tuple[int, int]], window_us: int) -> int:
    """Return the most units that stamps have in any half-open window, each a time and a cost."""
    stamps = sorted(stamps)
    totals = [0, *accumulate(cost for _, cost in stamps)]
    most = oldest = 0
    for newest, (at, _) in enumerate(stamps):
        while stamps[oldest][0] <= at - window_us:
            oldest += 1
        most = max(most, totals[newest + 1] - totals[oldest])
    return most


# Calls


def test_a_burst_of_tasks_is_served_in_order_with_few_calls(proxy: Cuts, prefix: str):
    async def storm(limiter: AsyncLimiter) -> list[tuple[int, int]]:
        served: list[tuple[int, int]] = []

        async def wait(number: int) -> None:
            async with limiter.reserve("a", wait=True) as turn:
                served.append((number, stamp(turn)))

        await asyncio.gather(*map(wait, range(100)))
        return served

    served = with_tasks(proxy.url, prefix, storm)
    assert [number for number, _ in served] == list(range(100))
    assert most_in_a_window([(at, 1) for _, at in served], 100_000) <= 20
    assert len(proxy.scripts) <= 1.2 * 100


def test_a_burst_of_threads_is_served_with_few_calls(proxy: Cuts, prefix: str):
    stamps: list[tuple[int, int]] = []
    with RedisStore.from_url(proxy.url, prefix=prefix, denial_ttl=0) as store:
        limiter = Limiter(POLICY, store=store)

        def wait() -> None:
            with limiter.reserve("a", wait=True) as turn:
                stamps.append((stamp(turn), 1))

        threads = [threading.Thread(target=wait, daemon=True) for _ in range(60)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert limiter.statistics().waiting == 0
    assert len(stamps) == 60
    assert most_in_a_window(stamps, 100_000) <= 20
    assert len(proxy.scripts) <= 1.2 * 60


def test_tasks_that_come_evenly_take_two_calls_each_at_most(proxy: Cuts, prefix: str):
    async def storm(limiter: AsyncLimiter) -> None:
        waiting = []
        for _ in range(100):
            waiting.append(asyncio.ensure_future(limiter.wait("a")))
            await asyncio.sleep(0.004)
        await asyncio.gather(*waiting)

    with_tasks(proxy.url, prefix, storm)
    assert len(proxy.scripts) <= 2.1 * 100


def test_a_wait_with_a_free_unit_is_one_call(server: servers.Server, proxy: Cuts, prefix: str):
    async def wait(limiter: AsyncLimiter) -> None:
        await limiter.wait("warm")
        before = len(proxy.scripts)
        assert (await limiter.wait("a", 20)).allowed
        assert (await limiter.wait("b", 20, timeout=0)).allowed
        assert len(proxy.scripts) - before == 2

    with_tasks(proxy.url, prefix, wait)
    with RedisStore.from_url(server.url, prefix=prefix) as store:
        limiter = Limiter(SlidingWindow(2, window=60), store=store)
        assert limiter.wait("c", 2, timeout=0).allowed
        assert not limiter.wait("c", timeout=0).allowed


def test_a_wait_for_one_key_holds_up_no_other(server: servers.Server, prefix: str):
    async def wait(limiter: AsyncLimiter) -> None:
        await limiter.take("a", 2)
        waiting = [asyncio.ensure_future(limiter.wait("a")) for _ in range(20)]
        await until_awaited(lambda: limiter.statistics().waiting == 20)
        for number in range(20):
            assert (await limiter.wait(f"other-{number}")).allowed
        assert limiter.statistics().waiting == 20
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert limiter.statistics().waiting == 0

    with_tasks(server.url, prefix, wait, SlidingWindow(2, window=60))


# Cancellation, and what fails


async def _remaining(limiter: AsyncLimiter, expected: int) -> None:
    """Wait until so many units are left."""
    end = time.monotonic() + 60
    while (await limiter.peek("a")).remaining != expected:
        assert time.monotonic() < end
        await asyncio.sleep(0.001)


@pytest.mark.usefixtures("quiet")
def test_a_task_that_is_cancelled_during_its_first_call_gives_its_units_back(proxy: Cuts, prefix: str):
    async def wait(limiter: AsyncLimiter) -> None:
        await limiter.peek("b")
        proxy.hold = True
        sent = len(proxy.scripts)
        task = asyncio.ensure_future(limiter.wait("a", 2))
        await until_awaited(lambda: len(proxy.scripts) > sent)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert limiter.statistics().waiting == 0
        proxy.hold = False
        await _remaining(limiter, 2)
        assert (await limiter.wait("a", 2)).allowed

    with_tasks(proxy.url, prefix, wait, SlidingWindow(2, window=600))


@pytest.mark.usefixtures("quiet")
def test_units_that_a_store_gives_back_for_a_cancelled_task_serve_the_line_at_once(proxy: Cuts, prefix: str):
    async def wait(limiter: AsyncLimiter) -> None:
        await limiter.peek("b")
        proxy.hold = True
        sent = len(proxy.scripts)
        reserving = asyncio.ensure_future(limiter.reserve("a").__aenter__())
        await until_awaited(lambda: len(proxy.scripts) > sent)
        waiting = asyncio.ensure_future(limiter.wait("a"))
        await asyncio.sleep(0)
        reserving.cancel()
        proxy.hold = False
        assert (await asyncio.wait_for(waiting, 60)).allowed

    with_tasks(proxy.url, prefix, wait, SlidingWindow(1, window=600))


@pytest.mark.usefixtures("quiet")
def test_what_a_call_allowed_to_tasks_that_left_meanwhile_goes_to_the_next_ones(proxy: Cuts, prefix: str):
    async def wait(limiter: AsyncLimiter) -> None:
        await limiter.take("a", 2)
        waiting = [asyncio.ensure_future(limiter.wait("a")) for _ in range(4)]
        await until_awaited(lambda: limiter.statistics().waiting == 4)
        proxy.hold = True
        sent = len(proxy.scripts)
        forgetting = asyncio.ensure_future(limiter.forget("a"))
        await until_awaited(lambda: b"DEL" in bytes(proxy.sent))
        proxy.hold = False
        await forgetting
        proxy.hold = True
        await until_awaited(lambda: len(proxy.scripts) > sent)  # two units for the first two
        for task in waiting[:2]:
            task.cancel()
        await asyncio.wait(waiting[:2])
        proxy.hold = False
        assert [(await task).allowed for task in waiting[2:]] == [True, True]
        assert (await limiter.peek("a")).remaining == 0

    with_tasks(proxy.url, prefix, wait, SlidingWindow(2, window=600))


def test_a_key_that_holds_something_else_fails_its_own_line(server: servers.Server, prefix: str):
    async def wait(limiter: AsyncLimiter) -> None:
        await limiter.take("a", 2)
        await limiter.take("b", 2)
        waiting = [asyncio.ensure_future(limiter.wait("a")) for _ in range(3)]
        others = [asyncio.ensure_future(limiter.wait("b")) for _ in range(2)]
        await until_awaited(lambda: limiter.statistics().waiting == 5)
        (key,) = [key for key in servers.counters(server, prefix) if b"{a}" in key]
        server.client.delete(key)
        server.client.hset(key, "some", "thing")
        answers = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(answer) for answer in answers] == [StoreUnavailable] * 3
        assert len({id(answer) for answer in answers}) == 3
        assert [(await task).allowed for task in others] == [True, True]
        server.client.delete(key)
        assert (await limiter.wait("a")).allowed

    with_tasks(server.url, prefix, wait, SlidingWindow(2, window=0.5))


def test_a_wait_goes_on_after_the_server_forgot_the_scripts(server: servers.Server, prefix: str):
    async def wait(limiter: AsyncLimiter) -> None:
        await limiter.take("a", 20)
        waiting = [asyncio.ensure_future(limiter.wait("a")) for _ in range(30)]
        server.client.script_flush()
        assert all(decision.allowed for decision in await asyncio.gather(*waiting))

    with_tasks(server.url, prefix, wait)


def test_an_error_ends_the_waits_of_threads_and_the_next_ones_begin_anew(server: servers.Server, prefix: str):
    outcomes: list[Any] = []
    with RedisStore.from_url(server.url, prefix=prefix) as store:
        limiter = Limiter(SlidingWindow(2, window=0.5), store=store)
        limiter.take("a", 2)

        def wait() -> None:
            try:
                outcomes.append(limiter.wait("a"))
            except StoreUnavailable as error:
                outcomes.append(error)

        threads = [threading.Thread(target=wait, daemon=True) for _ in range(5)]
        for thread in threads:
            thread.start()
        until(lambda: limiter.statistics().waiting == 5)
        (key,) = servers.counters(server, prefix)
        server.client.delete(key)
        server.client.hset(key, "some", "thing")
        for thread in threads:
            thread.join(60)
        assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 5
        server.client.delete(key)
        assert limiter.wait("a", 2).allowed
        assert limiter.statistics().waiting == 0


@pytest.mark.usefixtures("quiet")
def test_a_loop_that_ends_while_tasks_wait_ends_quietly(server: servers.Server, prefix: str):
    async def leave(limiter: AsyncLimiter) -> list[Any]:
        await limiter.take("a", 2)
        waiting = [asyncio.ensure_future(limiter.wait("a")) for _ in range(50)]
        await until_awaited(lambda: limiter.statistics().waiting == 50)
        return waiting

    waiting = with_tasks(server.url, prefix, leave, SlidingWindow(2, window=60))
    assert all(task.cancelled() for task in waiting)


# A fleet


def run_fleet(server: servers.Server, prefix: str, costs: Sequence[Sequence[int]], limit: int, window: float) -> Any:
    """Let processes wait for one key, each with tasks of these costs. Returns what each prints."""
    task = {"url": server.url, "prefix": prefix, "limit": limit, "window": window}
    processes = [
        subprocess.Popen(
            [sys.executable, WORKER, json.dumps({**task, "costs": each})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for each in costs
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        with RedisStore.from_url(server.url, prefix=prefix) as store:
            limiter = Limiter(SlidingWindow(limit, window=window, name="storm"), store=store)
            for _ in range(limit):  # evenly, so that units come back one by one
                limiter.charge("a")
                time.sleep(window / limit)
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        return [json.loads(process.communicate(timeout=120)[0]) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.mark.slow
@pytest.mark.mostly_waits
def test_of_4_processes_each_is_served_in_order_and_the_fleet_is_never_over(server: servers.Server, prefix: str):
    costs = [[1, 5, 1, 1] * 15 for _ in range(4)]
    answers = run_fleet(server, prefix, costs, 100, 0.5)
    for process in answers:
        stamps = [at for at, _ in process]
        assert stamps == sorted(stamps)
    stamps = [at for process in answers for at, _ in process]
    taken = list(zip(stamps, chain.from_iterable(costs), strict=True))
    assert most_in_a_window(taken, 500_000) <= 100
    print(f"{sum(map(sum, costs))} units at 100 each 0.5 s took {(max(stamps) - min(stamps)) / 1e6:.3f} s")


@pytest.mark.slow
@pytest.mark.mostly_waits
def test_a_dear_one_waits_for_the_cheap_ones_of_other_processes_and_the_fleet_is_never_over(
    server: servers.Server, prefix: str
):
    """Order holds within a process alone: another one's cheap callers take each unit as it comes back."""
    costs = [[50], *([1] * 100 for _ in range(3))]
    (dear,), *others = run_fleet(server, prefix, costs, 100, 0.5)
    cheap = max(seconds for process in others for _, seconds in process)
    print(f"the dear one waited {dear[1]:.2f} s, the last of 300 cheap ones {cheap:.2f} s")
    taken = [(dear[0], 50), *((at, 1) for process in others for at, _ in process)]
    assert len(taken) == 301
    assert most_in_a_window(taken, 500_000) <= 100
