"""A service whose 429 has no Retry-After: a denied client does not learn when to come back, and retries in a loop."""

from __future__ import annotations

from correct_memory import SlidingWindow
from http_correct import serve

if __name__ == "__main__":
    serve(SlidingWindow, lambda _seconds: None)
