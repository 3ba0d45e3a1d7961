"""A sliding window for each user, in this process's memory."""

from __future__ import annotations

from sluicegate import Limiter, SlidingWindow


class MemorySlidingWindow:
    """Allow each user at most ``limit`` requests in any ``window_seconds``. Thread-safe, with bounded memory.

    Args:
        limit: Requests per window, a whole number from 1 to 10^11.
        window_seconds: The span that they are counted over, from 0.000001 s to ten years.
    """

    def __init__(self, limit: int, window_seconds: float) -> None:
        self._limiter = Limiter(SlidingWindow(limit, window=window_seconds))

    def allow(self, user_id: str) -> bool:
        """Return whether a request of ``user_id`` is allowed, and count it if it is. A denied one is not counted."""
        return self._limiter.allow(user_id)
