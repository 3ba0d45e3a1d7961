"""`LoadedTarget`: the target's limiter in this process, with one way to call any of its methods."""

import asyncio
import copy
import inspect
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from .answers import Answer, read, seconds
from .descriptions import Unusable, parameters, takes
from .held import Held, Permits, awaited
from .loading import check_call, find, takes_redis
from .service import Service

_Result = TypeVar("_Result")
_VERBS = {"take": 1, "peek": 1, "wait": 1, "retry_after": 1, "reserve": 2}
"""The methods that a target may have beside ``allow``, and how many arguments each can be called with."""

ENDS = ("settle", "cancel", "release", "renew")
"""The methods of what ``reserve`` and ``acquire`` return. They answer nothing that counts."""

OnUnexpected = Callable[[object], None]
"""Called with an answer of ``allow`` that is not a bool, or of ``wait`` that is a number."""


class LoadedTarget:
    """The target, imported and constructed.

    Args:
        where: What to load: ``file`` or ``module``, and ``name``; or ``url`` and what else a request has.
        limit: Units per window.
        window: Seconds.
        redis_url: For a target that takes one; without it such a target is inspected, not constructed.
        asynchronous: True if its methods are known to be awaitable, whatever they look like.

    Attributes:
        limiter: The limiter; None if it was not constructed.
        asynchronous: Whether its methods must be awaited. For a plain ``def`` its first answer shows it.
        file: The file that the target is in; empty if there is none.

    Raises:
        Unusable: The target cannot be graded.
        Exception: Any error that its import or its constructor raises.
    """

    def __init__(
        self, where: Mapping[str, Any], limit: int, window: float, redis_url: str | None, *, asynchronous: bool
    ) -> None:
        self.limiter: Any = None
        self.asynchronous, self.file = asynchronous, ""
        self._has = dict.fromkeys(_VERBS, False)
        self._loop_lock = threading.Lock()
        self._held: dict[str, Held] = {}
        self._permits = Permits()
        self._lends = False
        self._takes_redis = False
        self._runner: asyncio.Runner | None = None
        if "url" in where:
            self.limiter = Service(where)
            self._has["take"] = True
            return
        factory, self.file = find(where)
        self._factory = factory
        self._takes_redis = takes_redis(factory)
        if self._takes_redis and not redis_url:
            return
        arguments: list[object] = [limit, window, redis_url] if self._takes_redis else [limit, window]
        check_call(where["name"], factory, arguments)
        self.limiter = self._construct(factory, arguments)
        self._lends = not callable(getattr(self.limiter, "allow", None))
        decide = getattr(self.limiter, "acquire" if self._lends else "allow", None)
        if not callable(decide):
            raise Unusable(f"has no method allow(user_id): {where['name']}")
        self.asynchronous = asynchronous or _is_asynchronous(decide)
        self._has = {verb: takes(getattr(self.limiter, verb, None), arguments) for verb, arguments in _VERBS.items()}

    def _construct(self, factory: Any, arguments: list[object]) -> Any:
        if (
            not self.asynchronous
            and not _is_asynchronous(factory)
            and not _is_asynchronous(getattr(factory, "allow", None))
        ):
            return factory(*arguments)

        # An application that awaits its methods also constructs it on a running loop.
        async def make() -> Any:
            return await awaited(factory(*arguments))

        return self.run(make())

    def beside(self, limit: int, window: float) -> "LoadedTarget":
        """Construct another limiter in memory, as an application does that has two; it shares the event loop."""
        other = copy.copy(self)
        other.limiter = self._construct(self._factory, [limit, window])
        return other

    def run(self, awaitable: Awaitable[_Result]) -> _Result:
        """Run an awaitable on the target's event loop; there is only one."""

        async def wrapped() -> _Result:
            return await awaitable

        if self._runner is None:
            self._runner = asyncio.Runner()
        return self._runner.run(wrapped())

    def abilities(self) -> dict[str, bool]:
        """Return which methods there are beside ``allow``, and what they take."""
        found = dict(self._has)
        found["acquire"] = self._lends
        found["cost"] = "cost" in parameters(getattr(self.limiter, "allow", None))
        found["take_cost"] = found["take"] and "cost" in parameters(self.limiter.take)
        found["peek_cost"] = found["peek"] and "cost" in parameters(self.limiter.peek)
        found["timeout"] = found["wait"] and "timeout" in parameters(self.limiter.wait)
        return {"takes_redis": self._takes_redis, "asynchronous": self.asynchronous, **found}

    def call(self, verb: str, key: str, cost: int, timeout: float | None, unexpected: OnUnexpected) -> Answer:
        """Call a method once and return its answer.

        If the target has no ``take``, that is ``allow``, followed after a denial by ``retry_after`` if it has that.
        ``settle`` and ``cancel`` end the reservation that was last made for the key; ``cost`` is what was used.
        ``release`` and ``renew`` are for the permit that was the first, second, ... of the key: ``cost`` is which.
        """
        verb, then_retry_after = self._verbs(verb)
        answer = _read(verb, self._resolve(verb, self._call(verb, key, cost, timeout)), unexpected)
        if then_retry_after and not answer.allowed:
            return answer._replace(retry_after=seconds(self._resolve("retry_after", self.limiter.retry_after(key))))
        return answer

    async def call_async(
        self, verb: str, key: str, cost: int, timeout: float | None, unexpected: OnUnexpected
    ) -> Answer:
        """Do the same with methods that must be awaited."""
        verb, then_retry_after = self._verbs(verb)
        answer = _read(verb, await awaited(self._call(verb, key, cost, timeout)), unexpected)
        if then_retry_after and not answer.allowed:
            return answer._replace(retry_after=seconds(await awaited(self.limiter.retry_after(key))))
        return answer

    def _resolve(self, verb: str, answer: Any) -> Any:
        if type(answer) is bool or not inspect.isawaitable(answer):
            return answer
        if verb in ("allow", "take"):
            self.asynchronous = True
        with self._loop_lock:  # there is one loop, and this may be any thread
            return self.run(awaited(answer))

    def _verbs(self, verb: str) -> tuple[str, bool]:
        if verb != "take" or self._has["take"]:
            return verb, False
        return "allow", self._has["retry_after"]

    def _call(self, verb: str, key: str, cost: int, timeout: float | None) -> Any:
        if verb in ("settle", "cancel"):
            return self._held[key].end(verb, cost)
        if verb in ("release", "renew"):
            return self._permits.end(verb, key, cost)
        method = getattr(self.limiter, verb)
        if verb == "acquire":
            return self._acquire(key, method(key))
        if verb == "reserve":
            return self._reserve(key, method(key, cost))
        how: dict[str, Any] = {} if cost == 1 else {"cost": cost}
        if timeout is not None:
            how["timeout"] = timeout
        return method(key, **how)

    async def _acquire(self, key: str, permit: Any) -> bool:
        return self._permits.add(key, await awaited(permit))

    async def _reserve(self, key: str, reservation: Any) -> Any:
        held = self._held[key] = Held(await awaited(reservation))
        return await held.enter()


def _read(verb: str, answer: object, unexpected: OnUnexpected) -> Answer:
    if verb in ENDS:
        return Answer(None)
    if verb == "retry_after":
        return Answer(None, seconds(answer))
    plain = verb == "allow"
    if plain and type(answer) is not bool:
        unexpected(answer)
    if verb == "wait" and answer is None:  # it waited, and does not say whether it took a unit
        return Answer(None)
    if verb == "wait" and type(answer) in (int, float):  # it returned the seconds to wait, and did not wait
        unexpected(answer)
        return Answer(None)
    return read(answer, plain=plain)


def _is_asynchronous(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(inspect.unwrap(function))
