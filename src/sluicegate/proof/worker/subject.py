"""The target, loaded: its verbs, each asked in the same way."""

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from .answers import Told, read, seconds
from .loading import check_call, find, takes_redis
from .service import Service
from .words import Unusable, parameters, takes_a_key

_Result = TypeVar("_Result")
_VERBS = ("take", "peek", "wait", "retry_after")

Odd = Callable[[object], None]
"""Called with an answer of ``allow`` that is no bool, or of ``wait`` that is a number."""


class Subject:
    """A limiter of the target's.

    Args:
        where: What to load: ``file`` or ``module``, and ``name``; or ``url``.
        limit: Units per window.
        window: Seconds.
        redis_url: For a target that takes one; without it such a target is looked at, and not made.
        asynchronous: True where its verbs are known to be awaited, whatever they look like.

    Attributes:
        limiter: It; None where it was not made.
        asynchronous: Its verbs are to be awaited. What is no ``async def`` is found out by its first answer.
        file: The file that the target is in; empty where it is in none.

    Raises:
        Unusable: It is not what can be graded.
        Exception: Whatever its import or its constructor raised.
    """

    def __init__(
        self, where: Mapping[str, str], limit: int, window: float, redis_url: str | None, *, asynchronous: bool
    ) -> None:
        self.limiter: Any = None
        self.asynchronous, self.file = asynchronous, ""
        self._has = dict.fromkeys(_VERBS, False)
        self._one_by_one = threading.Lock()
        self._takes_redis = False
        self._runner: asyncio.Runner | None = None
        if "url" in where:
            self.limiter = Service(where["url"])
            self._has["take"] = True
            return
        factory, self.file = find(where)
        self._takes_redis = takes_redis(factory)
        if self._takes_redis and not redis_url:
            return
        arguments: list[object] = [limit, window, redis_url] if self._takes_redis else [limit, window]
        check_call(where["name"], factory, arguments)
        self.limiter = self._made(factory, arguments)
        allow = getattr(self.limiter, "allow", None)
        if not callable(allow):
            raise Unusable(f"has no method allow(user_id): {where['name']}")
        self.asynchronous = asynchronous or _is_asynchronous(allow)
        self._has = {verb: takes_a_key(getattr(self.limiter, verb, None)) for verb in _VERBS}

    def _made(self, factory: Any, arguments: list[object]) -> Any:
        if (
            not self.asynchronous
            and not _is_asynchronous(factory)
            and not _is_asynchronous(getattr(factory, "allow", None))
        ):
            return factory(*arguments)

        # Whoever awaits its verbs makes it on a running loop, too.
        async def make() -> Any:
            return await _awaited(factory(*arguments))

        return self.run(make())

    def run(self, awaitable: Awaitable[_Result]) -> _Result:
        """Run something awaitable on the one loop that the target sees."""

        async def wrapped() -> _Result:
            return await awaitable

        if self._runner is None:
            self._runner = asyncio.Runner()
        return self._runner.run(wrapped())

    def abilities(self) -> dict[str, bool]:
        """Say which verbs there are beside allow, and what they take."""
        found = dict(self._has)
        found["cost"] = "cost" in parameters(getattr(self.limiter, "allow", None))
        found["take_cost"] = found["take"] and "cost" in parameters(self.limiter.take)
        return {"takes_redis": self._takes_redis, "asynchronous": self.asynchronous, **found}

    def ask(self, verb: str, key: str, cost: int, odd: Odd) -> Told:
        """Ask once, and return what was told. To take is to be told all there is: by two verbs where it takes two."""
        verb, further = self._verbs(verb)
        told = _told(verb, self._answer(verb, self._call(verb, key, cost)), odd)
        if further and not told.allowed:
            return told._replace(retry_after=seconds(self._answer("retry_after", self.limiter.retry_after(key))))
        return told

    async def ask_async(self, verb: str, key: str, cost: int, odd: Odd) -> Told:
        """Do the same with verbs that are to be awaited."""
        verb, further = self._verbs(verb)
        told = _told(verb, await _awaited(self._call(verb, key, cost)), odd)
        if further and not told.allowed:
            return told._replace(retry_after=seconds(await _awaited(self.limiter.retry_after(key))))
        return told

    def _answer(self, verb: str, answer: Any) -> Any:
        if type(answer) is bool or not inspect.isawaitable(answer):
            return answer
        if verb in ("allow", "take"):
            self.asynchronous = True
        with self._one_by_one:  # there is one loop, and this may be any thread
            return self.run(_awaited(answer))

    def _verbs(self, verb: str) -> tuple[str, bool]:
        if verb != "take" or self._has["take"]:
            return verb, False
        return "allow", self._has["retry_after"]

    def _call(self, verb: str, key: str, cost: int) -> Any:
        method = getattr(self.limiter, verb)
        return method(key) if cost == 1 else method(key, cost=cost)


def _told(verb: str, answer: object, odd: Odd) -> Told:
    plain = verb == "allow"
    if plain and type(answer) is not bool:
        odd(answer)
    if verb == "wait" and answer is None:  # it waited; whether it took anything, it did not say
        return Told(None)
    if verb == "wait" and type(answer) in (int, float):  # seconds to wait: it did not wait itself
        odd(answer)
        return Told(None)
    return read(answer, plain=plain)


def _is_asynchronous(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(inspect.unwrap(function))


async def _awaited(answer: Any) -> Any:
    while inspect.isawaitable(answer):
        answer = await answer
    return answer
