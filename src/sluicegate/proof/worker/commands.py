"""The main loop of a worker: read a command, run it, reply."""

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
from .bounds import limit_memory, raise_memory_limit
from .clocks import TargetClock
from .descriptions import Unusable, describe_error
from .heartbeat import Heartbeat
from .loaded_target import LoadedTarget
from .measure import time_calls, time_each, trace_memory, traced_bytes
from .scenario import Scenario

Reply = dict[str, object]


class Commands:
    """The commands of the protocol, one method each."""

    def __init__(self) -> None:
        self._clock = TargetClock()
        self._heartbeat = Heartbeat()
        self._loaded: LoadedTarget | None = None
        self._others: list[LoadedTarget] = []
        self._own_threads = threading.active_count()

    @property
    def _target(self) -> LoadedTarget:
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
        monotonic: float,
        memory: int,
        trace: bool,
        asynchronous: bool,
    ) -> Reply:
        limit_memory(memory)
        self._clock = TargetClock(manual=clock == "manual", wall=wall, monotonic=monotonic)
        if clock != "real":
            self._clock.install()
        self._loaded = LoadedTarget(target, limit, window, redis_url, asynchronous=asynchronous)
        if trace:
            trace_memory()
        return {"abilities": self._loaded.abilities()}

    def beside(self, *, limit: int, window: float) -> Reply:
        self._others.append(self._target)
        self._loaded = self._target.beside(limit, window)
        return {}

    def turn(self) -> Reply:
        self._others.append(self._target)
        self._loaded = self._others.pop(0)
        return {}

    def run(self, **how: Any) -> Reply:
        return Scenario(self._target, self._clock, self._heartbeat, **how).run()

    def time_calls(self, *, keys: Sequence[str], times: int, rounds: int, within: float) -> Reply:
        return {"rounds": time_calls(self._target, keys, times, rounds, within)}

    def time_each(self, *, keys: Sequence[str], times: int, pause: float, within: float) -> Reply:
        return {"seconds": time_each(self._target, self._clock, keys, times, pause, within)}

    def advance(self, *, seconds: float) -> Reply:
        self._clock.advance(seconds)
        return {}

    def wall(self, *, seconds: float) -> Reply:
        self._clock.set_wall(seconds)
        return {}

    def memory(self) -> Reply:
        return {"bytes": traced_bytes()}

    def threads(self) -> Reply:
        return {"threads": threading.active_count() - self._own_threads}


def serve(incoming: int, outgoing: int) -> NoReturn:
    """Run commands until the kit closes its end of the pipe."""
    for descriptor in (incoming, outgoing):
        os.set_inheritable(descriptor, False)  # processes that the target starts must not hold them open
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)  # prints to stderr where the target hangs
    waiting: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    _write(outgoing, json.dumps({"n": 0, "python": platform.python_version()}))
    # Read in a second thread, to notice the end of the pipe even while the target blocks the main thread.
    threading.Thread(target=_read, args=(incoming, waiting), daemon=True).start()
    commands = Commands()
    try:
        while True:
            command = waiting.get()
            _write(outgoing, _answer(commands, command.pop("n"), command.pop("do"), command))
    except BaseException:  # noqa: BLE001 - not even a reply could be written
        traceback.print_exc()
        end(1)  # does not wait for the target's threads


def _answer(commands: Commands, number: int, verb: str, arguments: dict[str, Any]) -> str:
    try:
        return json.dumps({"n": number, **getattr(commands, verb)(**arguments)})
    except Unusable as why:
        return json.dumps({"n": number, "unusable": str(why)})
    except BaseException as error:  # noqa: BLE001 - the target's own error, sys.exit() included
        if isinstance(error, MemoryError):
            raise_memory_limit()
        return json.dumps({"n": number, "raised": describe_error(error)._asdict()})


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
    except BaseException:  # noqa: BLE001 - the target has closed the pipe, or reads from it as well
        end(PIPES_CLOSED)
    end(0)


def end(code: int) -> NoReturn:
    """End the process at once; with code 0, when the kit is gone, also everything the process started."""
    if code == 0 and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(code)
