"""Fixtures of the tests of outages: instances for threads and for tasks, with the same verbs, over real servers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

import servers
from sluicegate import AsyncLimiter, AsyncRedisStore, Decision, Limiter, RedisStore, StoreEvent
from sluicegate._stores.health import Health


class Instance:
    """One instance of a fleet: a store and a limiter on it, for threads or for tasks, with the same verbs for both."""

    def __init__(self, form: str, url: str, *policies: Any, prefix: str = "", timeout: float = 0.5, **options: Any):
        self.runner = asyncio.Runner() if form == "tasks" else None
        self.events: list[StoreEvent] = []
        of = {"prefix": prefix} if prefix else {}
        kind, limiter = (AsyncRedisStore, AsyncLimiter) if self.runner else (RedisStore, Limiter)
        self.store = kind.from_url(url, timeout=timeout, **of)
        options = {"deadline": 0.2, "on_event": self.events.append, **options}
        self.limiter = limiter(*(policies or ("5/minute",)), store=self.store, **options)

    def take(self, key: str = "a", cost: int = 1) -> Decision:
        return self.run(self.limiter.take(key, cost))

    def peek(self, key: str = "a") -> Decision:
        return self.run(self.limiter.peek(key))

    def allowed(self, times: int, key: str = "a") -> int:
        return sum(self.take(key).allowed for _ in range(times))

    def forget(self, key: str = "a") -> None:
        self.run(self.limiter.forget(key))

    def block(self, key: str, seconds: float) -> None:
        self.run(self.limiter.block(key, seconds))

    def fail(self) -> None:
        """Call until the breaker is open."""
        until(self, lambda: self.health.is_open, lambda: self.take("nobody"))

    def recover(self) -> None:
        """Wait until the breaker is closed, and what is owed has been sent."""
        until(self, lambda: not self.health.is_open and not self.store._local.owes)

    def rest(self, seconds: float = 0.01) -> None:
        if self.runner:
            self.runner.run(asyncio.sleep(seconds))
        else:
            time.sleep(seconds)

    @property
    def health(self) -> Health:
        return self.store._health

    def run(self, result: Any) -> Any:
        return self.runner.run(_await(result)) if self.runner else result

    def close(self) -> None:
        """Close the store. Safe to call twice."""
        if self.runner:
            runner, self.runner = self.runner, None
            runner.run(self.store.aclose())
            runner.close()
        elif isinstance(self.store, RedisStore):
            self.store.close()


async def _await(result: Any) -> Any:
    return await result


def until(instance: Instance, condition: Callable[[], bool], step: Callable[[], object] | None = None) -> None:
    """Let an instance run until the condition holds."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        if step is not None:
            step()
        instance.rest()


@pytest.fixture(params=["threads", "tasks"])
def form(request: pytest.FixtureRequest) -> str:
    return request.param


Make = Callable[..., Instance]


@pytest.fixture
def make(form: str) -> Iterator[Make]:
    """Make instances, which are closed at the end."""
    with ExitStack() as opened:

        def made(url: str, *policies: Any, **options: Any) -> Instance:
            instance = Instance(form, url, *policies, **options)
            opened.callback(instance.close)
            return instance

        yield made


@pytest.fixture
def own_server(server: servers.Server) -> Iterator[servers.Server]:
    """A server of the test's own, of the same kind."""
    with servers.running(server.kind) as own:
        yield own
