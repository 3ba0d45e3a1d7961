"""Correct, in a SQLite file: a row for each request, with the running total of its user's units."""

from __future__ import annotations

import math
import sqlite3
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

TABLE = """
CREATE TABLE requests (user BLOB, total INTEGER, at INTEGER, cost INTEGER, PRIMARY KEY (user, total)) WITHOUT ROWID;
CREATE INDEX by_time ON requests (at);
CREATE INDEX by_user_and_time ON requests (user, at, total);
"""
# Whatever the number of rows, each of these looks at one of the user's.
NEWEST = "SELECT total FROM requests WHERE user = ? ORDER BY total DESC LIMIT 1"
OLDEST_IN_WINDOW = "SELECT total - cost FROM requests WHERE user = ? AND at > ? ORDER BY at, total LIMIT 1"
FREES_ENOUGH = "SELECT at FROM requests WHERE user = ? AND total >= ? ORDER BY total LIMIT 1"
# Two rows a call: faster than new ones come, and no call pays for all of them.
FORGET = (
    "DELETE FROM requests WHERE (user, total) IN (SELECT user, total FROM requests WHERE at <= ? ORDER BY at LIMIT 2)"
)


class Decision(NamedTuple):
    allowed: bool
    retry_after: float
    remaining: int


class SqliteWindow:
    """Allows each user at most ``limit`` units in any ``window_seconds``. The file is this limiter's own."""

    def __init__(self, limit: int, window_seconds: float) -> None:
        self._limit = limit
        self._window_ns = round(window_seconds * 1e9)
        self._lock = threading.Lock()
        self._directory = tempfile.TemporaryDirectory(prefix="window-")
        path = Path(self._directory.name) / "requests.sqlite"
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._database.executescript("PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF;" + TABLE)

    def allow(self, user_id: str, cost: int = 1) -> bool:
        return self.take(user_id, cost).allowed

    def take(self, user_id: str, cost: int = 1) -> Decision:
        return self._decide(user_id, cost, commit=True)

    def peek(self, user_id: str, cost: int = 1) -> Decision:
        return self._decide(user_id, cost, commit=False)

    def _decide(self, user_id: str, cost: int, *, commit: bool) -> Decision:
        if cost < 1:
            raise ValueError(f"cost must be 1 or more, got {cost}")
        user = user_id.encode("utf-8", "surrogatepass")
        with self._lock, self._database:
            self._database.execute("BEGIN IMMEDIATE")
            now = time.monotonic_ns()
            start = now - self._window_ns
            self._database.execute(FORGET, (start,))
            total = self._one(NEWEST, user) or 0
            left = self._one(OLDEST_IN_WINDOW, user, start)
            free = self._limit - (0 if left is None else total - left)
            if cost > self._limit:
                return Decision(False, math.inf, free)
            if cost > free:
                freed_at = self._one(FREES_ENOUGH, user, total + cost - self._limit)
                assert freed_at is not None
                return Decision(False, (freed_at - start) / 1e9, free)
            if commit:
                row = (user, total + cost, now, cost)
                self._database.execute("INSERT INTO requests VALUES (?, ?, ?, ?)", row)
            return Decision(True, 0.0, free - cost if commit else free)

    def _one(self, query: str, *arguments: bytes | int) -> int | None:
        row: tuple[int] | None = self._database.execute(query, arguments).fetchone()
        return row[0] if row else None

    def close(self) -> None:
        self._database.close()
        self._directory.cleanup()
