"""Phase B: the same rule, counted on Redis, for all instances together."""


class RedisSlidingWindow:
    """Allows each user at most ``limit`` requests in any ``window_seconds``, for all instances on ``redis_url``."""

    def __init__(self, limit: int, window_seconds: float, redis_url: str) -> None: ...  # yours to write

    def allow(self, user_id: str) -> bool:
        """Count one request of ``user_id`` and return True if there is room for it, else return False."""
        # yours to write
