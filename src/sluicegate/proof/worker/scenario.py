"""`Scenario`: run the calls of several clients at once, each client in its own thread or task."""

import asyncio
import contextlib
import itertools
import threading
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from .clocks import TargetClock, true_monotonic
from .heartbeat import Heartbeat
from .loaded_target import LoadedTarget
from .preemption import preempted_threads
from .recorder import Recorder, reply

_BEAT = 0.005  # seconds between two checks that the event loop is not blocked


class Step(NamedTuple):
    """A run of calls of one client; the description of this package has the fields."""

    at: float
    until: float | None
    times: int
    pause: float
    verb: str
    cost: int
    timeout: float | None
    keys: Sequence[str]


class Scenario:
    """One scenario.

    Args:
        target: The target to call.
        clock: The clock for the times of steps and records.
        clients: The steps of each client.
        start_at: When the scenario starts on that clock; with a manual clock it starts now.
        end_at: The time on the true clock after which no call is made.
        preempt: Whether to switch threads between the lines of the target's file.
        keep: False to discard the records.
    """

    def __init__(
        self,
        target: LoadedTarget,
        clock: TargetClock,
        heartbeat: Heartbeat,
        *,
        clients: Sequence[Sequence[Sequence[Any]]],
        start_at: float,
        end_at: float,
        preempt: bool,
        keep: bool,
    ) -> None:
        self._target, self._clock, self._heartbeat = target, clock, heartbeat
        self._clients = [([Step(*step) for step in client], Recorder(keep=keep)) for client in clients]
        self._start_at = clock.now() if clock.manual else start_at
        self._end_at, self._cut = end_at, False
        self._preempt = preempt
        self._loop_blocked = 0.0
        self._internal_error: BaseException | None = None

    def run(self) -> dict[str, object]:
        """Make all calls and return the fields of the reply."""
        self._heartbeat.late = 0.0
        self._all_clients()
        return {
            **reply([recorder for _, recorder in self._clients]),
            "loop_blocked": self._loop_blocked,
            "paused": 0.0 if self._clock.manual else self._heartbeat.late,
            "cut": self._cut,
            "asynchronous": self._target.asynchronous,
        }

    def _all_clients(self) -> None:
        if self._target.asynchronous:
            self._target.run(self._tasks())
        elif self._clock.manual or len(self._clients) == 1:
            for client, recorder in self._clients:
                self._run_client(client, recorder)
        else:
            self._threads()

    def _threads(self) -> None:
        threads = [threading.Thread(target=self._guarded, args=each, daemon=True) for each in self._clients]
        with preempted_threads(self._target.file if self._preempt else None):
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        if self._internal_error is not None:
            raise self._internal_error

    def _guarded(self, client: Sequence[Step], recorder: Recorder) -> None:
        try:
            self._run_client(client, recorder)
        except BaseException as error:  # noqa: BLE001 - an error of the worker's, such as no memory left for a record
            self._internal_error = error

    def _run_client(self, client: Sequence[Step], recorder: Recorder) -> None:
        for step in client:
            self._clock.pause(self._left(step))
            for key in self._keys_of(step, recorder):
                start, answer = self._clock.now(), None
                try:
                    answer = self._target.call(step.verb, key, step.cost, step.timeout, recorder.unexpected)
                except BaseException as error:  # noqa: BLE001 - a caller would have got it, whatever it is
                    recorder.failed(error)
                recorder.record(start, self._clock.now(), step.verb, key, step.cost, answer=answer)
                if step.pause:
                    self._clock.pause(step.pause)

    async def _tasks(self) -> None:
        clients = [self._run_client_async(*each) for each in self._clients]
        if self._clock.manual:  # a sleep would never end
            await asyncio.gather(*clients)
            return
        beat = asyncio.create_task(self._beat())
        await asyncio.gather(*clients)
        await asyncio.sleep(2 * _BEAT)  # for the last beat, which may be late
        beat.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await beat

    async def _run_client_async(self, client: Sequence[Step], recorder: Recorder) -> None:
        for step in client:
            await self._pause_async(self._left(step))
            for key in self._keys_of(step, recorder):
                start, answer = self._clock.now(), None
                try:
                    answer = await self._target.call_async(step.verb, key, step.cost, step.timeout, recorder.unexpected)
                except BaseException as error:  # noqa: BLE001 - as above; only the target can have cancelled it
                    recorder.failed(error)
                recorder.record(start, self._clock.now(), step.verb, key, step.cost, answer=answer)
                if step.pause:
                    await self._pause_async(step.pause)

    async def _pause_async(self, seconds: float) -> None:
        if self._clock.manual:
            self._clock.advance(seconds)
        else:
            await asyncio.sleep(seconds)

    async def _beat(self) -> None:
        # The longest time the loop was blocked: every other request of the process would have waited for so long.
        while True:
            slept_at = true_monotonic()
            await asyncio.sleep(_BEAT)
            self._loop_blocked = max(self._loop_blocked, true_monotonic() - slept_at - _BEAT)

    def _left(self, step: Step) -> float:
        return max(0.0, self._start_at + step.at - self._clock.now())

    def _keys_of(self, step: Step, recorder: Recorder) -> Iterator[str]:
        """Yield the keys of a step, one for each call, for as long as the step lasts."""
        for key in itertools.islice(itertools.cycle(step.keys), step.times):
            if recorder.full or (step.until is not None and self._clock.now() >= self._start_at + step.until):
                return
            if true_monotonic() >= self._end_at:
                self._cut = True
                return
            yield key
