"""A service without a time-out: while Redis is frozen, no request of any client is answered."""

from __future__ import annotations

import sys

from correct_redis import Decision
from http_correct import serve
from redis_no_timeout import NoTimeout


class Waits:
    def __init__(self, limit: int, window_seconds: float, redis_url: str) -> None:
        self._limiter = NoTimeout(limit, window_seconds, redis_url)
        self._window = window_seconds

    def take(self, user_id: str) -> Decision:
        allowed = self._limiter.allow(user_id)
        return Decision(allowed, 0.0 if allowed else self._window, 0)


if __name__ == "__main__":
    serve(lambda limit, window: Waits(limit, window, sys.argv[4]), lambda seconds: str(int(seconds + 1)))
