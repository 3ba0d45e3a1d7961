"""The example of LLM calls, against a provider that refuses whatever is above its limits, with a log of its own."""

from __future__ import annotations

import asyncio
from heapq import heappop, heappush
from random import Random
from statistics import quantiles

import pytest

import servers
from examples.llm_budget import RateLimited, Response, complete
from limiter.llm_fleet import TASKS, fleet
from limiter.llm_worker import CHEAP, DEAR, budgets, planned
from limiter.strict_provider import StrictProvider
from sluicegate import AsyncLimiter, MemoryStore
from sluicegate.testing import ManualClock

MARGIN = 0.25
"""Seconds by which the budgets' window is longer than the provider's: so late may a call be."""

# In a process by itself, on a clock that jumps from one event to the next.


class Agenda(ManualClock):
    """A clock that can be moved to the next time that something waits for."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[int] = []

    def call_at(self, at_us, callback):
        heappush(self.times, at_us)
        return super().call_at(at_us, callback)

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.get_running_loop().create_future()
        self.call_at(self.now_us() + round(seconds * 1_000_000), lambda: woken.done() or woken.set_result(None))
        await woken

    async def run(self, seconds: float) -> None:
        """Go from one event to the next until so many seconds have passed."""
        end_us = self.now_us() + round(seconds * 1_000_000)
        while True:
            for _ in range(20):  # let everybody run until they wait for the clock
                await asyncio.sleep(0)
            if not self.times or self.times[0] > end_us:
                break
            self.advance(max(heappop(self.times) - self.now_us(), 0) / 1_000_000)
        self.advance((end_us - self.now_us()) / 1_000_000)


class Instant:
    """A strict provider in this process: calls arrive at once, and are answered after some time."""

    def __init__(self, strict: StrictProvider, clock: Agenda) -> None:
        self.strict, self.clock = strict, clock
        self.called_at_us = 0

    async def complete(self, prompt: str, max_tokens: int) -> Response:
        self.called_at_us = self.clock.now_us()
        if not self.strict.accepts(self.clock.now_us(), int(prompt)):
            raise RateLimited(1)
        await self.clock.sleep(0.5 + max_tokens / 4000)
        return Response("", int(prompt))


async def one_process(strict: StrictProvider, seconds: float) -> dict[int, list[float]]:
    """Let tasks call a provider for some minutes of a clock. Returns the waits of their calls, by their tokens."""
    clock = Agenda()
    task = {"requests": strict.requests, "tokens": strict.tokens, "window": strict.window_us / 1_000_000}
    waits: dict[int, list[float]] = {CHEAP: [], DEAR: []}
    async with AsyncLimiter(*budgets(task), store=MemoryStore(clock=clock)) as limiter:

        async def call(number: int) -> None:
            chance = Random(number)
            while True:
                prompt, max_tokens = planned(chance)
                provider = Instant(strict, clock)
                began_us = clock.now_us()
                await complete(limiter, provider, prompt, max_tokens, timeout=3600)
                waits[int(prompt)].append((provider.called_at_us - began_us) / 1_000_000)

        calls = [asyncio.create_task(call(number)) for number in range(TASKS)]
        async with asyncio.timeout(120):
            await clock.run(seconds)
        for each in calls:
            each.cancel()
        ended = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(each) for each in ended} == {asyncio.CancelledError}
    return waits


def p95(waits: list[float]) -> float:
    return quantiles(waits, n=20)[-1]


@pytest.mark.slow
def test_one_process_uses_its_budget_and_no_dear_call_waits_much_longer_than_a_cheap_one():
    strict = StrictProvider(requests=500, tokens=450_000, window=60)
    waits = asyncio.run(one_process(strict, seconds=6 * 60))
    assert strict.refused == []
    assert strict.used(60, 360) >= 0.95
    assert p95(waits[CHEAP]) > 10, "nobody had to wait long: nothing was shown"
    assert p95(waits[DEAR]) <= 1.3 * p95(waits[CHEAP])


# In several processes, on a server.


@pytest.mark.slow
@pytest.mark.mostly_waits
def test_a_fleet_is_never_refused(server: servers.Server, prefix: str):
    strict = StrictProvider(requests=200, tokens=150_000, window=5)
    asyncio.run(fleet(strict, server.url, prefix, window=5 + MARGIN, seconds=20))
    print(f"{len(strict.accepted)} calls, {len(strict.refused)} refused as they came late")
    # A call that comes to the provider later than the budgets allow for may rightly be refused. On a busy machine only.
    assert [each for each in strict.refused if each.latest_us <= MARGIN * 1_000_000] == []
    first, last = strict.accepted[0].at_us, strict.accepted[-1].at_us
    assert last - first > 3 * strict.window_us
    assert strict.used(first / 1_000_000, last / 1_000_000) > 0.5, "little was asked for: nothing was shown"
