"""A service whose Retry-After is rounded down: 0.9 s becomes 0, and a client that obeys it is denied again at once."""

from __future__ import annotations

from correct_memory import SlidingWindow
from http_correct import serve

if __name__ == "__main__":
    serve(SlidingWindow, lambda seconds: str(int(seconds)))
