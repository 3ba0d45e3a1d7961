"""Counters on a Redis or Valkey server, through redis-py: one script call for a batch, never sent twice.

`_Body` is what the two stores share: it yields each command and is sent the reply, or thrown the server's error. What
is left to `RedisStore` and `AsyncRedisStore` is to carry commands there and back.

Connections are taken from the client's pool and spoken to directly: a client's own ``execute_command`` repeats a call
whose reply was lost, ten times by default, and each of them may have charged. Whatever goes wrong once a command may
have left raises `StoreTimeout`, the outcome unknown, and its connection is dropped, so that a late reply is never read
as another's.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from collections.abc import Callable, Generator, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import parse_qs, urlsplit

try:
    import redis
    import redis.asyncio
    from redis.asyncio.retry import Retry as AsyncRetry
    from redis.backoff import NoBackoff
    from redis.exceptions import AuthenticationError, BusyLoadingError, NoScriptError, RedisError, ResponseError
    from redis.retry import Retry
except ImportError as error:  # pragma: no cover - seen by the test of the bare package
    raise ImportError("the Redis stores need redis-py: pip install 'headgate[redis]'") from error

from headgate.errors import InvalidStore, StoreError, StoreTimeout, StoreUnavailable
from headgate.keys import stored_key
from headgate.policy import SlidingWindow
from headgate.store.forking import renew_after_fork
from headgate.store.protocol import Answer, Request
from headgate.store.script import Arguments, Script, answers, arguments

PREFIX = "headgate:"
TIMEOUT = 0.5
_LONGEST = 3600
IN_FLIGHT = 32
"""Calls under way at once from one store, at most: more would be faster neither here nor on the server."""

_Result = TypeVar("_Result")
_Steps = Generator[Arguments, Any, _Result]

# What the server answers in place of running a script. redis-py calls some of them errors of the connection.
_REFUSALS = (ResponseError, BusyLoadingError, AuthenticationError)

# What a driver may raise: beside its own errors, those of a host name, a codec or a time-out that it cannot use.
_FAILURES = (RedisError, OSError, ValueError, LookupError, OverflowError)


class _Body:
    """What both stores do, but for carrying a command to the server.

    Attributes:
        mended: Logs so far that a clock step had left in the future, and that were shifted back (G8).
    """

    def __init__(self, prefix: str, timeout: float) -> None:
        if not isinstance(prefix, str) or not prefix or not prefix.isprintable():
            raise ValueError(f"prefix must be printable text, 1 character or more, got {prefix!r}")
        if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout <= _LONGEST:
            raise ValueError(f"timeout must be seconds above 0, an hour at most, got {timeout!r}")
        self.mended = 0
        self._prefix = prefix
        self._timeout = timeout
        self._scripts = {charging: Script(charging=charging) for charging in (True, False)}
        self._owned = False

    def _decide(self, requests: Sequence[Request], charging: bool) -> _Steps[list[Answer]]:
        script, asked = self._scripts[charging], arguments(self._prefix, requests)
        try:
            reply = yield ["EVALSHA", script.sha, *asked]
        except NoScriptError:  # a new server, a failover, a SCRIPT FLUSH: it ran nothing, so this is the first sending
            reply = yield ["EVAL", script.source, *asked]
        mended, answered = answers(requests, reply)
        self.mended += mended
        return answered

    def _forget(self, policy: SlidingWindow, key: str) -> _Steps[None]:
        yield ["DEL", stored_key(self._prefix, policy.namespace, key).encode()]


def _unavailable(why: object) -> StoreUnavailable:
    return StoreUnavailable(f"the store could not be asked, nothing was taken: {why}")


def _lost(why: object) -> StoreTimeout:
    return StoreTimeout(f"the store's answer was lost, the cost may have been taken: {why}")


def _refused(error: Exception) -> StoreError:
    text = str(error)
    if "script:" in text:  # it failed on the way, and what it had written stands
        return StoreError(f"the script failed on the server, the cost may have been taken: {text}")
    return StoreUnavailable(f"the store refused, nothing was taken: {text}")


def _in_flight(client: Any) -> int:
    """Return how many calls may be under way: what lies past it waits here, where a pool of redis-py would raise."""
    return min(IN_FLIGHT, int(client.connection_pool.max_connections))


def _client(kind: Any, url: str, timeout: float, no_retry: object) -> Any:
    """Make a client of our own, by redis-py's ``from_url``.

    RESP2: under RESP3 redis-py's pools hand out a connection that the server has closed meanwhile, if it has
    maintenance notifications on (8.1); the first call after a restart would be lost.
    """
    settings = {"socket_timeout": timeout, "socket_connect_timeout": timeout, "protocol": 2, "retry": no_retry}
    _check_address(url)
    try:
        _refuse_retries(url)
        client = kind.from_url(url, **settings)
        pool = client.connection_pool
        _check_timeouts(pool.connection_kwargs)
        pool.connection_class(**pool.connection_kwargs)  # an option it does not know would else fail the first call
    except (ValueError, TypeError, RedisError, LookupError) as error:
        # Not what redis-py says of it: that may quote a part of the password.
        why = type(error).__name__
        raise InvalidStore(
            f"store must be a URL that redis-py can read, without options for retries: it raised {why}", store=url
        ) from None
    return client


def _check_timeouts(settings: dict[str, Any]) -> None:
    if any((settings.get(name) or 1) <= 0 for name in ("socket_timeout", "socket_connect_timeout")):
        raise ValueError("a time-out below 0")


def _check_address(url: str) -> None:
    """Raise `InvalidStore` for a URL whose parts cannot be told. It quotes none of it."""
    if not isinstance(url, str):
        raise InvalidStore(f"the URL of a store must be text, got one of type {type(url).__name__}", store=url)
    if url.startswith("unix://"):
        return
    # redis-py takes a database that is no number for the first one, without a word.
    try:
        parts = urlsplit(url)
        readable = parts.port != 0 and re.fullmatch(r"/?\d*", parts.path)
    except ValueError:
        readable = False
    if not readable:
        raise InvalidStore(
            "store must be a URL such as redis://user:password@host:6379/0, with a port from 1 to 65535 and a database "
            "number; what is no letter or digit in a password has to be percent-encoded",
            store=url,
        )


def _no_client(expected: str, store: str, came: object) -> InvalidStore:
    # By its type alone: if it is a URL, it may hold a password.
    advice = f"; for a URL there is {store}.from_url" if isinstance(came, str) else ""
    return InvalidStore(f"client must be a {expected}, got one of type {type(came).__name__}{advice}", store=came)


def _refuse_retries(url: str) -> None:
    if any(option.startswith("retry") for option in parse_qs(urlsplit(url).query)):
        raise ValueError("it asks for retries, and no call is sent twice")


class RedisStore(_Body):
    """Counters on a Redis (7.0 or newer) or Valkey (7.2 or newer) server, for threads. The server's clock decides.

    Args:
        client: A ``redis.Redis`` of your own. It is never closed here; its pool, its timeouts and either mode of
            decoding serve. Its retries serve to connect, so that a call may last as long as they do; they never send a
            call twice.
        prefix: What all stored keys begin with. One with a hash tag of its own (``"{pay}:"``) keeps all of them in
            one slot of a cluster.
        timeout: Seconds that a call waits for a connection to be free. (`from_url` sets the timeouts of the
            connection itself to it, too.)

    Attributes:
        mended: Logs so far that a clock step had left in the future, and that were shifted back (G8).
    """

    def __init__(self, client: redis.Redis, *, prefix: str = PREFIX, timeout: float = TIMEOUT) -> None:
        super().__init__(prefix, timeout)
        if not isinstance(client, redis.Redis):
            raise _no_client("redis.Redis", "RedisStore", client)
        self._client = client
        self._make: Callable[[], redis.Redis] | None = None
        self.after_fork()
        renew_after_fork(self)

    @classmethod
    def from_url(cls, url: str, *, prefix: str = PREFIX, timeout: float = TIMEOUT) -> Self:
        """Make a store with a client of its own, which `close` closes. Connects at the first call.

        Args:
            url: As redis-py reads it, ``redis://[[user]:[password]@]host[:port][/db][?option=value]``. An option
                named in it wins over those set here; retries are refused.
            prefix: See `RedisStore`.
            timeout: Seconds, each, to wait for a free connection, to connect, and for the reply.

        Raises:
            InvalidStore: The URL cannot be read.
        """
        make = partial(_client, redis.Redis, url, timeout, Retry(NoBackoff(), 0))
        store = cls(make(), prefix=prefix, timeout=timeout)
        store._owned, store._make = True, make
        return store

    def decide(self, requests: Sequence[Request], *, charging: bool = True) -> list[Answer]:
        """Decide a batch in one script call; see `headgate.store.Store.decide`."""
        return self._run(self._decide(requests, charging))

    def forget(self, policy: SlidingWindow, key: str) -> None:
        """Drop the counter of ``key`` under ``policy``, for all who share it."""
        self._run(self._forget(policy, key))

    def close(self) -> None:
        """Close the client, if this store made it."""
        if self._owned:
            self._client.close()

    def after_fork(self) -> None:
        """Renew the gate: calls that were under way in the parent never end here. And a client of our own, as well.

        The pool of redis-py (8.1) waits for ever for a lock that another thread held when the process was forked.
        """
        if self._make is not None:
            self._inherited = self._client  # kept: its finalizer would wait for that lock, too
            self._client = self._make()
        self._gate = threading.BoundedSemaphore(_in_flight(self._client))

    def _run(self, steps: _Steps[_Result]) -> _Result:
        command = next(steps)
        if not self._gate.acquire(timeout=self._timeout):
            raise _unavailable(f"as many calls as may be are under way, and none ended within {self._timeout} s")
        pool = self._client.connection_pool
        sent = False
        try:
            connection = pool.get_connection()
            try:
                sent = True
                return _carry(connection, command, steps)
            finally:
                pool.release(connection)
        except _REFUSALS as refusal:
            raise _refused(refusal) from refusal
        except _FAILURES as error:
            raise (_lost(error) if sent else _unavailable(error)) from error
        finally:
            self._gate.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _carry(connection: Any, command: Arguments, steps: _Steps[_Result]) -> _Result:
    try:
        while True:
            connection.send_command(*command)
            try:
                reply = connection.read_response()
            except _REFUSALS as refusal:
                command = steps.throw(refusal)
            else:
                command = steps.send(reply)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    except _REFUSALS:
        raise
    except BaseException:
        connection.disconnect()  # or the late reply would be read as the next call's
        raise


class AsyncRedisStore(_Body):
    """Counters on a Redis or Valkey server, for the tasks of one event loop at a time. See `RedisStore`.

    A call that is cancelled while it waits for its turn takes nothing; one that was sent may have been counted. A store
    made by `from_url` may go from a loop that was closed to another one; otherwise a call on another loop than that of
    the first raises `InvalidStore`.

    Args:
        client: A ``redis.asyncio.Redis`` of your own, on the loop that will use the store.
        prefix: See `RedisStore`.
        timeout: Seconds that a whole call may last: waiting for its turn, connecting, and the reply.

    Attributes:
        mended: Logs so far that a clock step had left in the future, and that were shifted back (G8).
    """

    def __init__(self, client: redis.asyncio.Redis, *, prefix: str = PREFIX, timeout: float = TIMEOUT) -> None:
        super().__init__(prefix, timeout)
        if not isinstance(client, redis.asyncio.Redis):
            raise _no_client("redis.asyncio.Redis", "AsyncRedisStore", client)
        self._client = client
        self._loop: asyncio.AbstractEventLoop | None = None

    @classmethod
    def from_url(cls, url: str, *, prefix: str = PREFIX, timeout: float = TIMEOUT) -> Self:
        """Make a store with a client of its own, which `aclose` closes. See `RedisStore.from_url`."""
        client = _client(redis.asyncio.Redis, url, timeout, AsyncRetry(NoBackoff(), 0))
        store = cls(client, prefix=prefix, timeout=timeout)
        store._owned = True
        return store

    async def decide(self, requests: Sequence[Request], *, charging: bool = True) -> list[Answer]:
        """See `RedisStore.decide`."""
        return await self._run(self._decide(requests, charging))

    async def forget(self, policy: SlidingWindow, key: str) -> None:
        """See `RedisStore.forget`."""
        await self._run(self._forget(policy, key))

    async def aclose(self) -> None:
        """Close the client, if this store made it."""
        if self._owned:
            self._settle_in()
            await self._client.aclose()

    async def _run(self, steps: _Steps[_Result]) -> _Result:
        self._settle_in()
        command = next(steps)
        pool = self._client.connection_pool
        sent = False
        try:
            async with asyncio.timeout(self._timeout), self._gate:
                connection = await pool.get_connection()  # type: ignore[no-untyped-call]
                try:
                    sent = True
                    return await _carry_async(connection, command, steps)
                finally:
                    await _give_back(pool, connection)
        except _REFUSALS as refusal:
            raise _refused(refusal) from refusal
        except _FAILURES as error:
            why = str(error) or f"nothing came within {self._timeout} s"
            raise (_lost(why) if sent else _unavailable(why)) from error

    def _settle_in(self) -> None:
        """Make sure that the connections are of the loop that runs: those of another one cannot be awaited here."""
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
        self._gate = asyncio.Semaphore(_in_flight(self._client))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


async def _give_back(pool: Any, connection: Any) -> None:
    try:
        await pool.release(connection)
    except asyncio.CancelledError:
        # Cancelled while the pool was busy: the connection would count as in use for ever. A second time it is found
        # given back already, or it is given back now.
        with contextlib.suppress(KeyError, ValueError):
            await pool.release(connection)
        raise


async def _carry_async(connection: Any, command: Arguments, steps: _Steps[_Result]) -> _Result:
    try:
        while True:
            await connection.send_command(*command)
            try:
                reply = await connection.read_response()
            except _REFUSALS as refusal:
                command = steps.throw(refusal)
            else:
                command = steps.send(reply)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    except _REFUSALS:
        raise
    except BaseException:
        await connection.disconnect(nowait=True)  # or the late reply would be read as the next call's
        raise
