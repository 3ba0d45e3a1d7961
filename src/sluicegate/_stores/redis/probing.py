"""Probes of a store that is down, until it answers: in a thread of their own, or as tasks. No caller waits for one.

Nothing runs here while the store is up. A store that is collected is not probed any more.
"""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from contextvars import Context
from functools import partial
from typing import Any
from weakref import ref

from sluicegate._core.errors import StoreError
from sluicegate._stores.redis.pipeline.waiter import Verb

Recovery = Generator[Verb, Any, bool]
"""One probe: yields verbs to run, is sent their results or thrown their errors, and returns whether the store is up."""


logger = logging.getLogger(__name__)

Delays = Callable[[], Iterator[float]]
"""Returns the seconds to wait before each probe."""


def drive(recovery: Recovery, run: Callable[[Verb], Any]) -> bool:
    """Run the steps of a probe, for threads."""
    send = partial(recovery.send, None)
    while True:
        try:
            verb = send()
        except StopIteration as stop:
            return bool(stop.value)
        try:
            result = run(verb)
        except StoreError as error:
            send = partial(recovery.throw, error)
        else:
            send = partial(recovery.send, result)


async def drive_awaited(recovery: Recovery, run: Callable[[Verb], Awaitable[Any]]) -> bool:
    """Run the steps of a probe, for tasks."""
    send = partial(recovery.send, None)
    while True:
        try:
            verb = send()
        except StopIteration as stop:
            return bool(stop.value)
        try:
            result = await run(verb)
        except StoreError as error:
            send = partial(recovery.throw, error)
        else:
            send = partial(recovery.send, result)


class ThreadProber:
    """Probes a store in a thread.

    Args:
        store: The store. It is referred to weakly.
        probe: Probes it once, and returns whether it is up.
        delays: Called when probing begins.
    """

    def __init__(self, store: object, probe: Callable[[Any], bool], delays: Delays) -> None:
        self._store = ref(store)
        self._probe = probe
        self._delays = delays
        self._stop: Any = None  # a lock that is held while the thread is to go on

    def start(self) -> None:
        """Probe until the store is up; also if a thread does already, which then ends."""
        self.stop()
        stop = threading.Lock()
        stop.acquire()
        self._stop = stop
        with contextlib.suppress(RuntimeError):  # there are too many threads, or the interpreter is shutting down
            # Not `threading.Thread`: it takes a lock that a signal handler, calling in the middle, would wait for.
            _thread.start_new_thread(_run, (self._store, self._probe, self._delays(), stop))

    def stop(self) -> None:
        """Let the thread end. It may be in the middle of a probe; then it ends after it."""
        stop, self._stop = self._stop, None
        if stop is not None:
            with contextlib.suppress(RuntimeError):  # another thread has stopped it, too
                stop.release()


def _run(of: ref[Any], probe: Callable[[Any], bool], delays: Iterator[float], stop: Any) -> None:
    for delay in delays:
        if stop.acquire(timeout=delay):
            return
        store = of()
        try:
            if store is None or probe(store):
                return
        except Exception:
            logger.exception("a probe failed in an unexpected way; probing goes on")
        del store


class TaskProber:
    """Probes a store in tasks of an event loop, with a timer between them.

    Args:
        store: The store. It is referred to weakly.
        probe: Probes it once, and returns whether it is up.
        delays: Called when probing begins.
    """

    def __init__(self, store: object, probe: Callable[[Any], Coroutine[Any, Any, bool]], delays: Delays) -> None:
        self._store = ref(store)
        self._probe = probe
        self._begin = delays
        self._delays: Iterator[float] = iter(())
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[bool] | None = None

    def start(self) -> None:
        """Probe until the store is up, on the running event loop; in place of a timer that was set before."""
        if self._timer is not None:
            self._timer.cancel()
        self._loop = asyncio.get_running_loop()
        self._delays = self._begin()
        self._set_timer()

    def forget(self) -> None:
        """Forget what ran on an event loop that is closed now."""
        self._timer = self._task = self._loop = None

    async def stop(self) -> None:
        """Probe no more, and wait for a probe that is running to end."""
        if self._timer is not None:
            self._timer.cancel()
        task, self._timer, self._task, self._loop = self._task, None, None, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    def _set_timer(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            # Not in the context of the request that found the store down: it would live as long as the outage.
            self._timer = self._loop.call_later(next(self._delays), self._start_probe, context=Context())

    def _start_probe(self) -> None:
        self._timer = None
        store = self._store()
        if store is not None and self._loop is not None:
            self._task = self._loop.create_task(self._probe(store))
            self._task.add_done_callback(self._on_probed)

    def _on_probed(self, task: asyncio.Task[bool]) -> None:
        if task is not self._task:  # it was stopped
            return
        self._task = None
        # Also if it was cancelled, as by a program that cancels all its tasks: unless its loop ends now, go on.
        failure = None if task.cancelled() else task.exception()
        if failure is not None:
            logger.error("a probe failed in an unexpected way; probing goes on", exc_info=failure)
        if task.cancelled() or failure is not None or not task.result():
            self._set_timer()
