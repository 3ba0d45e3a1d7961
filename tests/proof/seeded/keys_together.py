"""Limiters that count different users under one key, so that one user uses up another's limit."""

from __future__ import annotations

import threading
import time
import unicodedata
import urllib.parse
import zlib
from collections import OrderedDict, deque
from itertools import islice
from typing import ClassVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry


class Correct:
    def __init__(self, limit: int, window_seconds: float) -> None:
        self._limit = limit
        self._window_ns = round(window_seconds * 1e9)
        self._lock = threading.Lock()
        self._logs: OrderedDict[str, deque[int]] = OrderedDict()  # the user allowed last comes last

    def allow(self, user_id: str) -> bool:
        key = self._key(user_id)
        with self._lock:
            now = time.monotonic_ns()
            self._forget_idle(now)
            log = self._logs.get(key, deque())
            while log and log[0] <= now - self._window_ns:
                log.popleft()
            if len(log) >= self._limit:
                return False
            log.append(now)
            self._logs[key] = log
            self._logs.move_to_end(key)
            return True

    def _key(self, user_id: str) -> str:
        return user_id

    def _forget_idle(self, now: int) -> None:
        for key in list(islice(self._logs, 2)):
            log = self._logs[key]
            if log and log[-1] > now - self._window_ns:
                return
            del self._logs[key]


class KeySpacesRemoved(Correct):
    """Spaces within an id are removed: "ann b" and "an nb" share one limit."""

    def _key(self, user_id: str) -> str:
        return user_id.replace(" ", "")


class KeyNumber(Correct):
    """Ids that read as whole numbers are parsed: 7, 007, "+7" and 1_000, 1000 share one limit."""

    def _key(self, user_id: str) -> str:
        try:
            return str(int(user_id))
        except ValueError:
            return user_id


class KeyFloat(Correct):
    """Numeric ids go through a float: 1e3 is 1000, and ids above 2 ** 53 share a limit with their neighbours."""

    def _key(self, user_id: str) -> str:
        try:
            return repr(float(user_id))
        except ValueError:
            return user_id


class KeyCut250(Correct):
    """Ids are cut at 250 characters: long tokens with a common beginning share one limit."""

    def _key(self, user_id: str) -> str:
        return user_id[:250]


class KeyHash16(Correct):
    """Ids are kept as 16 bits of a checksum: among a few hundred users two share a limit."""

    def _key(self, user_id: str) -> str:
        return f"{zlib.crc32(user_id.encode('utf-8', 'surrogatepass')) & 0xFFFF:04x}"


class KeySlots(Correct):
    """Ids are spread over 4096 slots by ``hash()``: users in the same slot share one limit."""

    def _key(self, user_id: str) -> str:
        return str(hash(user_id) % 4096)


class KeyCaseFolded(Correct):
    """Ids are case-folded, for e-mail addresses: "Strasse", "straße" and "STRASSE" share one limit."""

    def _key(self, user_id: str) -> str:
        return user_id.casefold()


class KeyComposed(Correct):
    """Ids are brought to NFC: a letter with a combining accent and the single character share one limit."""

    def _key(self, user_id: str) -> str:
        return unicodedata.normalize("NFC", user_id)


class KeyCompatible(Correct):
    """Ids are brought to NFKC: a full-width "a" counts as "a", and "x²" as "x2"."""

    def _key(self, user_id: str) -> str:
        return unicodedata.normalize("NFKC", user_id)


class KeyDecoded(Correct):
    """Ids are URL-decoded: "a%2Fb" and "a/b" share one limit."""

    def _key(self, user_id: str) -> str:
        return urllib.parse.unquote(user_id)


class KeyAscii(Correct):
    """Characters outside ASCII are dropped: all users with names in another script share one limit."""

    def _key(self, user_id: str) -> str:
        return user_id.encode("ascii", "ignore").decode()


class LogsOfTheClass(Correct):
    """The logs belong to the class: two limiters in one process count together, each under its own limit."""

    _shared: ClassVar[OrderedDict[str, deque[int]]] = OrderedDict()
    _shared_lock = threading.Lock()

    def __init__(self, limit: int, window_seconds: float) -> None:
        super().__init__(limit, window_seconds)
        self._logs = self._shared
        self._lock = self._shared_lock


# KEYS the user's requests, by time, and a counter for their names; ARGV limit, window in µs
SCRIPT = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[1]) then
  return 0
end
redis.call('ZADD', KEYS[1], now, redis.call('INCR', KEYS[2]))
for _, key in ipairs(KEYS) do
  redis.call('PEXPIRE', key, math.ceil(ARGV[2] / 1000) + 1)
end
return 1
"""


class RedisCompanionKey:
    """User "ann:seq" has the key of ann's counter: after one request of ann's, each of that user's is denied."""

    def __init__(self, limit: int, window_seconds: float, redis_url: str) -> None:
        self._limit = limit
        self._window_us = round(window_seconds * 1_000_000)
        self._redis = redis.Redis.from_url(
            redis_url, socket_timeout=0.3, socket_connect_timeout=0.3, retry=Retry(NoBackoff(), 0)
        )
        self._script = self._redis.register_script(SCRIPT)

    def allow(self, user_id: str) -> bool:
        keys = [key.encode("utf-8", "surrogatepass") for key in (f"rate:{user_id}", f"rate:{user_id}:seq")]
        try:
            return bool(self._script(keys, [self._limit, self._window_us]) == 1)
        except redis.RedisError:
            return False

    def close(self) -> None:
        self._redis.close()


class RedisKeyHashTag(RedisCompanionKey):
    """Braces in an id are removed, as the key has its own for the cluster: "a}b" and "ab" share one limit."""

    def allow(self, user_id: str) -> bool:
        tag = user_id.replace("{", "").replace("}", "")
        keys = [f"rate:{{{tag}}}:{part}".encode("utf-8", "surrogatepass") for part in ("log", "seq")]
        try:
            return bool(self._script(keys, [self._limit, self._window_us]) == 1)
        except redis.RedisError:
            return False
