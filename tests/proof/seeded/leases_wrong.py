"""Limits on concurrent calls, ``Name(limit, ttl_seconds)``, whose leases are wrong.

``acquire`` returns a permit, or None if all are lent. A permit that is neither renewed nor released ends by itself.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import OrderedDict
from contextlib import suppress
from itertools import count, islice

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry


class Permit:
    def __init__(self, limiter: Correct, user_id: str, number: int) -> None:
        self._limiter = limiter
        self._user_id = user_id
        self._number = number

    def renew(self) -> bool:
        return self._limiter.renew(self._user_id, self._number)

    def release(self) -> None:
        self._limiter.release(self._user_id, self._number)


class Correct:
    def __init__(self, limit: int, ttl_seconds: float) -> None:
        self._limit = limit
        self._ttl_ns = round(ttl_seconds * 1e9)
        self._lock = threading.Lock()
        self._numbers = count()
        # Leases by number, with their ends; in order of their ends, as all last equally long.
        self._leases: OrderedDict[str, OrderedDict[int, int]] = OrderedDict()

    def acquire(self, user_id: str) -> Permit | None:
        with self._lock:
            for idle in list(islice(self._leases, 2)):
                self._end(idle)
            leases = self._end(user_id)
            if len(leases) >= self._limit:
                return None
            return self._lend(user_id, leases)

    def renew(self, user_id: str, number: int) -> bool:
        with self._lock:
            leases = self._end(user_id)
            if number not in leases:
                return False
            leases[number] = time.monotonic_ns() + self._ttl_ns
            leases.move_to_end(number)
            self._leases.move_to_end(user_id)
            return True

    def release(self, user_id: str, number: int) -> None:
        with self._lock:
            leases = self._end(user_id)
            leases.pop(number, None)
            if not leases:
                self._leases.pop(user_id, None)

    def _lend(self, user_id: str, leases: OrderedDict[int, int]) -> Permit:
        number = next(self._numbers)
        leases[number] = time.monotonic_ns() + self._ttl_ns
        self._leases[user_id] = leases
        self._leases.move_to_end(user_id)
        return Permit(self, user_id, number)

    def _end(self, user_id: str) -> OrderedDict[int, int]:
        leases = self._leases.get(user_id, OrderedDict())
        now = time.monotonic_ns()
        while leases and next(iter(leases.values())) <= now:
            leases.popitem(last=False)
        if not leases:
            self._leases.pop(user_id, None)
        return leases


class ReleaseTwice(Correct):
    """A release takes off one lease, whichever it is: releasing a permit twice frees that of somebody else."""

    def release(self, user_id: str, number: int) -> None:
        with self._lock:
            leases = self._end(user_id)
            if number in leases:
                del leases[number]
            elif leases:
                leases.popitem(last=False)
            if not leases:
                self._leases.pop(user_id, None)


class LeaseNeverEnds(Correct):
    """A lease has no end: a holder that crashes keeps its permit for ever, and in time all are lost."""

    def _end(self, user_id: str) -> OrderedDict[int, int]:
        return self._leases.get(user_id, OrderedDict())


class ReleaseAfterEnd(Correct):
    """The slot of an ended lease is lent again, and its late release frees the slot under the new holder."""

    def _lend(self, user_id: str, leases: OrderedDict[int, int]) -> Permit:
        slot = next(slot for slot in range(self._limit) if slot not in leases)
        leases[slot] = time.monotonic_ns() + self._ttl_ns
        self._leases[user_id] = leases
        self._leases.move_to_end(user_id)
        return Permit(self, user_id, slot)


class RenewRevives(Correct):
    """Renewing an ended lease lends it again without counting: with N new holders there are N + 1."""

    def renew(self, user_id: str, number: int) -> bool:
        with self._lock:
            leases = self._end(user_id)
            leases[number] = time.monotonic_ns() + self._ttl_ns
            leases.move_to_end(number)
            self._leases[user_id] = leases
            self._leases.move_to_end(user_id)
            return True


class RenewAdds(Correct):
    """Each renewal adds a whole TTL to what is left: a holder that renews often and crashes is held for hours."""

    def renew(self, user_id: str, number: int) -> bool:
        with self._lock:
            leases = self._end(user_id)
            if number not in leases:
                return False
            leases[number] += self._ttl_ns
            self._leases[user_id] = OrderedDict(sorted(leases.items(), key=lambda lease: lease[1]))
            self._leases.move_to_end(user_id)
            return True


class CountsThenLends(Correct):
    """Permits are counted in one step and lent in another: threads that come together all get the last one."""

    def acquire(self, user_id: str) -> Permit | None:
        with self._lock:
            for idle in list(islice(self._leases, 2)):
                self._end(idle)
            lent = len(self._end(user_id))
        if lent >= self._limit:
            return None
        with self._lock:
            return self._lend(user_id, self._leases.get(user_id, OrderedDict()))


class RedisPermit:
    def __init__(self, limiter: RedisOneTtlForAll, user_id: str, name: str) -> None:
        self._limiter = limiter
        self._user_id = user_id
        self._name = name

    def renew(self) -> bool:
        return self._limiter.renew(self._user_id, self._name)

    def release(self) -> None:
        self._limiter.release(self._user_id, self._name)


# KEYS the user's leases; ARGV limit, TTL in ms, a name for the lease
ACQUIRE = """
if redis.call('SCARD', KEYS[1]) >= tonumber(ARGV[1]) then
  return 0
end
redis.call('SADD', KEYS[1], ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
"""

# KEYS the user's leases; ARGV TTL in ms, the name of the lease
RENEW = """
if redis.call('SISMEMBER', KEYS[1], ARGV[2]) == 0 then
  return 0
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1
"""


class RedisOneTtlForAll:
    """All leases of a user share the TTL of one key: the lease of a crashed holder lasts while others come and go."""

    def __init__(self, limit: int, ttl_seconds: float, redis_url: str) -> None:
        self._limit = limit
        self._ttl_ms = round(ttl_seconds * 1000)
        self._redis = redis.Redis.from_url(
            redis_url, socket_timeout=0.3, socket_connect_timeout=0.3, retry=Retry(NoBackoff(), 0)
        )
        self._acquire = self._redis.register_script(ACQUIRE)
        self._renew = self._redis.register_script(RENEW)

    def acquire(self, user_id: str) -> RedisPermit | None:
        name = uuid.uuid4().hex
        try:
            lent = self._acquire([f"leases:{user_id}"], [self._limit, self._ttl_ms, name])
        except redis.RedisError:
            return None
        return RedisPermit(self, user_id, name) if lent == 1 else None

    def renew(self, user_id: str, name: str) -> bool:
        try:
            return bool(self._renew([f"leases:{user_id}"], [self._ttl_ms, name]) == 1)
        except redis.RedisError:
            return False

    def release(self, user_id: str, name: str) -> None:
        with suppress(redis.RedisError):
            self._redis.srem(f"leases:{user_id}", name)

    def close(self) -> None:
        self._redis.close()
