"""Limits that a user's function gives, by key: asked, checked, and kept for a while.

What the function raises goes through as it is, and nothing is kept of it. No lock is held while it runs.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from threading import RLock
from types import NoneType

from sluicegate._core.errors import InvalidPolicy, short_repr
from sluicegate._core.keys import CounterKey, Digest, Key, checked_key, memory_key
from sluicegate._core.policy import MAX_UNITS, is_whole
from sluicegate._limiter.callbacks import at_once

Limit = int | Mapping[str, int] | None
"""The limit of the one policy; or by the names of policies; or None, where all keep their own."""

_Name = CounterKey | Digest
_Limits = Mapping[str, int]
_Calls = dict[_Name, asyncio.Task[_Limits]]

_LONGEST_TTL = 86_400


class Limits:
    """What ``function(key)`` says the limits of a key are, kept for ``ttl`` seconds from when it answered.

    Args:
        function: Is given the key as the caller gave it. Returns an int, the limit of the one policy; a mapping from a
            policy's name to its limit, where a policy that is not in it keeps its own; or None, where all keep theirs.
            For tasks it may be async; one that is not holds up the event loop while it runs.
        names: Of the policies, 1 or more.
        ttl: Seconds, a number from 0 to 86 400. With 0 the function is asked each time.
        asynchronous: For tasks, by `of_awaited`; else for threads, by `of`.
        max_keys: How many keys are held at most; the one that was not asked for the longest goes first.
        clock: What the time is read from, seconds.

    Raises:
        InvalidPolicy: The function cannot be called, or is async where threads ask; the ttl is outside its range.
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
        self._function = function if asynchronous else at_once(function, "limits", ": use AsyncLimiter")
        self._names = tuple(names)
        self._ttl = ttl
        self._max_keys = max_keys
        self._clock = clock
        self._held: OrderedDict[_Name, tuple[float, _Limits]] = OrderedDict()
        self._calls: dict[asyncio.AbstractEventLoop, _Calls] = {}
        # Reentrant: a signal's handler may ask while this thread is in here, and must not hang.
        self._lock = RLock()

    def of(self, key: Key) -> _Limits:
        """Return the limits of ``key`` by policy; a policy that is not in it keeps its own.

        Threads that miss one key at once each ask the function: none of them waits for another.

        Raises:
            InvalidKey: The key, or an attribute of it, is no text that can be stored. The function was not asked.
            InvalidPolicy: What the function returned is no limit, or is to be awaited.
        """
        name = _name(key)
        limits = self._look(name)
        if limits is not None:
            return limits
        return self._keep(name, self._function(key))

    async def of_awaited(self, key: Key) -> _Limits:
        """Do as `of` does, for tasks.

        Tasks of one event loop that miss one key at once share one call of an async function, and what it raises. The
        call goes on when a task that waits for it is cancelled. With a ttl of 0 each task has a call of its own. The
        function must not ask for the same key here: it would wait for itself.
        """
        name = _name(key)
        limits = self._look(name)
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
        await asyncio.wait((call,))  # which, unlike awaiting the call, does not cancel it with the task that waits
        return call.result()

    def after_fork(self) -> None:
        """Renew the lock: see `sluicegate._stores.process_local.renew_after_fork`, to which the limiter hands this."""
        self._lock._at_fork_reinit()  # type: ignore[attr-defined] # noqa: SLF001 - as the standard library does it

    def _look(self, name: _Name) -> _Limits | None:
        with self._lock:
            until, limits = self._held.get(name, (0.0, None))
            if limits is None or self._clock() >= until:
                return None
            self._held.move_to_end(name)
            return limits

    def _keep(self, name: _Name, answer: object) -> _Limits:
        limits = self._checked(answer)
        if self._ttl:
            with self._lock:
                self._held[name] = self._clock() + self._ttl, limits
                self._held.move_to_end(name)
                while len(self._held) > self._max_keys:
                    self._held.popitem(last=False)
        return limits

    async def _finish(self, name: _Name, answer: Awaitable[Limit]) -> _Limits:
        return self._keep(name, await answer)

    def _calls_on(self, loop: asyncio.AbstractEventLoop) -> _Calls:
        """Return the calls under way on this loop: those of another one cannot be waited for here."""
        with self._lock:
            if loop not in self._calls:
                for closed in [each for each in self._calls if each.is_closed()]:
                    del self._calls[closed]
                self._calls[loop] = {}
            return self._calls[loop]

    def _checked(self, answer: object) -> _Limits:
        """Copy what the function returned. No message quotes text of it: it may be the key, a user's address."""
        if answer is None:
            return {}
        names = ", ".join(self._names)
        if not isinstance(answer, Mapping):
            if not isinstance(answer, int):
                raise InvalidPolicy(
                    f"limits(...) must return an int, a mapping of policy name to int, or None, got {_came(answer)}"
                )
            if len(self._names) != 1:
                raise InvalidPolicy(
                    f"limits(...) must return a mapping of policy name to int, got {_came(answer)}: there are several "
                    f"policies, {names}"
                )
            answer = {self._names[0]: answer}
        limits: dict[str, int] = {}
        for name, limit in answer.items():
            if name not in self._names:
                raise InvalidPolicy(f"limits(...) must return only names of policies ({names}), got another")
            if not is_whole(limit):
                raise InvalidPolicy(
                    f"limits(...) must return an int from 1 to {MAX_UNITS} for the policy {name}, got {_came(limit)}"
                )
            limits[name] = int(limit)
        return limits


def _name(key: Key) -> _Name:
    """Return what a key is held under: attributes in one order, as a tuple, which no plain key is equal to."""
    if isinstance(key, str) or not isinstance(key, Mapping):
        return memory_key(checked_key(key))
    items = sorted((checked_key(attribute), checked_key(value, attribute)) for attribute, value in key.items())
    return memory_key(tuple(part for item in items for part in item))


def _end(calls: _Calls, name: _Name, call: asyncio.Task[_Limits], answer: Awaitable[Limit]) -> None:
    if calls.get(name) is call:
        del calls[name]
    if isinstance(answer, Coroutine):
        answer.close()  # cancelled before its first step, the call did not await it
    if not call.cancelled():
        call.exception()  # seen: if all who waited were cancelled, the next one asks again and is told


def _came(answer: object) -> str:
    return short_repr(answer) if type(answer) in (int, bool, float, NoneType) else f"a {type(answer).__name__}"
