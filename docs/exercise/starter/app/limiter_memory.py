"""Phase A: at most N requests of each user in any T seconds, counted in this process."""


class MemorySlidingWindow:
    """Allows each user at most ``limit`` requests in any ``window_seconds``."""

    def __init__(self, limit: int, window_seconds: float) -> None: ...  # yours to write

    def allow(self, user_id: str) -> bool:
        """Count one request of ``user_id`` and return True if there is room for it, else return False."""
        # yours to write
