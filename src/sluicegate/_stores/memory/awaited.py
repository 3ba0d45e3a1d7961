"""A memory store for tasks."""

from __future__ import annotations

from collections.abc import Sequence

from sluicegate._core.decision import Verdict
from sluicegate._core.policy import Policy
from sluicegate._core.request import Counter, Request, Settlement
from sluicegate._stores.memory.store import MemoryStore


class AwaitedMemoryStore:
    """The verbs of a `MemoryStore`, awaited. They never wait, so awaiting them does not let other tasks run."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store

    @property
    def repaired(self) -> int:
        return self.store.repaired

    async def decide(self, request: Request) -> list[Verdict]:
        return self.store.decide(request)

    async def decide_line(self, requests: Sequence[Request]) -> list[list[Verdict]]:
        return self.store.decide_line(requests)

    async def settle(self, settlements: Sequence[Settlement], within: float | None = None) -> list[bool]:  # noqa: ARG002
        return self.store.settle(settlements)

    async def forget(self, counters: Sequence[Counter]) -> None:
        self.store.forget(counters)

    async def block(self, counters: Sequence[Counter], span_us: int) -> None:
        self.store.block(counters, span_us)

    async def keys(self, policy: Policy) -> list[tuple[str, ...]]:
        return self.store.keys(policy)

    async def aclose(self) -> None:
        self.store.close()
