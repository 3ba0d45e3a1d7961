"""Keep the calls of an LLM within its provider's requests and tokens a minute.

    python examples/llm_budget.py                            # by itself
    python examples/llm_budget.py redis://localhost:6379/0   # together with everything else on that server

Each call reserves the most that it can use, `max_tokens` included, and is settled by what the response says it did use.
A stand-in takes the provider's place, so no account is needed; its minute lasts one second.

How-to: docs/how-to/budget-llm-calls.md
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from sluicegate import AsyncLimiter, AsyncReservation, SlidingWindow

MODEL = "large"


@dataclass
class Response:
    """What a provider answers, as far as it matters here."""

    text: str
    total_tokens: int
    headers: Mapping[str, str] = field(default_factory=dict)


class RateLimited(Exception):
    """The provider's 429."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"rate limited: retry after {retry_after} s")
        self.retry_after = retry_after


class Provider(Protocol):
    """A client that completes prompts."""

    async def complete(self, prompt: str, max_tokens: int) -> Response: ...


class OutOfBudget(Exception):
    """The budget leaves no room for a call in time."""


def tokens_of(prompt: str) -> int:
    """Return at least as many tokens as the prompt has: no token is shorter than a byte. A tokenizer is closer."""
    return len(prompt.encode())


async def complete(
    limiter: AsyncLimiter, provider: Provider, prompt: str, max_tokens: int, timeout: float = 60
) -> Response:
    """Complete a prompt within the budget: wait for room, call the provider, and settle what was used."""
    estimate = {"requests": 1, "tokens": tokens_of(prompt) + max_tokens}
    async with limiter.reserve(MODEL, estimate, wait=True, timeout=timeout) as budget:
        if not budget:
            seconds = budget.decision.retry_after
            if seconds == math.inf:
                raise OutOfBudget("this call is larger than the whole budget")
            raise OutOfBudget(f"no room within {timeout} s; try again in {max(1, math.ceil(seconds))} s")
        try:
            response = await provider.complete(prompt, max_tokens)
        except RateLimited as refusal:
            await back_off(limiter, budget, refusal)
            raise
        budget.settle({"tokens": response.total_tokens})  # the request stays one request
        return response


async def back_off(limiter: AsyncLimiter, budget: AsyncReservation, refusal: RateLimited) -> None:
    """Let everybody wait for as long as the provider says: every process that shares the store."""
    budget.settle({"tokens": 0})  # it used none; most providers count the request
    await limiter.block(MODEL, refusal.retry_after)


class Limits:
    """A provider's own limits, as the headers of its responses state them; for ``limits=``."""

    def __init__(self) -> None:
        self._by_model: dict[str, dict[str, int]] = {}

    def __call__(self, model: str) -> dict[str, int] | None:
        return self._by_model.get(model)  # None until the first response: the policies' own

    def learn(self, model: str, headers: Mapping[str, str]) -> None:
        names = ("requests", "tokens")
        stated = {name: headers.get(f"x-ratelimit-limit-{name}", "") for name in names}
        self._by_model[model] = {name: int(limit) for name, limit in stated.items() if limit.isdecimal()}


# From here on: a stand-in for the provider, and calls to it.


class StandIn:
    """A provider that refuses what is above 30 requests or 20 000 tokens in any second."""

    REQUESTS, TOKENS, WINDOW = 30, 20_000, 1.0

    def __init__(self) -> None:
        self.refused = 0
        self._log: deque[tuple[float, int]] = deque()

    async def complete(self, prompt: str, max_tokens: int) -> Response:
        used = tokens_of(prompt) + random.randint(max_tokens // 2, max_tokens)  # noqa: S311 - no secret
        now = time.monotonic()
        while self._log and self._log[0][0] <= now - self.WINDOW:
            self._log.popleft()
        if len(self._log) == self.REQUESTS or sum(tokens for _, tokens in self._log) + used > self.TOKENS:
            self.refused += 1
            raise RateLimited(self.WINDOW)
        self._log.append((now, used))
        await asyncio.sleep(0.05)
        headers = {"x-ratelimit-limit-requests": str(self.REQUESTS), "x-ratelimit-limit-tokens": str(self.TOKENS)}
        return Response("...", used, headers)


async def main(store: str = "memory://") -> None:
    provider, limits = StandIn(), Limits()
    # A twentieth longer than the provider's window: one call may take longer than another to get there.
    window = 1.05 * provider.WINDOW
    async with AsyncLimiter(
        SlidingWindow(10, window=window, name="requests"),  # what is known before the first response
        SlidingWindow(10_000, window=window, name="tokens"),
        store=store,
        limits=limits,
        limits_ttl=0,  # it is a look-up in a dict
    ) as limiter:

        async def call(number: int) -> None:
            max_tokens = 4000 if number % 8 == 0 else 200
            response = None
            while response is None:
                try:
                    response = await complete(limiter, provider, f"prompt {number}", max_tokens)
                except RateLimited:
                    print(f"call {number} was refused: once more")
            limits.learn(MODEL, response.headers)
            print(f"{time.monotonic() - began:5.2f} s  call {number:2}  {response.total_tokens:4} tokens")

        began = time.monotonic()
        await call(0)  # a caller that waits keeps the limits with which it came: so learn them first
        async with asyncio.TaskGroup() as group:
            for number in range(1, 48):
                group.create_task(call(number))
    print(f"48 calls, {provider.refused} refused by the provider")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", nargs="?", default="memory://", help="the URL of a server; without it, this process")
    asyncio.run(main(parser.parse_args().store))
