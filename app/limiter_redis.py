"""A sliding window for each user, on Redis: one count for all instances, decided by one atomic script."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from sluicegate import Limiter, SlidingWindow


class RedisSlidingWindow:
    """Allows each user at most ``limit`` requests in any ``window_seconds``, over all that share the server.

    The server's clock decides, and every key it holds expires by itself. Connects at the first call.

    Args:
        limit: See `app.limiter_memory.MemorySlidingWindow`.
        window_seconds: See there. Counts of different windows are apart; a changed limit keeps the history.
        redis_url: Such as ``redis://localhost:6379/0``.
    """

    def __init__(self, limit: int, window_seconds: float, redis_url: str) -> None:
        self._limiter = Limiter(SlidingWindow(limit, window=window_seconds), store=redis_url)

    def allow(self, user_id: str) -> bool:
        """Count one request of ``user_id`` if there is room for it. A denied one is not counted.

        Raises:
            sluicegate.StoreError: The server gave no answer in time. Open or closed is the caller's choice.
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
