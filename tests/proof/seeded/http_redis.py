"""Correct, as a service on Redis: python http_redis.py PORT LIMIT WINDOW REDIS_URL; instances share the limit."""

from __future__ import annotations

import math
import sys

from correct_redis import SlidingWindow
from http_correct import serve

if __name__ == "__main__":
    serve(lambda limit, window: SlidingWindow(limit, window, sys.argv[4]), lambda seconds: str(math.ceil(seconds)))
