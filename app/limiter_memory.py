"""A sliding window for each user, in this process's memory."""

from __future__ import annotations

from sluicegate import Limiter, SlidingWindow


class MemorySlidingWindow:
    """Allows each user at most ``limit`` requests in any ``window_seconds``. Thread-safe, bounded in memory.

    Args:
        limit: Requests per window, a whole number from 1 to 10^11.
        window_seconds: The span they are counted over, 0.000001 s to ten years.
    """

    def __init__(self, limit: int, window_seconds: float) -> None:
        self._limiter = Limiter(SlidingWindow(limit, window=window_seconds))

    def allow(self, user_id: str) -> bool:
        """Count one request of ``user_id`` if there is room for it. A denied one is not counted."""
        return self._limiter.allow(user_id)
