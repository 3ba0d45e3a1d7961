"""A service whose 429 has no Retry-After: a denied client is not told when to come back, and asks in a loop."""

from __future__ import annotations

from correct_memory import SlidingWindow
from http_correct import serve

if __name__ == "__main__":
    serve(SlidingWindow, lambda _seconds: None)
