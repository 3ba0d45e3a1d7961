"""Not Python: the line below is a SyntaxError for the compiler, but not for the tools that read this folder."""

from __future__ import braces  # noqa: F407


class SlidingWindow:
    def __init__(self, limit: int, window_seconds: float) -> None: ...

    def allow(self, user_id: str) -> bool:
        return True
