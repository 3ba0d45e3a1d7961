"""drogue with the interface of the proof kit: its sliding window, in memory and on Redis.

Its limiters for FastAPI, Flask and Django are made of these algorithms and storages. If this file and its documentation
differ, suspect this file first.
"""

from __future__ import annotations

from drogue.core.abstracts import AcquireResult, Storage
from drogue.core.algorithms import SlidingWindowAlgorithm
from drogue.core.storage.memory import MemoryStorage
from drogue.core.storage.redis import RedisStorage


class Peer:
    def __init__(self, storage: Storage, limit: int, window_seconds: float) -> None:
        self._algorithm = SlidingWindowAlgorithm(storage, limit, window_seconds)

    async def allow(self, user_id: str, cost: int = 1) -> bool:
        return (await self.take(user_id, cost)).allowed

    async def take(self, user_id: str, cost: int = 1) -> AcquireResult:
        return await self._algorithm.acquire(user_id, cost)

    async def peek(self, user_id: str) -> AcquireResult:
        return await self._algorithm.peek(user_id)

    async def wait(self, user_id: str, timeout: float = 30.0) -> bool:
        return (await self._algorithm.acquire(user_id, block=True, timeout=timeout)).allowed


async def sliding_window_memory(limit: int, window_seconds: float) -> Peer:
    storage = MemoryStorage()
    await storage.initialize()
    return Peer(storage, limit, window_seconds)


async def sliding_window_redis(limit: int, window_seconds: float, redis_url: str) -> Peer:
    storage = RedisStorage(url=redis_url)
    await storage.initialize()
    return Peer(storage, limit, window_seconds)
