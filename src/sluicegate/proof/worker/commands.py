"""The loop: read a command, do it, answer."""

import faulthandler
import json
import os
import platform
import queue
import signal
import threading
import traceback
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from . import PIPES_CLOSED
from .bounds import bound, make_room
from .clocks import Clock
from .measure import held, pace, trace_memory
from .play import Play
from .subject import Subject
from .words import Unusable, raised

Reply = dict[str, object]


class Commands:
    """Each method is a command of the protocol."""

    def __init__(self) -> None:
        self._clock = Clock()
        self._loaded: Subject | None = None
        self._own_threads = threading.active_count()

    @property
    def _subject(self) -> Subject:
        assert self._loaded is not None
        return self._loaded

    def load(
        self,
        *,
        target: Mapping[str, str],
        limit: int,
        window: float,
        redis_url: str | None,
        clock: str,
        wall: float,
        memory: int,
        trace: bool,
        asynchronous: bool,
    ) -> Reply:
        bound(memory)
        self._clock = Clock(moved=clock == "moved", wall=wall)
        if clock != "real":
            self._clock.install()
        self._loaded = Subject(target, limit, window, redis_url, asynchronous=asynchronous)
        if trace:
            trace_memory()
        return {"abilities": self._loaded.abilities()}

    def play(self, **how: Any) -> Reply:
        return Play(self._subject, self._clock, **how).run()

    def pace(self, *, keys: Sequence[str], times: int, rounds: int, within: float) -> Reply:
        return {"rounds": pace(self._subject, keys, times, rounds, within)}

    def advance(self, *, seconds: float) -> Reply:
        self._clock.advance(seconds)
        return {}

    def wall(self, *, seconds: float) -> Reply:
        self._clock.set_wall(seconds)
        return {}

    def memory(self) -> Reply:
        return {"bytes": held()}

    def threads(self) -> Reply:
        return {"threads": threading.active_count() - self._own_threads}


def serve(incoming: int, outgoing: int) -> NoReturn:
    """Do what is commanded until nobody is left to answer."""
    for descriptor in (incoming, outgoing):
        os.set_inheritable(descriptor, False)  # whatever the target starts
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)  # on stderr: where it hangs
    waiting: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    _write(outgoing, json.dumps({"n": 0, "python": platform.python_version()}))
    # Beside the main thread, so that the end of the commands is seen whatever the target is doing there.
    threading.Thread(target=_read, args=(incoming, waiting), daemon=True).start()
    commands = Commands()
    try:
        while True:
            command = waiting.get()
            _write(outgoing, _answer(commands, command.pop("n"), command.pop("do"), command))
    except BaseException:  # noqa: BLE001 - not even an answer could be made
        traceback.print_exc()
        end(1)  # without waiting for the target's threads


def _answer(commands: Commands, number: int, verb: str, arguments: dict[str, Any]) -> str:
    try:
        return json.dumps({"n": number, **getattr(commands, verb)(**arguments)})
    except Unusable as why:
        return json.dumps({"n": number, "unusable": str(why)})
    except BaseException as error:  # noqa: BLE001 - the target's own, sys.exit() included
        if isinstance(error, MemoryError):
            make_room()
        return json.dumps({"n": number, "raised": raised(error)._asdict()})


def _write(outgoing: int, line: str) -> None:
    data = memoryview(line.encode() + b"\n")
    try:
        while data:
            data = data[os.write(outgoing, data) :]
    except OSError:
        end(PIPES_CLOSED)


def _read(incoming: int, waiting: queue.SimpleQueue[dict[str, Any]]) -> None:
    try:
        with os.fdopen(incoming, encoding="utf-8") as lines:
            for line in lines:
                waiting.put(json.loads(line))
    except BaseException:  # noqa: BLE001 - the target closed it, or reads it, too
        end(PIPES_CLOSED)
    end(0)


def end(code: int) -> NoReturn:
    """End the process at once; where nobody is left who would do so, with all that it started."""
    if code == 0 and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(code)
