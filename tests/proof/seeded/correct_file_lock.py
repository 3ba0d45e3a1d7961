"""Correct, in files: a ring of times for each user, guarded by `flock`, and deleted once it is idle."""

from __future__ import annotations

import fcntl
import hashlib
import math
import os
import struct
import tempfile
import threading
import time
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

NUMBER = struct.Struct("<q")


class Decision(NamedTuple):
    allowed: bool
    retry_after: float
    remaining: int


class Ring:
    """The open file of a user: the number of all units ever taken, then the times of the last ``limit`` of them."""

    def __init__(self, file: int, limit: int) -> None:
        self._file = file
        self._limit = limit

    def _read(self, slot: int) -> int:
        stored = os.pread(self._file, NUMBER.size, slot * NUMBER.size)
        return int(NUMBER.unpack(stored)[0]) if stored else 0

    @property
    def total(self) -> int:
        return self._read(0)

    def at(self, unit: int) -> int:
        return self._read(1 + unit % self._limit)

    def add(self, now: int, units: int) -> None:
        total = self.total
        for unit in range(total, total + units):
            os.pwrite(self._file, NUMBER.pack(now), (1 + unit % self._limit) * NUMBER.size)
        os.pwrite(self._file, NUMBER.pack(total + units), 0)


class FileWindow:
    """Allows each user at most ``limit`` units in any ``window_seconds``, for this process and those forked from it."""

    def __init__(self, limit: int, window_seconds: float) -> None:
        self._limit = limit
        self._window_ns = round(window_seconds * 1e9)
        self._directory = tempfile.TemporaryDirectory(prefix="window-")
        self._sweeping = threading.Lock()
        self._entries = os.scandir(self._directory.name)

    def allow(self, user_id: str, cost: int = 1) -> bool:
        return self.take(user_id, cost).allowed

    def take(self, user_id: str, cost: int = 1) -> Decision:
        if cost < 1:
            raise ValueError(f"cost must be 1 or more, got {cost}")
        self._forget_idle()
        name = hashlib.blake2b(user_id.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        with self._locked(Path(self._directory.name) / name, os.O_CREAT) as file:
            now = time.monotonic_ns()
            ring = Ring(file, self._limit)
            decision = self._decide(ring, cost, now)
            if decision.allowed:
                ring.add(now, cost)
            return decision

    def _decide(self, ring: Ring, cost: int, now: int) -> Decision:
        total = ring.total
        kept = range(max(0, total - self._limit), total)
        used = len(kept) - bisect_right(kept, now - self._window_ns, key=ring.at)
        free = self._limit - used
        if cost <= free:
            return Decision(True, 0.0, free - cost)
        if cost > self._limit:
            return Decision(False, math.inf, free)
        return Decision(False, (ring.at(total - self._limit + cost - 1) + self._window_ns - now) / 1e9, free)

    @contextmanager
    def _locked(self, path: Path, flags: int) -> Iterator[int]:
        while True:
            file = os.open(path, os.O_RDWR | flags, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                if os.fstat(file).st_nlink:  # else it was deleted while this waited for the lock
                    yield file
                    return
            finally:
                os.close(file)

    def _forget_idle(self) -> None:
        # Three files a call, in rounds through the folder; a single thread at a time.
        if not self._sweeping.acquire(blocking=False):
            return
        try:
            for _ in range(3):
                entry = next(self._entries, None)
                if entry is None:
                    self._entries = os.scandir(self._directory.name)
                    return
                self._delete_if_idle(Path(entry.path))
        finally:
            self._sweeping.release()

    def _delete_if_idle(self, path: Path) -> None:
        try:
            with self._locked(path, 0) as file:
                ring = Ring(file, self._limit)
                if not ring.total or ring.at(ring.total - 1) <= time.monotonic_ns() - self._window_ns:
                    path.unlink()
        except FileNotFoundError:
            return

    def close(self) -> None:
        self._entries.close()
        self._directory.cleanup()
