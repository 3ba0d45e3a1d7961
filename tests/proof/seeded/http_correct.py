"""Correct, as a service: python http_correct.py PORT [LIMIT WINDOW_SECONDS], then GET /ping?user_id=alice.

It prints "ready" once it listens. The faulty services beside it are this one with one change each.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Protocol
from urllib.parse import parse_qs, urlsplit

from correct_memory import Decision, SlidingWindow


class Limiter(Protocol):
    def take(self, user_id: str) -> Decision: ...


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


def serve(make_limiter: Callable[[int, float], Limiter], header: Callable[[float], str | None]) -> None:
    """Serve for ever. ``header`` converts the seconds to wait into Retry-After; None to send none."""
    port, limit, window = (*sys.argv[1:], "5", "1.0")[:3]
    limiter = make_limiter(int(limit), float(window))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
            if "user_id" not in query:
                self._answer(422)
                return
            decision = limiter.take(query["user_id"][0])
            wait = None if decision.allowed else header(decision.retry_after)
            self._answer(200 if decision.allowed else 429, {} if wait is None else {"Retry-After": wait})

        def _answer(self, status: int, fields: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in (fields or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None: ...  # noqa: A002 - the base class has this name

    with Server(("127.0.0.1", int(port)), Handler) as server:
        print("ready", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    serve(SlidingWindow, lambda seconds: str(math.ceil(seconds)))
