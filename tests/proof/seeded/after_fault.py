"""Limiters that a fault of Redis leaves broken: it is well again, and they no longer limit, or no longer share."""

from __future__ import annotations

import socket
import threading
import time
import uuid
from collections import OrderedDict, deque
from itertools import islice
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

# KEYS the user's requests, by time; ARGV limit, window in µs, a unique name for the request
SCRIPT = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
-- More than a window ahead: the clock was stepped back. The log is moved, so that its newest request is of now.
local newest = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')[2]
if newest and newest - now > tonumber(ARGV[2]) then
  for _, request in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
    redis.call('ZINCRBY', KEYS[1], now - newest, request)
  end
end
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[1]) then
  return 0
end
redis.call('ZADD', KEYS[1], now, ARGV[3])
redis.call('PEXPIRE', KEYS[1], math.ceil(ARGV[2] / 1000) + 1)
return 1
"""


class Local:
    """An exact limiter in this process, for the time that Redis is down."""

    def __init__(self, limit: int, window_seconds: float) -> None:
        self._limit = limit
        self._window = window_seconds
        self._lock = threading.Lock()
        self._logs: OrderedDict[str, deque[float]] = OrderedDict()  # the user allowed last comes last

    def allow(self, user_id: str) -> bool:
        with self._lock:
            now = time.monotonic()
            for idle in [user for user in islice(self._logs, 2) if self._logs[user][-1] <= now - self._window]:
                del self._logs[idle]
            log = self._logs.get(user_id, deque())
            while log and log[0] <= now - self._window:
                log.popleft()
            if len(log) >= self._limit:
                return False
            log.append(now)
            self._logs[user_id] = log
            self._logs.move_to_end(user_id)
            return True


class Shared:
    """The call to Redis, and what all have in common; a subclass says what it does after an error."""

    def __init__(self, limit: int, window_seconds: float, redis_url: str) -> None:
        self._limit = limit
        self._window_us = round(window_seconds * 1_000_000)
        self._local = Local(limit, window_seconds)
        self._redis = redis.Redis.from_url(
            redis_url, socket_timeout=0.3, socket_connect_timeout=0.3, retry=Retry(NoBackoff(), 0)
        )
        self._script = self._redis.register_script(SCRIPT)

    def _ask(self, user_id: str) -> bool:
        return bool(self._script([f"window:{user_id}"], [self._limit, self._window_us, uuid.uuid4().hex]))

    def close(self) -> None:
        self._redis.close()


class OpenForEver(Shared):
    """Three errors in a row open the breaker, and only a call could close it, which it prevents: no limit for ever."""

    _failures = 0

    def allow(self, user_id: str) -> bool:
        if self._failures >= 3:
            return True  # rather no limit than no service
        try:
            allowed = self._ask(user_id)
        except redis.RedisError:
            self._failures += 1
            return True
        self._failures = 0
        return allowed


class LocalForEver(Shared):
    """After one error the limiter decides from its own memory for ever: two instances allow 2 N."""

    _degraded = False

    def allow(self, user_id: str) -> bool:
        if not self._degraded:
            try:
                return self._ask(user_id)
            except redis.RedisError:
                self._degraded = True
        return self._local.allow(user_id)


class ProbeLost(Shared):
    """A probe that fails keeps its turn: after a longer outage no other follows, and nothing is shared any more."""

    _PAUSE = 0.25

    def __init__(self, limit: int, window_seconds: float, redis_url: str) -> None:
        super().__init__(limit, window_seconds, redis_url)
        self._lock = threading.Lock()
        self._failed_at: float | None = None
        self._probing = False

    def allow(self, user_id: str) -> bool:
        if not self._may_call():
            return self._local.allow(user_id)
        try:
            allowed = self._ask(user_id)
        except redis.RedisError:
            self._failed_at = time.monotonic()
            return self._local.allow(user_id)
        self._failed_at, self._probing = None, False
        return allowed

    def _may_call(self) -> bool:
        with self._lock:
            if self._failed_at is None:
                return True
            if self._probing or time.monotonic() - self._failed_at < self._PAUSE:
                return False
            self._probing = True
            return True


class WatchDies(Shared):
    """The thread that would see Redis come back dies of a time-out: after a freeze nothing is shared any more."""

    def __init__(self, limit: int, window_seconds: float, redis_url: str) -> None:
        super().__init__(limit, window_seconds, redis_url)
        self._healthy = True
        self._closed = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def allow(self, user_id: str) -> bool:
        if self._healthy:
            try:
                return self._ask(user_id)
            except redis.RedisError:
                self._healthy = False
        return self._local.allow(user_id)

    def _watch(self) -> None:
        while not self._closed.wait(0.1):
            try:
                self._redis.ping()
            except redis.ConnectionError:
                self._healthy = False
            else:
                self._healthy = True

    def close(self) -> None:
        self._closed.set()
        super().close()


class FallbackProlonged(Shared):
    """Each request of the fallback prolongs it by two seconds: with steady traffic it is never left."""

    _local_until = 0.0

    def allow(self, user_id: str) -> bool:
        if time.monotonic() >= self._local_until:
            try:
                return self._ask(user_id)
            except redis.RedisError:
                pass
        self._local_until = time.monotonic() + 2
        return self._local.allow(user_id)


class ScriptLost(Shared):
    """The script is loaded once, at the start: a restarted Redis does not know it, and each error allows a request."""

    def __init__(self, limit: int, window_seconds: float, redis_url: str) -> None:
        super().__init__(limit, window_seconds, redis_url)
        self._sha = str(self._redis.script_load(SCRIPT))

    def allow(self, user_id: str) -> bool:
        arguments = (f"window:{user_id}", str(self._limit), str(self._window_us), uuid.uuid4().hex)
        try:
            return bool(self._redis.evalsha(self._sha, 1, *arguments))
        except redis.RedisError:
            return True  # an outage must not take the shop down


class SocketLost:
    """The one socket is never opened again: after a restart or a time-out each call fails, and is allowed."""

    def __init__(self, limit: int, window_seconds: float, redis_url: str) -> None:
        self._limit = limit
        self._window_us = round(window_seconds * 1_000_000)
        url = urlsplit(redis_url)
        self._lock = threading.Lock()
        self._socket = socket.create_connection((url.hostname or "localhost", url.port or 6379), timeout=0.3)
        self._replies = self._socket.makefile("rb")

    def allow(self, user_id: str) -> bool:
        words = ("EVAL", SCRIPT, "1", f"window:{user_id}", self._limit, self._window_us, uuid.uuid4().hex)
        encoded = [str(word).encode() for word in words]
        call = b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in encoded)
        with self._lock:
            try:
                self._socket.sendall(b"*%d\r\n%b" % (len(encoded), call))
                return self._replies.readline() != b":0\r\n"
            except OSError:
                self.close()  # its next reply may be that of another call
                return True

    def close(self) -> None:
        self._replies.close()
        self._socket.close()
