"""Playing: lanes that ask, each in a thread or a task of its own."""

import asyncio
import contextlib
import itertools
import threading
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from .clocks import Clock, true_monotonic
from .notes import Notes, reply
from .restless import threads_switched_often
from .subject import Subject

_BEAT = 0.005  # seconds


class Step(NamedTuple):
    """What a lane does from one moment of the play on; see the protocol."""

    at: float
    until: float | None
    times: int
    pause: float
    verb: str
    cost: int
    keys: Sequence[str]


class Play:
    """One play.

    Args:
        subject: Who is asked.
        clock: The clock that ``at`` and ``until`` are on, and the records.
        lanes: What is asked.
        begin_at: When the play begins, on that clock; a moved one begins now.
        end_at: When its time is up, on the true clock: nobody is asked any more.
        restless: Whether to switch threads between the lines of the target's file.
        keep: False to let the records go.
    """

    def __init__(
        self,
        subject: Subject,
        clock: Clock,
        *,
        lanes: Sequence[Sequence[Sequence[Any]]],
        begin_at: float,
        end_at: float,
        restless: bool,
        keep: bool,
    ) -> None:
        self._subject, self._clock = subject, clock
        self._lanes = [([Step(*step) for step in lane], Notes(keep=keep)) for lane in lanes]
        self._begin_at = clock.now() if clock.moved else begin_at
        self._end_at, self._cut = end_at, False
        self._restless = restless
        self._stalled = 0.0
        self._broken: BaseException | None = None

    def run(self) -> dict[str, object]:
        """Play it, and return the reply."""
        if self._subject.asynchronous:
            self._subject.run(self._tasks())
        elif self._clock.moved or len(self._lanes) == 1:
            for lane, notes in self._lanes:
                self._play(lane, notes)
        else:
            self._threads()
        return {
            **reply([notes for _, notes in self._lanes]),
            "stalled": self._stalled,
            "cut": self._cut,
            "asynchronous": self._subject.asynchronous,
        }

    def _threads(self) -> None:
        threads = [threading.Thread(target=self._guarded, args=each, daemon=True) for each in self._lanes]
        with threads_switched_often(self._subject.file if self._restless else None):
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        if self._broken is not None:
            raise self._broken

    def _guarded(self, lane: Sequence[Step], notes: Notes) -> None:
        try:
            self._play(lane, notes)
        except BaseException as error:  # noqa: BLE001 - our own, as where there is no memory left to note an answer
            self._broken = error

    def _play(self, lane: Sequence[Step], notes: Notes) -> None:
        for step in lane:
            self._clock.pause(self._left(step))
            for key in self._turns(step, notes):
                start, told = self._clock.now(), None
                try:
                    told = self._subject.ask(step.verb, key, step.cost, notes.odd)
                except BaseException as error:  # noqa: BLE001 - whatever it is, it is what the caller would have got
                    notes.failed(error)
                notes.record(start, self._clock.now(), step.verb, key, step.cost, told=told)
                if step.pause:
                    self._clock.pause(step.pause)

    async def _tasks(self) -> None:
        lanes = [self._play_async(*each) for each in self._lanes]
        if self._clock.moved:  # nothing that sleeps would wake
            await asyncio.gather(*lanes)
            return
        beat = asyncio.create_task(self._beat())
        await asyncio.gather(*lanes)
        await asyncio.sleep(2 * _BEAT)  # for the last beat, if it was late
        beat.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await beat

    async def _play_async(self, lane: Sequence[Step], notes: Notes) -> None:
        for step in lane:
            await self._pause_async(self._left(step))
            for key in self._turns(step, notes):
                start, told = self._clock.now(), None
                try:
                    told = await self._subject.ask_async(step.verb, key, step.cost, notes.odd)
                except BaseException as error:  # noqa: BLE001 - as above; nobody cancels a lane, so that is the target's, too
                    notes.failed(error)
                notes.record(start, self._clock.now(), step.verb, key, step.cost, told=told)
                if step.pause:
                    await self._pause_async(step.pause)

    async def _pause_async(self, seconds: float) -> None:
        if self._clock.moved:
            self._clock.advance(seconds)
        else:
            await asyncio.sleep(seconds)

    async def _beat(self) -> None:
        # How long the loop was held up at the most: what every other request of the process would have waited.
        while True:
            slept_at = true_monotonic()
            await asyncio.sleep(_BEAT)
            self._stalled = max(self._stalled, true_monotonic() - slept_at - _BEAT)

    def _left(self, step: Step) -> float:
        return max(0.0, self._begin_at + step.at - self._clock.now())

    def _turns(self, step: Step, notes: Notes) -> Iterator[str]:
        """Name the keys of a step, one after the other, for as long as it lasts."""
        for key in itertools.islice(itertools.cycle(step.keys), step.times):
            if notes.full or (step.until is not None and self._clock.now() >= self._begin_at + step.until):
                return
            if true_monotonic() >= self._end_at:
                self._cut = True
                return
            yield key
