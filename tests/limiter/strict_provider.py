"""A provider of an LLM that refuses whatever is above its requests and tokens in any window; not by Sluicegate.

It keeps a plain log of what it has accepted, and looks through it. `served` lets processes call it over TCP, a line of
JSON each way.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple


class Accepted(NamedTuple):
    """A call that was accepted: when it arrived, its tokens, and how long before it was charged; microseconds."""

    at_us: int
    tokens: int
    late_us: int


class Refused(NamedTuple):
    """A call that was refused, and how late the latest was of those in its window, itself included."""

    at_us: int
    tokens: int
    latest_us: int


class StrictProvider:
    """The log, and what was refused."""

    def __init__(self, requests: int, tokens: int, window: float) -> None:
        self.requests, self.tokens, self.window_us = requests, tokens, round(window * 1_000_000)
        self.accepted: list[Accepted] = []
        self.refused: list[Refused] = []
        self._log: deque[Accepted] = deque()

    def accepts(self, at_us: int, tokens: int, late_us: int = 0) -> bool:
        """Accept a call that arrives at a time, so long after it was charged, or refuse it."""
        log = self._log
        while log and log[0].at_us <= at_us - self.window_us:
            log.popleft()
        if len(log) + 1 > self.requests or sum(each.tokens for each in log) + tokens > self.tokens:
            self.refused.append(Refused(at_us, tokens, max([late_us, *(each.late_us for each in log)])))
            return False
        log.append(Accepted(at_us, tokens, late_us))
        self.accepted.append(log[-1])
        return True

    def used(self, begin: float, end: float) -> float:
        """Return how much of the budget of tokens was used from ``begin`` to ``end``, seconds."""
        used = sum(each.tokens for each in self.accepted if begin < each.at_us / 1_000_000 <= end)
        return used / self.tokens * self.window_us / 1_000_000 / (end - begin)


@asynccontextmanager
async def served(provider: StrictProvider, answers_after: Callable[[], float]) -> AsyncIterator[int]:
    """Let processes call a provider, each call ``{"tokens", "charged_at_us"}``. Yields the port."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for line in reader:
            call = json.loads(line)
            at_us = time.time_ns() // 1000
            accepted = provider.accepts(at_us, call["tokens"], at_us - call["charged_at_us"])
            if accepted:
                await asyncio.sleep(answers_after())
            writer.write(json.dumps(accepted).encode() + b"\n")
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
