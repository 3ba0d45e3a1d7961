"""A harness that gives every store one interface, so that one suite holds for all: in memory or on a real server.

The harness has a clock of its own, which moves only when told, so that edges are met to the microsecond. On a server
the script's `now_us` reads it from a key instead of TIME (otherwise the scripts are the ones that ship), and keys live
an hour longer, so that real time does not expire what the harness's clock still holds. The TTL that the script asked
for is kept, in milliseconds, beside the counter. The real TIME and the real TTLs have tests of their own, in
`test_server.py`.
"""

from __future__ import annotations

import asyncio
from typing import Any

import redis
import redis.asyncio

from sluicegate import AsyncLimiter, AsyncRedisStore, Decision, Limiter, MemoryStore, RedisStore
from sluicegate._core.keys import NO_KEY, CounterKey, Key
from sluicegate._core.policies import Cost
from sluicegate._core.policy import Policy
from sluicegate._core.request import Charge, Request, Settlement
from sluicegate._stores.redis.script import Scripts
from sluicegate.testing import ManualClock

START = 1_700_000_000.0

_CLOCK = """
local server = redis
local redis = {pcall = server.pcall, call = function(command, key, ...)
  local first, option, told = ...
  local done, now = nil, tonumber(server.call('GET', 'test:clock')) / 1000
  if command == 'PEXPIRE' then
    told = first
    if option == 'GT' and now + told <= tonumber(server.call('GET', key .. ':end') or 0) then return 0 end
    done = server.call(command, key, told + 3600000)
  elseif command == 'SET' then
    done = server.call(command, key, first, option, told + 3600000)
  else
    return server.call(command, key, ...)
  end
  if done ~= 0 then
    server.call('SET', key .. ':ttl', told, 'PX', 3600000)
    server.call('SET', key .. ':end', string.format('%.0f', now + told), 'PX', 3600000)
  end
  return done
end}
local function now_us() return tonumber(redis.call('GET', 'test:clock')) end
"""

# One key for all harnesses, so that a server compiles each script once for the whole run. Two harnesses on one server
# read the same time: that of the one whose clock was set last.
_CLOCK_KEY = "test:clock"
_SCRIPTS = Scripts(_CLOCK)


class Harness:
    """A store with its clock, and limiters on it whose verbs are called the same way, sync or async.

    Args:
        kind: ``memory`` or ``redis``.
        asynchronous: Whether tasks or threads use it.
        client: Of the server, for a harness of kind ``redis``.
        prefix: Of the stored keys.
    """

    def __init__(
        self,
        kind: str,
        *,
        asynchronous: bool = False,
        client: redis.Redis | None = None,
        prefix: str = "test:",
        **options: Any,
    ) -> None:
        self.kind = kind
        self.client = client
        self.prefix = prefix
        self._runner = asyncio.Runner() if asynchronous else None
        self._clock = ManualClock(START)
        self.store: Any
        if kind == "memory":
            self.store = MemoryStore(clock=self._clock, **options)
        else:
            assert client is not None
            # As a user may have it: with decoding in one form and without in the other.
            settings = {**client.connection_pool.connection_kwargs, "decode_responses": asynchronous}
            settings = {name: settings[name] for name in ("host", "port", "db", "decode_responses")}
            own = redis.asyncio.Redis(**settings) if asynchronous else redis.Redis(**settings)
            # Denials are remembered by real time, which a clock moved by hand leaves behind.
            of_redis = AsyncRedisStore if asynchronous else RedisStore
            self.store = of_redis(own, prefix=prefix, timeout=10, denial_ttl=0)
            self._close_client = own.aclose if asynchronous else own.close
            self.store._scripts = _SCRIPTS
            self._tell()

    @property
    def now_us(self) -> int:
        return self._clock.now_us()

    def advance(self, seconds: float) -> None:
        self._clock.advance(seconds)
        if self.kind == "redis":
            self._tell()

    def restart(self) -> None:
        """Put the clock back to where it began; counters stay."""
        self._clock = ManualClock(START)
        self._tell()

    def limiter(self, *policies: Policy | str, **options: Any) -> LimiterAdapter:
        if any(getattr(policy, "lends", False) for policy in policies):
            kind: Any = AsyncLender if self._runner else Lender
        else:
            kind = AsyncLimiter if self._runner else Limiter
        return LimiterAdapter(self, kind(*policies, store=self.store, **options))

    def decide(self, *requests: tuple[Charge, ...], commit: bool = True) -> list[Any]:
        """Decide requests: on a server all in one call of the script, as callers that come at once are.

        What lends permits reserves: there is no other way to take them.
        """
        reserves = commit and any(charge.policy.lends for request in requests for charge in request)
        if self.kind == "memory":
            return [self.run(self.store.decide(Request(request, commit, None, reserves))) for request in requests]
        assert self.client is not None
        if reserves:
            lines = drive(self.client, self.store._reserve([(request,) for request in requests]))
            return [answer for line in lines for answer in line]
        return list(drive(self.client, self.store._decide(list(requests), commit=commit)))

    def reserve(self, *line: tuple[Charge, ...]) -> list[Any]:
        """Decide a line of requests that reserve, up to the first that is denied; in one call."""
        if self.kind == "memory":
            return self.run(self.store.decide_line([Request(request, reserves=True) for request in line]))
        assert self.client is not None
        (answers,) = drive(self.client, self.store._reserve([line]))
        return answers

    def settle(self, *settlements: Settlement) -> list[bool]:
        """Settle charges; in one call."""
        if self.kind == "memory":
            return self.run(self.store.settle(settlements))
        assert self.client is not None
        (found,) = drive(self.client, self.store._settle([settlements]))
        return found

    def run(self, result: Any) -> Any:
        return self._runner.run(_await(result)) if self._runner and hasattr(result, "__await__") else result

    def stored(self) -> dict[bytes, Any]:
        """Read all counters from the server, as they lie there."""
        assert self.client is not None
        stored = self.client.scan_iter(f"{self.prefix}*", count=10_000)
        keys = [key for key in stored if not key.endswith((b":ttl", b":end", b":members"))]
        return {key: self._value(key) for key in keys}

    def _value(self, key: bytes) -> Any:
        assert self.client is not None
        match self.client.type(key):
            case b"list":
                return self.client.lrange(key, 0, -1)
            case b"zset":
                return self.client.zrange(key, 0, -1, withscores=True)
            case _:
                return self.client.get(key)

    def ttl_told(self) -> float | None:
        """Return the seconds that the script gave to the one counter there is, if it did since this was last asked."""
        assert self.client is not None
        (key,) = self.stored()
        told = self.client.getdel(key + b":ttl")
        return None if told is None else int(told) / 1000

    def close(self) -> None:
        if self.kind == "redis":
            self.run(self._close_client())
        if self._runner:
            self._runner.close()

    def _tell(self) -> None:
        assert self.client is not None
        self.client.set(_CLOCK_KEY, self._clock.now_us(), px=3_600_000)


def drive(client: redis.Redis, steps: Any) -> Any:
    """Carry the commands of a store's verb to the server and back, as a pipeline does."""
    reply = None
    while True:
        try:
            command = steps.send(reply)
        except StopIteration as done:
            return done.value
        try:
            reply = client.execute_command(*command)
        except redis.ResponseError as refusal:
            try:
                command = steps.throw(refusal)
            except StopIteration as done:
                return done.value
            reply = client.execute_command(*command)


async def _await(result: Any) -> Any:
    return await result


class Lender(Limiter):
    """A limiter that also takes permits: nobody gives them back or renews them, as if each holder died at once."""

    def take(self, key: Key = NO_KEY, cost: Cost = 1) -> Decision:
        request = self._plan.request(key, cost, True, reserves=True)
        return self._plan.decision(request, self._store.decide(request))

    def allow(self, key: Key = NO_KEY, cost: Cost = 1) -> bool:
        return self.take(key, cost).allowed


class AsyncLender(AsyncLimiter):
    """The twin of `Lender`."""

    async def take(self, key: Key = NO_KEY, cost: Cost = 1) -> Decision:
        request = self._plan.request(key, cost, True, reserves=True)
        return self._plan.decision(request, await self._store.decide(request))

    async def allow(self, key: Key = NO_KEY, cost: Cost = 1) -> bool:
        return (await self.take(key, cost)).allowed


def limiter_of(policy: Policy, store: MemoryStore | RedisStore) -> Limiter:
    """Return a limiter that can take what the policy counts, be it permits."""
    return (Lender if policy.lends else Limiter)(policy, store=store)


class LimiterAdapter:
    """The verbs of a limiter, called the same way for both classes."""

    def __init__(self, harness: Harness, limiter: Limiter | AsyncLimiter) -> None:
        self._harness, self._limiter = harness, limiter

    def allow(self, key: Key = NO_KEY, cost: Cost = 1) -> bool:
        return self._harness.run(self._limiter.allow(key, cost))

    def take(self, key: Key = NO_KEY, cost: Cost = 1) -> Decision:
        return self._harness.run(self._limiter.take(key, cost))

    def peek(self, key: Key = NO_KEY, cost: Cost = 1) -> Decision:
        return self._harness.run(self._limiter.peek(key, cost))

    def forget(self, key: Key) -> None:
        self._harness.run(self._limiter.forget(key))

    def block(self, key: Key, seconds: float) -> None:
        self._harness.run(self._limiter.block(key, seconds))


def charges(*parts: tuple[Policy, CounterKey, int]) -> tuple[Charge, ...]:
    return tuple(Charge(*part) for part in parts)
