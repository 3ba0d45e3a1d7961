"""halt-rate with the interface of the proof kit: its sliding window, in memory and on Redis, as in its README.

A request of its own is any object, from which the policy's ``key_extractor`` reads the key: here it is the key. If this
file and that README differ, suspect this file first.
"""

from __future__ import annotations

from halt import Algorithm, Decision, InMemoryStore, KeyStrategy, Policy, RateLimiter, RedisStore
from redis import Redis


class Peer:
    def __init__(self, store: InMemoryStore | RedisStore, policy: Policy) -> None:
        self._limiter = RateLimiter(store=store, policy=policy)

    def allow(self, user_id: str, cost: int = 1) -> bool:
        return self.take(user_id, cost).allowed

    def take(self, user_id: str, cost: int = 1) -> Decision:
        return self._limiter.check(user_id, cost)


def per_window(limit: int, window_seconds: float) -> Policy:
    # The window of a Policy is an int.
    if window_seconds < 1 or window_seconds != int(window_seconds):
        raise ValueError(f"halt-rate: the window must be whole seconds, 1 or more, got {window_seconds}")
    return Policy(
        name="peer",
        limit=limit,
        window=int(window_seconds),
        algorithm=Algorithm.SLIDING_WINDOW,
        key_strategy=KeyStrategy.CUSTOM,
        key_extractor=str,
    )


def sliding_window_memory(limit: int, window_seconds: float) -> Peer:
    return Peer(InMemoryStore(), per_window(limit, window_seconds))


def sliding_window_redis(limit: int, window_seconds: float, redis_url: str) -> Peer:
    return Peer(RedisStore(client=Redis.from_url(redis_url)), per_window(limit, window_seconds))
