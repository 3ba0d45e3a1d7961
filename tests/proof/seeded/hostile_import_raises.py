"""Cannot be imported: a package that it needs is not installed."""

from __future__ import annotations

import no_such_package_of_limiters  # noqa: F401


class SlidingWindow:
    def __init__(self, limit: int, window_seconds: float) -> None: ...

    def allow(self, user_id: str) -> bool:
        return True
