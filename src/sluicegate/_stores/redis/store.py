"""The Redis stores: counters on a Redis or Valkey server, through redis-py, for threads and for tasks."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Protocol, Self
from weakref import WeakSet, finalize

try:
    import hiredis  # noqa: F401 - for the pipelines
    import redis
    import redis.asyncio
    from redis.asyncio.retry import Retry as AsyncRetry
    from redis.backoff import NoBackoff
    from redis.retry import Retry
except ImportError as error:  # pragma: no cover - seen by the test of the bare package
    raise ImportError("the Redis stores need redis-py and hiredis: pip install 'sluicegate[redis]'") from error

from sluicegate._core.decision import Verdict
from sluicegate._core.errors import InvalidStore, StoreError
from sluicegate._core.policy import Policy
from sluicegate._core.request import Charge, Counter, Request, Settlement
from sluicegate._stores.base import TIMEOUT, Reserved
from sluicegate._stores.redis import clients
from sluicegate._stores.redis.body import PREFIX, PROBES, Body, Lane, check_timeout, counters_of, line_of
from sluicegate._stores.redis.denials import DENIAL_TTL
from sluicegate._stores.redis.failures import FAILURES, unavailable
from sluicegate._stores.redis.listing import LISTED, pattern, values_of
from sluicegate._stores.redis.pipeline.guard import Guard
from sluicegate._stores.redis.pipeline.queue import MAX_WAITING
from sluicegate._stores.redis.pipeline.tasks import AsyncPipeline
from sluicegate._stores.redis.pipeline.threads import ThreadPipeline
from sluicegate._stores.redis.probing import TaskProber, ThreadProber, drive, drive_awaited
from sluicegate._stores.redis.script import Charges, Line

_ANSWERS_BETWEEN_YIELDS = 64


class RedisStore(Body):
    """Keep counters on a Redis (7.0 or newer) or Valkey (7.2 or newer) server, for threads.

    The server's clock decides. Requests that threads make at the same time share a call, in the order in which they are
    made. No call is sent twice. A store in a forked child connects anew.

    Args:
        client: A ``redis.Redis`` of your own, decoding or not. It is never closed here. While calls are in flight, one
            connection is borrowed from its pool for each different deadline, and one more for probes while the server
            is down. Its settings serve for connecting; its retries never repeat a call.
        prefix: The beginning of all stored keys: printable text, 1 character or more. With a hash tag of its own
            (``"{pay}:"``), it keeps all keys in one slot of a cluster.
        timeout: Seconds that a whole call may last, above 0, at most 3600: waiting in the queue, connecting, and
            waiting for the reply. The client's own time-outs and retries may be longer: a call does not wait for them.
        denial_ttl: Seconds for which a denial is remembered, 0 to 60; up to a tenth longer while one request refreshes
            it, and never longer than its wait. Meanwhile
            the same request is denied without a call. If another process gives units back, or uses a token bucket with
            a higher limit, this store sees it that much later. 0 remembers none.
        max_waiting: Callers that may wait in the queue, 1 or more. When it is full, a call raises `StoreUnavailable` at
            once.

    Attributes:
        repaired: Counters repaired so far, after a step of the server's clock had left them in the future (G8).

    Raises:
        InvalidStore: ``client`` is not a ``redis.Redis``.
        ValueError: Another argument is outside its range.
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
            raise clients.wrong_client("redis.Redis", "RedisStore", client)
        clients.check_is_real("redis.Redis", client)
        self._client: redis.Redis = client
        self._make_client: Callable[[], redis.Redis] | None = None  # if the client is the store's own
        self._pipelines: dict[Lane, ThreadPipeline] = {}
        self._prober = ThreadProber(self, RedisStore._probe_once, self._health.delays)
        self._guard = Guard(self._health, self._prober.start, 5 + 4 * timeout)

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
        """Make a store with a client of its own, which connects at the first call and is closed by `close`.

        Args:
            url: The server's, as redis-py reads it: ``redis://[[user]:[password]@]host[:port][/db][?option=value]``.
                An option in the URL overrides the store's own setting; options for retries are refused.
            prefix: The beginning of all stored keys: printable text, 1 character or more.
            timeout: Seconds that a whole call may last, above 0, at most 3600: waiting in the queue, connecting, and
                waiting for the reply.
            denial_ttl: Seconds for which a denial is remembered, 0 to 60; 0 remembers none.
            max_waiting: Callers that may wait in the queue, 1 or more.

        Raises:
            InvalidStore: The URL cannot be read.
            ValueError: Another argument is outside its range.
        """
        check_timeout(timeout)
        make = partial(clients.from_url, redis.Redis, url, timeout, Retry(NoBackoff(), 0), socket_timeout=timeout)
        store = cls(make(), prefix=prefix, timeout=timeout, denial_ttl=denial_ttl, max_waiting=max_waiting)
        store._make_client = make
        return store

    def decide(self, request: Request) -> list[Verdict]:
        """Decide a request, as `sluicegate.stores.Store.decide` describes.

        Raises:
            StoreUnavailable: The server is unreachable, or refused the request; or the queue is full. Nothing was
                taken.
            StoreTimeout: The request was sent and its reply was lost or is late: the outcome is unknown.
        """
        if request.reserves and request.commit:
            return self.decide_line((request,))[0]
        remembered = self._remembered(request)
        if remembered is not None:
            return remembered
        charges = request.charges
        verb = self._take if request.commit else self._peek
        verdicts: list[Verdict] = self._pipeline(charges, request.within).run(verb, charges, len(charges))
        if self._to_log:
            self._log()
        return verdicts

    def decide_line(self, requests: Sequence[Request]) -> list[list[Verdict]]:
        """Decide requests that reserve, in order, as `sluicegate.stores.ReservingStore.decide_line` describes.

        Raises:
            StoreUnavailable: As for `decide`. Nothing was taken.
            StoreTimeout: The outcome is unknown.
        """
        remembered = self._remembered(requests[0])
        if remembered is not None:
            return [remembered]
        line, charges = line_of(requests)
        pipeline = self._pipeline(line[0], requests[0].within)
        answers: list[list[Verdict]] = pipeline.run(self._reserve, line, charges)
        if self._to_log:
            self._log()
        return answers

    def settle(self, settlements: Sequence[Settlement], within: float | None = None) -> list[bool]:
        """Settle charges, as `sluicegate.stores.ReservingStore.settle` describes.

        Raises:
            StoreUnavailable: Nothing was settled; or one of several charges was not, as its key holds something else.
            StoreTimeout: The outcome is unknown.
        """
        if not settlements:
            return []
        pipeline = self._pipeline(counters_of(settlements), within)
        found: list[bool] = pipeline.run(self._settle, settlements, len(settlements))
        return found

    def denies(self, policy: Policy, key: object, cost: object) -> bool:
        """Tell whether a request that charges this policy alone is remembered to be denied. Needs no call."""
        return self._denials.has(policy, key, cost)

    def forget(self, counters: Sequence[Counter]) -> None:
        """Drop counters, and blocks on them: the whole limit is free again.

        Raises:
            StoreUnavailable: Nothing was dropped.
            StoreTimeout: The outcome is unknown.
        """
        if counters:
            self._usual_pipeline(counters).run(self._forget, counters, len(counters))

    def block(self, counters: Sequence[Counter], span_us: int) -> None:
        """Deny every request of these counters until ``span_us`` microseconds from now; 0 lifts the block.

        Raises:
            StoreUnavailable: Nothing was changed; or, if it says so, one of several counters was not.
            StoreTimeout: The outcome is unknown.
        """
        if counters:
            self._usual_pipeline(counters).run(self._block, (counters, span_us), len(counters))

    def close(self) -> None:
        """Close the client, if this store made it."""
        self._prober.stop()
        self._health.reset()
        if self._make_client is not None:
            pipelines, self._pipelines = self._pipelines, {}  # a later call makes new ones, which keep a connection
            for pipeline in pipelines.values():
                pipeline.close()
            self._client.close()

    def after_fork(self) -> None:
        """Start anew in the child: calls that were in flight in the parent never end here.

        With a new client, if it is the store's own: the pool of redis-py (8.1) waits for ever for a lock that another
        thread held when the process was forked.
        """
        super().after_fork()
        if self._make_client is not None:
            self._inherited = self._client  # kept, as its finalizer would wait for that lock, too
            self._client = self._make_client()
        self._pipelines = {}

    def _probe_once(self) -> bool:
        """Probe the store, and return whether it is up: then it is used again, and knows what it is owed."""
        steps, pipeline = self._recovery(), self._pipeline((), PROBES)
        is_up = drive(steps, lambda verb: pipeline.run(verb, None, 1))
        self._log()
        return is_up

    def _usual_pipeline(self, counters: Sequence[Counter]) -> ThreadPipeline:
        """Return a pipeline to the node of these counters that is in use anyway: it needs no further connection."""
        return self._in_use(self._pipelines, counters) or self._pipeline(counters)

    def _pipeline(self, counters: Sequence[Charge | Counter], within: float | None = None) -> ThreadPipeline:
        """Return the pipeline to the node of these counters, for callers that wait so many seconds."""
        lane = self._lane(counters, within)
        pipeline = self._pipelines.get(lane)
        if pipeline is None:
            made = ThreadPipeline(**self._settings(lane, owned=self._make_client is not None))
            pipeline = self._pipelines.setdefault(lane, made)  # atomic: another thread may have been faster
        return pipeline

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class WaitingLines(Protocol):
    """The lines in which the callers of a limiter wait."""

    def look_again(self, charges: Sequence[Charge]) -> None:
        """Let the line of these counters look again: units were given back."""
        ...


class AsyncRedisStore(Body):
    """Keep counters on a Redis (7.0 or newer) or Valkey (7.2 or newer) server, for the tasks of an event loop.

    The server's clock decides. Requests that tasks make at the same time share a call, in the order in which they are
    made. No call is sent twice. A call that is cancelled in the queue takes nothing; one that was sent may be counted.

    A store made by `from_url` may be used on another event loop once the first one is closed. Otherwise a call on
    another loop raises `InvalidStore`.

    Args:
        client: A ``redis.asyncio.Redis`` of your own, decoding or not, for the event loop that uses the store. It is
            never closed here. While calls are in flight, one connection is borrowed from its pool for each different
            deadline, and one more for probes while the server is down. Its settings serve
            for connecting; its retries never repeat a call.
        prefix: The beginning of all stored keys: printable text, 1 character or more. With a hash tag of its own
            (``"{pay}:"``), it keeps all keys in one slot of a cluster.
        timeout: Seconds that a whole call may last, above 0, at most 3600: waiting in the queue, connecting, and
            waiting for the reply.
        denial_ttl: Seconds for which a denial is remembered, 0 to 60; up to a tenth longer while one request refreshes
            it, and never longer than its wait. Meanwhile
            the same request is denied without a call. If another process gives units back, or uses a token bucket with
            a higher limit, this store sees it that much later. 0 remembers none.
        max_waiting: Callers that may wait in the queue, 1 or more. When it is full, a call raises `StoreUnavailable` at
            once.

    Attributes:
        repaired: Counters repaired so far, after a step of the server's clock had left them in the future (G8).

    Raises:
        InvalidStore: ``client`` is not a ``redis.asyncio.Redis``.
        ValueError: Another argument is outside its range.
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
            raise clients.wrong_client("redis.asyncio.Redis", "AsyncRedisStore", client)
        clients.check_is_real("redis.asyncio.Redis", client)
        self._client: redis.asyncio.Redis = client
        self._owned = False
        self._finalizer: finalize[..., AsyncRedisStore] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._failed = 0  # calls
        self._giving_back: set[asyncio.Task[None]] = set()
        self._lines: WeakSet[WaitingLines] = WeakSet()  # of the limiters that use this store
        self._pipelines: dict[Lane, AsyncPipeline] = {}
        self._prober = TaskProber(self, AsyncRedisStore._probe_once, self._health.delays)
        self._guard = Guard(self._health, self._prober.start, 5 + 4 * timeout)

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
        """Make a store with a client of its own, which connects at the first call and is closed by `aclose`.

        Args:
            url: The server's, as redis-py reads it: ``redis://[[user]:[password]@]host[:port][/db][?option=value]``.
                An option in the URL overrides the store's own setting; options for retries are refused.
            prefix: The beginning of all stored keys: printable text, 1 character or more.
            timeout: Seconds that a whole call may last, above 0, at most 3600: waiting in the queue, connecting, and
                waiting for the reply.
            denial_ttl: Seconds for which a denial is remembered, 0 to 60; 0 remembers none.
            max_waiting: Callers that may wait in the queue, 1 or more.

        Raises:
            InvalidStore: The URL cannot be read.
            ValueError: Another argument is outside its range.
        """
        check_timeout(timeout)
        # The driver has a time-out for connecting alone: the pipeline watches each caller's deadline, and costs less.
        client = clients.from_url(redis.asyncio.Redis, url, timeout, AsyncRetry(NoBackoff(), 0), socket_timeout=None)
        clients.share_tls_context(client.connection_pool)
        store = cls(client, prefix=prefix, timeout=timeout, denial_ttl=denial_ttl, max_waiting=max_waiting)
        store._owned = True
        return store

    async def decide(self, request: Request) -> list[Verdict]:
        """Decide a request, as `sluicegate.stores.AsyncStore.decide` describes.

        Raises:
            StoreUnavailable: The server is unreachable, or refused the request; or the queue is full. Nothing was
                taken.
            StoreTimeout: The request was sent and its reply was lost or is late: the outcome is unknown.
            InvalidStore: The store belongs to another event loop. Nothing was taken.
        """
        if request.reserves and request.commit:
            return (await self.decide_line((request,)))[0]
        remembered = self._remembered(request)
        if remembered is not None:
            await self._let_others_run(self._denials.given)
            return remembered
        charges = request.charges
        verb = self._take if request.commit else self._peek
        try:
            verdicts: list[Verdict] = await self._pipeline(charges, request.within).run(verb, charges, len(charges))
        except StoreError:
            self._failed += 1
            await self._let_others_run(self._failed)
            raise
        if self._to_log:
            self._log()
        return verdicts

    async def decide_line(self, requests: Sequence[Request]) -> list[list[Verdict]]:
        """Decide requests that reserve, in order, as `sluicegate.stores.ReservingStore.decide_line` describes.

        If the task is cancelled once its call was sent, what the call has taken is given back when its reply is there.

        Raises:
            StoreUnavailable: As for `decide`. Nothing was taken.
            StoreTimeout: The outcome is unknown.
            InvalidStore: The store belongs to another event loop. Nothing was taken.
        """
        remembered = self._remembered(requests[0])
        if remembered is not None:
            await self._let_others_run(self._denials.given)
            return [remembered]
        line, charges = line_of(requests)
        pipeline = self._pipeline(line[0], requests[0].within)
        try:
            answers: list[list[Verdict]] = await pipeline.run(self._reserve, line, charges, self._give_back)
        except StoreError:
            self._failed += 1
            await self._let_others_run(self._failed)
            raise
        if self._to_log:
            self._log()
        return answers

    async def settle(self, settlements: Sequence[Settlement], within: float | None = None) -> list[bool]:
        """Settle charges, as `sluicegate.stores.ReservingStore.settle` describes.

        Raises:
            StoreUnavailable: Nothing was settled; or one of several charges was not, as its key holds something else.
            StoreTimeout: The outcome is unknown.
            InvalidStore: The store belongs to another event loop. Nothing was settled.
        """
        if not settlements:
            return []
        pipeline = self._pipeline(counters_of(settlements), within)
        found: list[bool] = await pipeline.run(self._settle, settlements, len(settlements))
        return found

    def _give_back(self, line: Line, answers: list[list[Verdict]]) -> None:
        """Settle to 0 what was taken for a task that is not there any more."""
        settlements = [
            Settlement(*charge, mark, 0)
            for request, answer in zip(line, answers, strict=False)
            if isinstance(answer, Reserved)
            for charge, mark in zip(request, answer.marks, strict=True)
        ]
        if settlements:
            # All on the same counters.
            task = asyncio.get_running_loop().create_task(self._settle_if_up(settlements, line[0]))
            self._giving_back.add(task)
            task.add_done_callback(self._giving_back.discard)

    async def _settle_if_up(self, settlements: Sequence[Settlement], charges: Charges) -> None:
        with contextlib.suppress(StoreError):
            await self.settle(settlements)
            for lines in list(self._lines):
                lines.look_again(charges)

    async def _let_others_run(self, calls: int) -> None:
        """Every so often, let other tasks run: a task whose calls in a loop never wait would keep them from it.

        While the breaker is open, it would keep the probes from it, too.
        """
        if calls % _ANSWERS_BETWEEN_YIELDS == 0:
            await asyncio.sleep(0)

    def denies(self, policy: Policy, key: object, cost: object) -> bool:
        """Tell whether a request that charges this policy alone is remembered to be denied. Needs no call.

        Every so often it is False all the same: `decide` finds the denial, too, and lets other tasks run.
        """
        denials = self._denials
        return (denials.given + 1) % _ANSWERS_BETWEEN_YIELDS != 0 and denials.has(policy, key, cost)

    async def forget(self, counters: Sequence[Counter]) -> None:
        """Drop counters, and blocks on them: the whole limit is free again.

        Raises:
            StoreUnavailable: Nothing was dropped.
            StoreTimeout: The outcome is unknown.
            InvalidStore: The store belongs to another event loop. Nothing was dropped.
        """
        if counters:
            await self._usual_pipeline(counters).run(self._forget, counters, len(counters))

    async def block(self, counters: Sequence[Counter], span_us: int) -> None:
        """Deny every request of these counters until ``span_us`` microseconds from now; 0 lifts the block.

        Raises:
            StoreUnavailable: Nothing was changed; or, if it says so, one of several counters was not.
            StoreTimeout: The outcome is unknown.
            InvalidStore: The store belongs to another event loop. Nothing was changed.
        """
        if counters:
            await self._usual_pipeline(counters).run(self._block, (counters, span_us), len(counters))

    async def keys(self, policy: Policy) -> list[tuple[str, ...]]:
        """Return the values that the counters of a policy count by, of each counter, in no order.

        It goes through all keys of the server, in steps of a thousand, on a connection of its own. Of a key that is
        stored as a digest it returns that, a ``~`` and 64 hexadecimal digits.

        Raises:
            StoreUnavailable: The server could not be reached, or refused.
        """
        try:
            stored = [
                each if isinstance(each, str) else each.decode()
                async for each in self._client.scan_iter(pattern(self._prefix, policy.namespace), count=1000)
            ]
        except FAILURES as error:
            raise unavailable(error, LISTED) from error
        found = {values_of(each, self._prefix, policy.namespace) for each in stored}  # SCAN may tell one twice
        return [values for values in found if values is not None]

    async def aclose(self) -> None:
        """Close the client, if this store made it: calls in flight are lost. Otherwise give back its connection."""
        if self._owned:
            self._bind_to_running_loop()
        if self._loop is asyncio.get_running_loop():
            await self._prober.stop()
            self._health.reset()
            for pipeline in list(self._pipelines.values()):
                await pipeline.aclose()
        if self._owned:
            self._pipelines.clear()  # a later call makes new ones, which keep a connection
            await self._client.aclose()

    async def _probe_once(self) -> bool:
        """Probe the store, and return whether it is up; the twin of `RedisStore._probe_once`."""
        steps, pipeline = self._recovery(), self._pipeline((), PROBES)
        is_up = await drive_awaited(steps, lambda verb: pipeline.run(verb, None, 1))
        self._log()
        return is_up

    def _usual_pipeline(self, counters: Sequence[Counter]) -> AsyncPipeline:
        """Return a pipeline to the node of these counters that is in use anyway: it needs no further connection."""
        if asyncio.get_running_loop() is not self._loop:
            self._bind_to_running_loop()
        return self._in_use(self._pipelines, counters) or self._pipeline(counters)

    def _pipeline(self, counters: Sequence[Charge | Counter], within: float | None = None) -> AsyncPipeline:
        """Return the pipeline to the node of these counters, for callers that wait so many seconds.

        Raises:
            InvalidStore: The store belongs to another event loop.
        """
        if asyncio.get_running_loop() is not self._loop:
            self._bind_to_running_loop()
        lane = self._lane(counters, within)
        pipeline = self._pipelines.get(lane)
        if pipeline is None:
            pipeline = self._pipelines[lane] = AsyncPipeline(**self._settings(lane, owned=self._owned))
        return pipeline

    def _bind_to_running_loop(self) -> None:
        """Make the store belong to the running event loop, as connections of another one cannot be awaited here."""
        loop = asyncio.get_running_loop()
        if loop is self._loop:
            return
        if self._loop is not None:
            if not (self._owned and self._loop.is_closed()):
                raise InvalidStore(
                    "this store belongs to another event loop, nothing was taken: make a store for each loop",
                    store=self,
                )
            self._client.connection_pool.reset()  # type: ignore[no-untyped-call] # they died with their loop
        self._loop = loop
        self._pipelines = {}
        self._prober.forget()
        self._health.reset()
        if self._owned:
            # The loop refers to an open connection, and the connection to its pipeline: neither is ever collected.
            if self._finalizer is not None:
                self._finalizer.detach()  # it holds the pipelines of the loop before
            self._finalizer = finalize(self, _abandon, loop, self._pipelines)
            self._finalizer.atexit = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def _abandon(loop: asyncio.AbstractEventLoop, pipelines: dict[Lane, AsyncPipeline]) -> None:
    """Close the connections of a store that was collected without being closed; a collection may be in any thread."""
    with contextlib.suppress(RuntimeError):  # the loop is closed, and its connections with it
        for pipeline in pipelines.values():
            loop.call_soon_threadsafe(pipeline.abandon)
