"""Limits by key, from a user's function: called, checked, and cached for a while.

What the function raises propagates unchanged and is not cached. No lock is held while it runs.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from threading import RLock

from sluicegate._core.errors import InvalidPolicy, short_repr, type_repr
from sluicegate._core.keys import CounterKey, Digest, Key, checked_key, memory_key
from sluicegate._core.policy import MAX_UNITS, is_whole
from sluicegate._limiter.callbacks import synchronous

Limit = int | Mapping[str, int] | None
"""The limit of the only policy; or a mapping from policy names; or None, where all policies keep their own.

A limit of 0 denies every request.
"""

_CacheKey = CounterKey | Digest
_Limits = Mapping[str, int]
_Calls = dict[_CacheKey, asyncio.Task[_Limits]]

_LONGEST_TTL = 86_400


class Limits:
    """The limits that ``function(key)`` returns, each kept for ``ttl`` seconds.

    Args:
        function: Called with the key as the caller gave it. Returns an int, the limit of the only policy; a mapping
            from policy names to limits, where a policy that is not in it keeps its own; or None, where all keep theirs.
            For tasks it may be async; one that is not holds up the event loop while it runs.
        names: The policies' names, at least one.
        ttl: Seconds, 0 to 86 400. With 0 the function is called every time.
        asynchronous: Whether tasks use it, through `of_awaited`; else threads do, through `of`.
        max_keys: The most keys to hold; the least recently used one goes first.
        clock: Returns the time, seconds.

    Raises:
        InvalidPolicy: The function is not callable, or is async where threads use it; or the ttl is outside its range.
    """

    def __init__(
        self,
        function: Callable[[Key], Limit | Awaitable[Limit]],
        *,
        names: Sequence[str],
        ttl: float,
        asynchronous: bool,
        max_keys: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not callable(function):
            raise InvalidPolicy(f"limits must be a function of a key, got {short_repr(function)}")
        # NaN fails the comparison, and an int too large for a float is no matter.
        if not isinstance(ttl, (int, float)) or isinstance(ttl, bool) or not 0 <= ttl <= _LONGEST_TTL:
            raise InvalidPolicy(
                f"limits_ttl must be a number of seconds from 0 to {_LONGEST_TTL}, got {short_repr(ttl)}"
            )
        self._function = function if asynchronous else synchronous(function, "limits", ": use AsyncLimiter")
        self._names = tuple(names)
        self._ttl = ttl
        self._max_keys = max_keys
        self._clock = clock
        self._cached: OrderedDict[_CacheKey, tuple[float, _Limits]] = OrderedDict()
        self._calls: dict[asyncio.AbstractEventLoop, _Calls] = {}
        # Reentrant: a signal handler may call this while its own thread holds it.
        self._lock = RLock()

    def of(self, key: Key) -> _Limits:
        """Return the limits of ``key`` by policy name; a policy that is not in it keeps its own.

        Threads that miss the same key at once each call the function: none waits for another.

        Raises:
            InvalidKey: The key, or the value of an attribute, is not valid text. The function was not called.
            InvalidPolicy: The function returned an invalid limit, or an awaitable.
        """
        name = _cache_key(key)
        limits = self._cached_limits(name)
        if limits is not None:
            return limits
        return self._keep(name, self._function(key))

    async def of_awaited(self, key: Key) -> _Limits:
        """Return the limits of ``key``, for tasks.

        Tasks of one event loop that miss the same key at once share one call of an async function, and what it raises.
        The call goes on when a task that waits for it is cancelled. With a ttl of 0 each task makes its own call. The
        function must not use this limiter for the same key: it would wait for itself.
        """
        name = _cache_key(key)
        limits = self._cached_limits(name)
        if limits is not None:
            return limits
        loop = asyncio.get_running_loop()
        calls = self._calls_on(loop)
        call = calls.get(name)
        if call is None or call.done():
            answer = self._function(key)
            if not inspect.isawaitable(answer):
                return self._keep(name, answer)
            if not self._ttl:
                return self._keep(name, await answer)
            call = calls[name] = loop.create_task(self._finish(name, answer))
            call.add_done_callback(lambda call: _end(calls, name, call, answer))
        await asyncio.wait((call,))  # unlike awaiting the call, this does not cancel it with the waiting task
        return call.result()

    def after_fork(self) -> None:
        """Make the lock anew, in a forked child."""
        self._lock._at_fork_reinit()  # type: ignore[attr-defined] # noqa: SLF001 - as the standard library does it

    def _cached_limits(self, name: _CacheKey) -> _Limits | None:
        with self._lock:
            until, limits = self._cached.get(name, (0.0, None))
            if limits is None or self._clock() >= until:
                return None
            self._cached.move_to_end(name)
            return limits

    def _keep(self, name: _CacheKey, answer: object) -> _Limits:
        limits = self._checked(answer)
        if self._ttl:
            with self._lock:
                self._cached[name] = self._clock() + self._ttl, limits
                self._cached.move_to_end(name)
                while len(self._cached) > self._max_keys:
                    self._cached.popitem(last=False)
        return limits

    async def _finish(self, name: _CacheKey, answer: Awaitable[Limit]) -> _Limits:
        return self._keep(name, await answer)

    def _calls_on(self, loop: asyncio.AbstractEventLoop) -> _Calls:
        """Return the calls in progress on this loop: those of another loop cannot be awaited here."""
        with self._lock:
            if loop not in self._calls:
                for closed in [each for each in self._calls if each.is_closed()]:
                    del self._calls[closed]
                self._calls[loop] = {}
            return self._calls[loop]

    def _checked(self, answer: object) -> _Limits:
        """Return a checked copy of what the function returned. No message quotes text: it may be a user's address."""
        if answer is None:
            return {}
        names = ", ".join(self._names)
        if not isinstance(answer, Mapping):
            if not isinstance(answer, int):
                raise InvalidPolicy(
                    f"limits(...) must return an int, a mapping of policy name to int, or None, got {type_repr(answer)}"
                )
            if len(self._names) != 1:
                raise InvalidPolicy(
                    f"limits(...) must return a mapping of policy name to int, got {type_repr(answer)}: there are "
                    f"several policies, {names}"
                )
            answer = {self._names[0]: answer}
        limits: dict[str, int] = {}
        for name, limit in answer.items():
            if name not in self._names:
                raise InvalidPolicy(f"limits(...) must return only policy names ({names}), got another name")
            if not (is_whole(limit) or _is_zero(limit)):
                raise InvalidPolicy(
                    f"limits(...) must return an int from 0 to {MAX_UNITS} for the policy {name}, got "
                    f"{type_repr(limit)}"
                )
            limits[name] = int(limit)
        return limits


def _is_zero(limit: object) -> bool:
    return isinstance(limit, int) and not isinstance(limit, bool) and limit == 0


def _cache_key(key: Key) -> _CacheKey:
    """Return what a key is cached under: attributes in one order, as a tuple, which no plain key is equal to."""
    if isinstance(key, str) or not isinstance(key, Mapping):
        return memory_key(checked_key(key))
    items = sorted((checked_key(attribute), checked_key(value, attribute)) for attribute, value in key.items())
    return memory_key(tuple(part for item in items for part in item))


def _end(calls: _Calls, name: _CacheKey, call: asyncio.Task[_Limits], answer: Awaitable[Limit]) -> None:
    if calls.get(name) is call:
        del calls[name]
    if isinstance(answer, Coroutine):
        answer.close()  # only if the call was cancelled before its first step: nobody awaited the answer
    if not call.cancelled():
        call.exception()  # retrieved: if every waiting task was cancelled, the next one calls again and sees it
