"""A sliding window for each user on Redis: one count for all instances, decided by one atomic script."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from sluicegate import Limiter, SlidingWindow


class RedisSlidingWindow:
    """Allow each user at most ``limit`` requests in any ``window_seconds``, over all instances that share the server.

    The server's clock decides, and every key on it expires by itself. The first call connects.

    Args:
        limit: Requests per window, a whole number from 1 to 10^11. It may change: the history stays.
        window_seconds: The span that they are counted over, 0.000001 s to ten years. Another window is another count.
        redis_url: The server, for example ``redis://localhost:6379/0``.
    """

    def __init__(self, limit: int, window_seconds: float, redis_url: str) -> None:
        # Named, though as it would be anyway: the objects of one process share their counters on purpose, too.
        name = str(SlidingWindow(limit, window=window_seconds).name)
        self._limiter = Limiter(SlidingWindow(limit, window=window_seconds, name=name), store=redis_url)

    def allow(self, user_id: str) -> bool:
        """Return whether a request of ``user_id`` is allowed, and count it if it is. A denied one is not counted.

        While the server is down, this instance decides by its share of the limit (``on_outage="local"`` of `Limiter`).

        Raises:
            sluicegate.StoreError: The server is not set up right, as with a wrong password, and has never answered.
        """
        return self._limiter.allow(user_id)

    def close(self) -> None:
        """Close the connections."""
        self._limiter.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
