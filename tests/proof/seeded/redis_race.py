"""Trim and count are one call, ZADD another: instances between the two all see N - 1."""

from __future__ import annotations

import uuid

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry


class Race:
    def __init__(self, limit: int, window_seconds: float, redis_url: str) -> None:
        self._limit = limit
        self._window_us = round(window_seconds * 1_000_000)
        self._redis = redis.Redis.from_url(
            redis_url, socket_timeout=0.3, socket_connect_timeout=0.3, retry=Retry(NoBackoff(), 0)
        )

    def allow(self, user_id: str) -> bool:
        key = f"window:{user_id}"
        try:
            seconds, microseconds = self._redis.time()
            now = seconds * 1_000_000 + microseconds
            with self._redis.pipeline() as pipeline:
                pipeline.zremrangebyscore(key, "-inf", now - self._window_us).zcard(key)
                _, used = pipeline.execute()
            if used >= self._limit:
                return False
            with self._redis.pipeline() as pipeline:
                pipeline.zadd(key, {uuid.uuid4().hex: now}).pexpire(key, self._window_us // 1000 + 2)
                pipeline.execute()
        except redis.RedisError:
            return False
        return True

    def close(self) -> None:
        self._redis.close()
