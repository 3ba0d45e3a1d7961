"""Counters on a Redis or Valkey server, through redis-py: one call for all that is asked at once, never sent twice.

`_Body` is what the two stores share: its verbs yield each command, and are sent the reply or thrown the refusal.
`ThreadPipeline` and `AsyncPipeline` carry commands there and back, and gather in one call what many ask for at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self

try:
    import hiredis  # noqa: F401 - for the lines
    import redis
    import redis.asyncio
    from redis.asyncio.retry import Retry as AsyncRetry
    from redis.backoff import NoBackoff
    from redis.exceptions import NoScriptError
    from redis.retry import Retry
except ImportError as error:  # pragma: no cover - seen by the test of the bare package
    raise ImportError("the Redis stores need redis-py and hiredis: pip install 'sluicegate[redis]'") from error

from sluicegate._core.decision import Verdict
from sluicegate._core.errors import InvalidStore, StoreError, StoreUnavailable
from sluicegate._core.request import Charge, Counter, Request
from sluicegate._stores.base import Remembered
from sluicegate._stores.process_local import ProcessLocal, renew_after_fork
from sluicegate._stores.redis import clients
from sluicegate._stores.redis.denials import DENIAL_TTL, Denials, forgetting
from sluicegate._stores.redis.failures import REFUSALS, refused
from sluicegate._stores.redis.pipeline.queue import MAX_WAITING, Command, Steps, Verb
from sluicegate._stores.redis.pipeline.tasks import AsyncPipeline
from sluicegate._stores.redis.pipeline.threads import ThreadPipeline
from sluicegate._stores.redis.script import (
    ClockMismatch,
    Script,
    Scripts,
    ServerClockEstimate,
    answers,
    block_arguments,
    decide_arguments,
    faults,
    stored,
)

PREFIX = "sluicegate:"
TIMEOUT = 0.5
_LONGEST = 3600
_TURNS = 64  # denials from memory between two turns for other tasks

Charges = tuple[Charge, ...]
Answer = list[Verdict] | StoreError
_Block = tuple[Sequence[Counter], int]


def _check_timeout(timeout: float) -> None:
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout <= _LONGEST:
        raise ValueError(f"timeout must be a number of seconds above 0, an hour at most, got {timeout!r}")


class _Body(ProcessLocal):
    """What both stores do, but for carrying a command to the server."""

    def __init__(self, prefix: str, timeout: float, denial_ttl: float, max_waiting: int) -> None:
        if not isinstance(prefix, str) or not prefix or not prefix.isprintable():
            raise ValueError(f"prefix must be printable text, 1 character or more, got {prefix!r}")
        _check_timeout(timeout)
        if isinstance(max_waiting, bool) or not isinstance(max_waiting, int) or max_waiting < 1:
            raise ValueError(f"max_waiting must be a whole number of 1 or more, got {max_waiting!r}")
        self.repaired = 0
        self._prefix = str.__str__(prefix)
        self._timeout = timeout
        self._max_waiting = max_waiting
        self._scripts = Scripts()
        self._guess = ServerClockEstimate()
        self._denials = Denials(denial_ttl)
        self._owned = False

    @property
    def remembered(self) -> int:
        """Requests so far that were denied without asking the server."""
        return self._denials.given

    def _known(self, request: Request) -> Remembered | None:
        """Return the answer to a request that is known to be denied."""
        if not request.commit or not self._denials:
            return None
        return self._denials.find(request.charges)

    def _verb(self, request: Request) -> Verb:
        return self._take if request.commit else self._peek

    def _take(self, requests: list[Charges]) -> Steps:
        """Decide a request of each caller. What is known to be denied by now is not asked: it may have waited."""
        return self._take_unknown(requests) if self._denials else self._take_all(requests)

    def _take_unknown(self, requests: list[Charges]) -> Steps:
        found: list[Answer | None] = [self._denials.find(request) for request in requests]
        unknown = [request for request, known in zip(requests, found, strict=True) if known is None]
        rest = iter((yield from self._take_all(unknown)) if unknown else ())
        return [next(rest) if known is None else known for known in found]

    def _take_all(self, requests: list[Charges]) -> Steps:
        """Decide requests, and remember what is denied."""
        sent_ns = time.monotonic_ns()
        answered = yield from self._decide(requests, commit=True)
        self._denials.learn(requests, answered, sent_ns)
        return answered

    def _peek(self, requests: list[Charges]) -> Steps:
        return self._decide(requests, commit=False)

    def _decide(self, requests: list[Charges], *, commit: bool) -> Steps:
        answered = yield from self._ask(requests, commit)
        if ClockMismatch in map(type, answered):  # nothing was taken for these: this is their first sending, too
            late = [n for n, answer in enumerate(answered) if type(answer) is ClockMismatch]
            self._correct([answered[n] for n in late])
            try:
                again = yield from self._ask([requests[n] for n in late], commit)
            except REFUSALS as refusal:  # of these alone: the others have their answers
                again = [refused(refusal) for _ in late]
            self._correct(again)
            for n, answer in zip(late, again, strict=True):
                answered[n] = _unsteady() if isinstance(answer, ClockMismatch) else answer
        return answered

    def _ask(self, requests: Sequence[Charges], commit: bool) -> Generator[Command, Any, list[Answer | ClockMismatch]]:
        script = self._scripts.decide if commit else self._scripts.look
        reply = yield from _run(script, decide_arguments(self._prefix, requests, self._guess))
        repaired, answered = answers(requests, reply)
        self.repaired += repaired
        return answered

    def _correct(self, answered: Sequence[Answer | ClockMismatch]) -> None:
        for answer in answered:
            if isinstance(answer, ClockMismatch):
                self._guess.correct(answer.now_us)

    def _forget(self, asked: list[Sequence[Counter]]) -> Steps:
        counters = [counter for each in asked for counter in each]
        with forgetting(counters):
            yield ["DEL", *stored(self._prefix, counters)]
        return [True for _ in asked]

    def _block(self, asked: list[_Block]) -> Steps:
        done: list[Any] = []
        for counters, span_us in asked:
            arguments = block_arguments(self._prefix, counters, span_us, self._guess)
            try:
                with forgetting(counters):  # a block that ends, or a shorter one, gives back what another had taken
                    reply = yield from _run(self._scripts.block, arguments)
            except REFUSALS as refusal:
                done.append(refused(refusal))
            else:
                done.append(_strangers(faults(reply)) or True)
        return done


def _unsteady() -> StoreUnavailable:
    return StoreUnavailable("the store's clock was stepped between two calls, nothing was taken")


def _strangers(wrong: list[str]) -> StoreUnavailable | None:
    if not wrong:
        return None
    return StoreUnavailable(
        f"a counter holds something else on the server, it is not under the block, the others are: {wrong[0]}"
    )


def _run(script: Script, asked: Command) -> Generator[Command, Any, list[Any]]:
    reply: list[Any]
    try:
        reply = yield ["EVALSHA", script.sha, *asked]
    except NoScriptError:  # a new server, a failover, a SCRIPT FLUSH: it ran nothing, so this is the first sending
        reply = yield ["EVAL", script.source, *asked]
    return reply


class RedisStore(_Body):
    """Counters on a Redis (7.0 or newer) or Valkey (7.2 or newer) server, for threads. The server's clock decides.

    Threads that ask at the same time share a call, in the order in which they came. While calls are under way it
    borrows one connection of the client's pool; one that it made itself it keeps.

    Args:
        client: A ``redis.Redis`` of your own. It is never closed here; its pool and either mode of decoding serve. Its
            own timeouts and retries serve to connect, so that a call may last as long as they do; they never send a
            call twice.
        prefix: What all stored keys begin with. One with a hash tag of its own (``"{pay}:"``) keeps all of them in
            one slot of a cluster.
        timeout: Seconds that a call may last: waiting for its turn, and for the reply. Connecting may take longer; a
            call whose time is over by then takes nothing.
        denial_ttl: Seconds for which a denial is remembered and given again without asking the server, 0 to 60: never
            longer than its wait, and never wrong but where units come back sooner meanwhile: another process gives
            them back, or a token bucket is asked under a higher limit, too. 0 for none.
        max_waiting: Callers that may wait for their turn, 1 or more. Who comes then gets `StoreUnavailable` at once.

    Attributes:
        repaired: Logs so far that a clock step had left in the future, and that were brought back (G8).
    """

    def __init__(
        self,
        client: redis.Redis,
        *,
        prefix: str = PREFIX,
        timeout: float = TIMEOUT,
        denial_ttl: float = DENIAL_TTL,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        super().__init__(prefix, timeout, denial_ttl, max_waiting)
        if not isinstance(client, redis.Redis):
            raise clients.no_client("redis.Redis", "RedisStore", client)
        self._client = client
        self._make: Callable[[], redis.Redis] | None = None
        self.after_fork()
        renew_after_fork(self)

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        prefix: str = PREFIX,
        timeout: float = TIMEOUT,
        denial_ttl: float = DENIAL_TTL,
        max_waiting: int = MAX_WAITING,
    ) -> Self:
        """Make a store with a client of its own, which `close` closes. Connects at the first call.

        Args:
            url: As redis-py reads it, ``redis://[[user]:[password]@]host[:port][/db][?option=value]``. An option
                named in it wins over those set here; retries are refused.
            prefix: See `RedisStore`.
            timeout: See `RedisStore`; and seconds to connect.
            denial_ttl: See `RedisStore`.
            max_waiting: See `RedisStore`.

        Raises:
            InvalidStore: The URL cannot be read.
        """
        _check_timeout(timeout)
        make = partial(clients.made, redis.Redis, url, timeout, Retry(NoBackoff(), 0), socket_timeout=timeout)
        store = cls(make(), prefix=prefix, timeout=timeout, denial_ttl=denial_ttl, max_waiting=max_waiting)
        store._owned, store._make = True, make
        store._line = ThreadPipeline(store._client.connection_pool, timeout, max_waiting, keeps=True)
        return store

    def decide(self, request: Request) -> list[Verdict]:
        """Decide a request; see `sluicegate.stores.Store.decide`."""
        known = self._known(request)
        if known is not None:
            return known
        return _answered(self._line.ask(self._verb(request), request.charges, len(request.charges)))

    def forget(self, counters: Sequence[Counter]) -> None:
        """See `sluicegate._stores.Store.forget`."""
        if counters:
            self._line.ask(self._forget, counters, len(counters))

    def block(self, counters: Sequence[Counter], span_us: int) -> None:
        """See `sluicegate._stores.Store.block`."""
        if counters:
            _raise(self._line.ask(self._block, (counters, span_us), len(counters)))

    def close(self) -> None:
        """Close the client, if this store made it."""
        if self._owned:
            self._client.close()

    def after_fork(self) -> None:
        """Renew the line: calls that were under way in the parent never end here. And a client of our own, as well.

        The pool of redis-py (8.1) waits for ever for a lock that another thread held when the process was forked.
        """
        if self._make is not None:
            self._inherited = self._client  # kept: its finalizer would wait for that lock, too
            self._client = self._make()
        own = self._make is not None
        self._line = ThreadPipeline(self._client.connection_pool, self._timeout, self._max_waiting, keeps=own)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncRedisStore(_Body):
    """Counters on a Redis or Valkey server, for the tasks of one event loop at a time. See `RedisStore`.

    A call that is cancelled while it waits for its turn takes nothing; one that was sent may have been counted. A store
    made by `from_url` may go from a loop that was closed to another one; otherwise a call on another loop than that of
    the first raises `InvalidStore`.

    Args:
        client: A ``redis.asyncio.Redis`` of your own, on the loop that will use the store.
        prefix: See `RedisStore`.
        timeout: Seconds that a whole call may last: waiting for its turn, connecting, and the reply.
        denial_ttl: See `RedisStore`.
        max_waiting: See `RedisStore`.

    Attributes:
        repaired: Logs so far that a clock step had left in the future, and that were brought back (G8).
    """

    def __init__(
        self,
        client: redis.asyncio.Redis,
        *,
        prefix: str = PREFIX,
        timeout: float = TIMEOUT,
        denial_ttl: float = DENIAL_TTL,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        super().__init__(prefix, timeout, denial_ttl, max_waiting)
        if not isinstance(client, redis.asyncio.Redis):
            raise clients.no_client("redis.asyncio.Redis", "AsyncRedisStore", client)
        self._client = client
        self._loop: asyncio.AbstractEventLoop | None = None

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        prefix: str = PREFIX,
        timeout: float = TIMEOUT,
        denial_ttl: float = DENIAL_TTL,
        max_waiting: int = MAX_WAITING,
    ) -> Self:
        """Make a store with a client of its own, which `aclose` closes. See `RedisStore.from_url`."""
        _check_timeout(timeout)
        # No time-out of the driver's own but to connect: the line keeps the time of each caller, and costs less.
        client = clients.made(redis.asyncio.Redis, url, timeout, AsyncRetry(NoBackoff(), 0), socket_timeout=None)
        store = cls(client, prefix=prefix, timeout=timeout, denial_ttl=denial_ttl, max_waiting=max_waiting)
        store._owned = True
        return store

    async def decide(self, request: Request) -> list[Verdict]:
        """Decide a request; see `sluicegate.stores.Store.decide`."""
        known = self._known(request)
        if known is not None:
            await self._give_way()
            return known
        if asyncio.get_running_loop() is not self._loop:
            self._settle_in()
        return _answered(await self._line.ask(self._verb(request), request.charges, len(request.charges)))

    async def forget(self, counters: Sequence[Counter]) -> None:
        """See `RedisStore.forget`."""
        if counters:
            self._settle_in()
            await self._line.ask(self._forget, counters, len(counters))

    async def block(self, counters: Sequence[Counter], span_us: int) -> None:
        """See `RedisStore.block`."""
        if counters:
            self._settle_in()
            _raise(await self._line.ask(self._block, (counters, span_us), len(counters)))

    async def aclose(self) -> None:
        """Close the client, if this store made it; give back what was borrowed of another one."""
        if self._owned:
            self._settle_in()
        if self._loop is asyncio.get_running_loop():
            await self._line.aclose()
        if self._owned:
            await self._client.aclose()

    async def _give_way(self) -> None:
        """Let other tasks run now and then: those who ask in a loop, and never wait, would keep them from it."""
        if self._denials.given % _TURNS == 0:
            await asyncio.sleep(0)

    def _settle_in(self) -> None:
        """Make sure that the connections are of the loop that runs: those of another one cannot be awaited here."""
        loop = asyncio.get_running_loop()
        if loop is self._loop:
            return
        pool = self._client.connection_pool
        if self._loop is not None:
            if not (self._owned and self._loop.is_closed()):
                raise InvalidStore(
                    "this store belongs to another event loop, nothing was taken: make a store for each loop",
                    store=self,
                )
            pool.reset()  # type: ignore[no-untyped-call] # they died with their loop
        self._loop = loop
        self._line = AsyncPipeline(pool, self._timeout, self._max_waiting, keeps=self._owned)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def _answered(answer: Answer) -> list[Verdict]:
    if isinstance(answer, Exception):
        raise answer
    return answer


def _raise(result: object) -> None:
    if isinstance(result, Exception):
        raise result
