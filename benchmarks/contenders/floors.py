"""Floors: the least that a decision could be, in memory and on the wire."""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from urllib.parse import urlsplit

import hiredis

FLOOR = "a lock and a clock"
DEQUE = "bare deque"
PIPE = "bare hiredis, pipelines of 64"


class Floor:
    """A lock and a clock, and no decision."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def allow(self, _: str) -> bool:
        with self._lock:
            time.monotonic_ns()
        return True


class BareDeque:
    """The least that an exact log for unit costs can be: one deque a key, one lock, one policy, nothing given back."""

    def __init__(self, limit: int, window: float) -> None:
        self._lock = threading.Lock()
        self._limit, self._window_ns = limit, int(window * 1e9)
        self._logs: dict[str, deque[int]] = {}

    def allow(self, key: str) -> bool:
        with self._lock:
            now = time.monotonic_ns()
            log = self._logs.get(key)
            if log is None:
                log = self._logs[key] = deque()
            while log and log[0] <= now - self._window_ns:
                log.popleft()
            if len(log) >= self._limit:
                return False
            log.append(now)
            return True


class Pipe:
    """A blocking socket and hiredis: each command is packed, all are sent at once, and all replies are read."""

    def __init__(self, url: str, *command: str) -> None:
        parts = urlsplit(url)
        self._socket = socket.create_connection((parts.hostname, parts.port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._command = command

    def batch(self, size: int) -> None:
        self._socket.sendall(b"".join([hiredis.pack_command(self._command) for _ in range(size)]))
        reader, left = hiredis.Reader(), size
        while left:
            reader.feed(self._socket.recv(65_536))
            while reader.gets() is not False:
                left -= 1

    def close(self) -> None:
        self._socket.close()
