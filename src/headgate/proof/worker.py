"""A worker: the process in which the target runs. It loads it, asks it as it is told, and says what came.

It is run as a file, by whichever Python the target needs, so it imports the standard library alone and nothing of
Headgate. Commands come in and replies go out as lines of JSON, on two pipes of their own; what the target prints goes
elsewhere. The target is not trusted: it may hang, die, or write to the pipes, and the other side reckons with it.

A command has ``n``, its number, which its reply repeats, and ``do``:

    load    target, limit, window, redis_url, clock (real or moved), wall (seconds off), memory (MiB), trace
    play    lanes, begin_at, restless, keep
    pace    keys, times, rounds
    clock   advance (seconds, of the moved clock), wall (seconds that the wall clock is off by from now on)
    memory  nothing more

A lane of a play is a list of steps, done one after the other in a thread of its own (or a task, where the target is
asynchronous). A step is ``[at, until, times, pause, verb, cost, keys]``: at ``at`` seconds after the play began, ask
``times`` times, or until ``until`` where that is no null, each time for the next of the keys, ``pause`` seconds apart.
"""

import asyncio
import contextlib
import datetime
import faulthandler
import gc
import http.client
import importlib
import importlib.util
import inspect
import itertools
import json
import math
import os
import queue
import random
import signal
import ssl
import sys
import threading
import time
import traceback
import tracemalloc
from email.utils import parsedate_to_datetime
from urllib.parse import quote, urlsplit

MOST = 100_000
"""Records that one lane keeps at most."""

_LONGEST_TEXT = 500
_RESTS = (0.0,) * 10 + (0.00005,) * 8 + (0.002,)  # seconds
_IDLE = 1.0  # seconds after which a connection is made anew: a server may be closing the old one at this moment
_PATIENCE = 30.0  # seconds for a service to answer

# The true ones: the target may be given others.
_monotonic, _monotonic_ns, _sleep, _time_ns, _perf_ns = (
    time.monotonic, time.monotonic_ns, time.sleep, time.time_ns, time.perf_counter_ns
)  # fmt: skip
_DateTime = datetime.datetime


class Clock:
    """The clocks that the target reads through Python, where they are not the true ones.

    Moved, all of them stand still but for `advance`, and a sleep advances them. Else only the wall clock is off.
    """

    def __init__(self, *, moved: bool, wall: float) -> None:
        self.moved = moved
        self.wall_ns = round(wall * 1e9)
        self.now_ns = 0
        # Such that all sums of it and whole eighths of a second are exact in a float.
        self._wall_start_ns, self._start_ns = 1_700_000_000 * 10**9, 1_000_000 * 10**9

    def advance(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)

    def time_ns(self) -> int:
        return (self._wall_start_ns + self.now_ns if self.moved else _time_ns()) + self.wall_ns

    def monotonic_ns(self) -> int:
        return self._start_ns + self.now_ns

    def now(self) -> float:
        return self.now_ns / 1e9 if self.moved else _monotonic()

    def install(self) -> None:
        """Put these clocks in place of Python's, for whatever is imported from now on."""
        time.time, time.time_ns = (lambda: self.time_ns() / 1e9), self.time_ns
        if self.moved:
            time.monotonic = time.perf_counter = lambda: self.monotonic_ns() / 1e9
            time.monotonic_ns = time.perf_counter_ns = self.monotonic_ns
            time.sleep = self.advance
        clock = self

        class MovedDateTime(_DateTime):
            @classmethod
            def now(cls, tz=None):
                return cls.fromtimestamp(clock.time_ns() / 1e9, tz)

            @classmethod
            def utcnow(cls):
                return cls.fromtimestamp(clock.time_ns() / 1e9, datetime.UTC).replace(tzinfo=None)

            @classmethod
            def today(cls):
                return cls.now()

        datetime.datetime = MovedDateTime


class Service:
    """A running service as a limiter: 200 is allowed, 429 is denied, anything else is an error."""

    def __init__(self, url: str) -> None:
        self._url = urlsplit(url)
        self._path = url.split(self._url.netloc, 1)[1] or "/"
        self._mine = threading.local()

    def take(self, user_id: str) -> "Told":
        connection = self._connection()
        try:
            path = self._path.replace("{key}", quote(user_id, safe=""))
            connection.request("GET", path, headers={"User-Agent": "headgate-grade"})
            response = connection.getresponse()
            response.read(1 << 20)
        except BaseException:
            self._drop()
            raise
        self._mine.used_at = _monotonic()
        if response.will_close or not response.isclosed():
            self._drop()
        if response.status not in (200, 429):
            raise RuntimeError(f"expected 200 or 429, got status {response.status}")
        return Told(response.status == 200, _seconds(response.getheader("Retry-After")), None)

    def allow(self, user_id: str) -> bool:
        return self.take(user_id).allowed

    def _connection(self) -> http.client.HTTPConnection:
        made = getattr(self._mine, "connection", None)
        if made is not None and _monotonic() - self._mine.used_at < _IDLE:
            return made
        self._drop()
        host, port = self._url.hostname, self._url.port
        if self._url.scheme == "https":
            made = http.client.HTTPSConnection(host, port, timeout=_PATIENCE, context=ssl.create_default_context())
        else:
            made = http.client.HTTPConnection(host, port, timeout=_PATIENCE)
        made.connect()  # before the request is timed any further, and so that a refusal is told from a lost answer
        self._mine.connection = made
        return made

    def _drop(self) -> None:
        made, self._mine.connection = getattr(self._mine, "connection", None), None
        if made is not None:
            made.close()


def _seconds(retry_after: str | None) -> float | None:
    if retry_after is None:
        return None
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after)
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - _time_ns() / 1e9)
    except ValueError:
        return None


class Told:
    """What one answer said."""

    __slots__ = ("allowed", "remaining", "retry_after")

    def __init__(self, allowed: bool, retry_after: float | None, remaining: int | None) -> None:
        self.allowed, self.retry_after, self.remaining = allowed, retry_after, remaining


class Subject:
    """The target, loaded, and its verbs, each called the same way: ``verb(key, cost)``."""

    def __init__(self, command: dict) -> None:
        self.files: set[str] = set()
        where = command["target"]
        if "url" in where:
            self.limiter, self.takes_redis, self.asynchronous = Service(where["url"]), False, False
        else:
            factory = self._find(where)
            self.takes_redis = _takes_redis(factory)
            arguments = [command["limit"], command["window"]]
            if self.takes_redis and command["redis_url"]:
                arguments.append(command["redis_url"])
            self.limiter = factory(*arguments) if not self.takes_redis or command["redis_url"] else None
        self.runner: asyncio.Runner | None = None
        allow = getattr(self.limiter, "allow", None)
        if self.limiter is not None and not callable(allow):
            raise TypeError(f"{where.get('name')} has no method allow(user_id)")
        self.asynchronous = inspect.iscoroutinefunction(allow) or inspect.isawaitable(self.limiter)
        if inspect.isawaitable(self.limiter):
            self.limiter = self.run(self.limiter)
        self.odd: dict[str, int] = {}

    def _find(self, where: dict):
        if "file" in where:
            module = _import_file(where["file"])
            self.files.add(where["file"])
        else:
            sys.path.insert(0, os.getcwd())
            module = importlib.import_module(where["module"])
            self.files.add(getattr(module, "__file__", "") or "")
        try:
            return getattr(module, where["name"])
        except AttributeError:
            raise AttributeError(f"there is no {where['name']} in {where.get('file') or where['module']}") from None

    def run(self, awaitable):
        """Run something awaitable on the one loop that the target sees."""

        async def wrapped():
            return await awaitable

        if self.runner is None:
            self.runner = asyncio.Runner()
        return self.runner.run(wrapped())

    def abilities(self) -> dict:
        """Say which verbs there are beside allow, and what they take."""
        limiter = self.limiter
        found = {"takes_redis": self.takes_redis, "asynchronous": self.asynchronous}
        for verb in ("take", "peek", "wait", "retry_after"):
            found[verb] = callable(getattr(limiter, verb, None))
        found["cost"] = "cost" in _parameters(getattr(limiter, "allow", None))
        found["take_cost"] = found["take"] and "cost" in _parameters(limiter.take)
        return found

    def told(self, verb: str, key: str, cost: int, answer) -> Told:
        """Read an answer. What is no bool where a bool is due is counted, and taken for what it is worth."""
        if verb == "allow" and type(answer) is not bool:
            self._note_odd(answer)
        if verb == "allow" or isinstance(answer, (bool, int)) or answer is None:
            return Told(bool(answer), None, None)
        allowed = getattr(answer, "allowed", answer)
        return Told(
            bool(allowed),
            _number(getattr(answer, "retry_after", None)),
            _whole(getattr(answer, "remaining", None)),
        )

    def _note_odd(self, answer) -> None:
        name = f"{type(answer).__name__} {_text(answer)}"
        if len(self.odd) < 5 or name in self.odd:
            self.odd[name] = self.odd.get(name, 0) + 1
        if inspect.iscoroutine(answer):
            answer.close()

    def call(self, verb: str, key: str, cost: int):
        """Ask in a thread: returns what the verb did."""
        method = getattr(self.limiter, verb)
        return method(key) if cost == 1 else method(key, cost=cost)

    def ask(self, verb: str, key: str, cost: int) -> Told:
        verb, further = self._verbs(verb)
        told = self.told(verb, key, cost, self.call(verb, key, cost))
        if further and not told.allowed:
            told.retry_after = _number(self.limiter.retry_after(key))
        return told

    async def ask_async(self, verb: str, key: str, cost: int) -> Told:
        verb, further = self._verbs(verb)
        told = self.told(verb, key, cost, await _awaited(self.call(verb, key, cost)))
        if further and not told.allowed:
            told.retry_after = _number(await _awaited(self.limiter.retry_after(key)))
        return told

    def _verbs(self, verb: str) -> tuple[str, bool]:
        # To take is to be told everything: by take, or else by allow and retry_after.
        if verb != "take" or hasattr(self.limiter, "take"):
            return verb, False
        return "allow", hasattr(self.limiter, "retry_after")


async def _awaited(answer):
    return await answer if inspect.isawaitable(answer) else answer


def _import_file(path: str):
    folder, package = os.path.dirname(path), []
    name = os.path.splitext(os.path.basename(path))[0]
    while os.path.exists(os.path.join(folder, "__init__.py")):
        folder, part = os.path.split(folder)
        package.insert(0, part)
    # The folder itself, for what stands beside it; and where the command was given, for `import app.config`.
    sys.path[:0] = [folder, os.getcwd()] if package else [folder, os.getcwd(), os.path.dirname(folder)]
    if package:
        return importlib.import_module(".".join([*package, name]))
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _parameters(function) -> dict:
    try:
        return dict(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return {}


def _takes_redis(factory) -> bool:
    """Tell whether the third argument is the URL of a Redis: by its name, or because there is no default for it."""
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    taken = [each for each in _parameters(factory).values() if each.kind in positional]
    if len(taken) < 3:
        return False
    third = taken[2]
    return "redis" in third.name.lower() or "url" in third.name.lower() or third.default is inspect.Parameter.empty


def _number(value) -> float | None:
    if isinstance(value, datetime.timedelta):
        value = value.total_seconds()
    usable = isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isnan(value)
    return float(value) if usable else None


def _whole(value) -> int | None:
    return value if type(value) is int else None


def _text(value) -> str:
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001 - a hostile repr
        text = f"(its repr raised {type(error).__name__})"
    return text[:_LONGEST_TEXT]


def _raised(error: BaseException) -> dict:
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 - a hostile str
        message = "(its text could not be had)"
    frames = traceback.extract_tb(error.__traceback__)
    outside = [frame for frame in frames if frame.filename != __file__]
    where = f"{os.path.basename(outside[-1].filename)}, line {outside[-1].lineno}" if outside else ""
    return {"type": type(error).__name__[:100], "message": message[:_LONGEST_TEXT], "where": where}


class Play:
    """Lanes that ask, and what they were answered."""

    def __init__(self, subject: Subject, clock: Clock, command: dict) -> None:
        self._subject, self._clock = subject, clock
        self._lanes = command["lanes"]
        self._begin = clock.now() if clock.moved else command["begin_at"]
        self._restless, self._keep = command["restless"], command["keep"]
        self._records: list[list[list]] = [[] for _ in self._lanes]
        self._errors: dict[tuple, int] = {}
        self._stalled = 0.0
        subject.odd.clear()

    def run(self) -> dict:
        if self._subject.asynchronous:
            self._subject.run(self._tasks())
        elif self._clock.moved or len(self._lanes) == 1:
            for lane, records in zip(self._lanes, self._records, strict=True):
                self._thread(lane, records)
        else:
            self._threads()
        errors = [{**dict(zip(("type", "message", "where"), error)), "times": n} for error, n in self._errors.items()]
        records = [record for lane in self._records for record in lane] if self._keep else []
        return {"records": records, "errors": errors, "odd": self._subject.odd, "stalled": self._stalled}

    def _threads(self) -> None:
        if self._restless:
            threading.settrace(self._trace)
        sys.setswitchinterval(1e-5)
        threads = [
            threading.Thread(target=self._thread, args=each, daemon=True)
            for each in zip(self._lanes, self._records, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        sys.setswitchinterval(0.005)
        threading.settrace(None)

    def _trace(self, frame, _event, _argument):
        return self._rest if frame.f_code.co_filename in self._subject.files else None

    def _rest(self, _frame, event, _argument):
        # Any thread may be stopped between any two lines; here each of them often is, and now and then for so long that
        # all the others get through whatever they do under a lock.
        if event == "line" and random.random() < 0.5:
            _sleep(random.choice(_RESTS))
        return self._rest

    def _thread(self, lane: list, records: list) -> None:
        for step in lane:
            at, until, times, pause, verb, cost, keys = step
            self._wait(at)
            for turn, key in enumerate(itertools.cycle(keys)):
                if turn >= times or (until is not None and self._clock.now() >= self._begin + until):
                    break
                start, told = self._clock.now(), None
                try:
                    told = self._subject.ask(verb, key, cost)
                except BaseException as error:  # noqa: BLE001 - whatever it is, it is what the caller would have got
                    self._failed(error)
                self._record(records, start, key, cost, told)
                if pause:
                    self._pause(pause)

    async def _tasks(self) -> None:
        lanes = [self._task(*each) for each in zip(self._lanes, self._records, strict=True)]
        if self._clock.moved:  # nothing that sleeps would wake
            await asyncio.gather(*lanes)
            return
        beat = asyncio.create_task(self._beat())
        await asyncio.gather(*lanes)
        await asyncio.sleep(0.01)  # for the last beat, if it was late
        beat.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await beat

    async def _task(self, lane: list, records: list) -> None:
        for step in lane:
            at, until, times, pause, verb, cost, keys = step
            if self._clock.moved:
                self._wait(at)
            else:
                await asyncio.sleep(max(0.0, self._begin + at - _monotonic()))
            for turn, key in enumerate(itertools.cycle(keys)):
                if turn >= times or (until is not None and self._clock.now() >= self._begin + until):
                    break
                start, told = self._clock.now(), None
                try:
                    told = await self._subject.ask_async(verb, key, cost)
                except asyncio.CancelledError:
                    raise
                except BaseException as error:  # noqa: BLE001 - as above
                    self._failed(error)
                self._record(records, start, key, cost, told)
                if pause and self._clock.moved:
                    self._clock.advance(pause)
                elif pause:
                    await asyncio.sleep(pause)

    async def _beat(self) -> None:
        # How long the loop was held up at the most: what every other request of the process would have waited.
        while True:
            slept_at = _monotonic()
            await asyncio.sleep(0.005)
            self._stalled = max(self._stalled, _monotonic() - slept_at - 0.005)

    def _wait(self, at: float) -> None:
        left = self._begin + at - self._clock.now()
        if left > 0:
            self._pause(left)

    def _pause(self, seconds: float) -> None:
        if self._clock.moved:
            self._clock.advance(seconds)
        else:
            _sleep(seconds)

    def _record(self, records: list, start: float, key: str, cost: int, told: Told | None) -> None:
        if not self._keep or len(records) >= MOST:
            return
        wait = told and told.retry_after
        records.append(
            [
                start, self._clock.now(), key, cost, told and told.allowed,
                "inf" if wait == math.inf else wait, told and told.remaining,
            ]
        )  # fmt: skip

    def _failed(self, error: BaseException) -> None:
        name = tuple(_raised(error).values())
        if len(self._errors) < 10 or name in self._errors:
            self._errors[name] = self._errors.get(name, 0) + 1


def pace(subject: Subject, command: dict) -> dict:
    """Measure what one decision takes, in seconds: for each round the mean of its calls."""
    keys, times = command["keys"], command["times"]

    def one_round() -> float:
        turns = list(itertools.islice(itertools.cycle(keys), times))
        began = _perf_ns()
        for key in turns:
            subject.limiter.allow(key)
        return (_perf_ns() - began) / times / 1e9

    async def one_round_async() -> float:
        turns = list(itertools.islice(itertools.cycle(keys), times))
        began = _perf_ns()
        for key in turns:
            await subject.limiter.allow(key)
        return (_perf_ns() - began) / times / 1e9

    gc.collect()
    gc.disable()
    try:
        if subject.asynchronous:
            return {"rounds": [subject.run(one_round_async()) for _ in range(command["rounds"])]}
        return {"rounds": [one_round() for _ in range(command["rounds"])]}
    finally:
        gc.enable()


def memory() -> dict:
    """Say how many bytes Python's objects hold, once what nobody refers to is gone."""
    gc.collect()
    return {"bytes": tracemalloc.get_traced_memory()[0]}


class Worker:
    """What does the commands, one after the other."""

    def __init__(self) -> None:
        self._clock = Clock(moved=False, wall=0.0)
        self._subject: Subject | None = None

    def do(self, command: dict) -> dict:
        if command["do"] == "load":
            return self._load(command)
        assert self._subject is not None
        if command["do"] == "play":
            return Play(self._subject, self._clock, command).run()
        if command["do"] == "pace":
            return pace(self._subject, command)
        if command["do"] == "clock":
            self._clock.advance(command.get("advance", 0.0))
            self._clock.wall_ns = round(command.get("wall", self._clock.wall_ns / 1e9) * 1e9)
            return {}
        return memory()

    def _load(self, command: dict) -> dict:
        _bound(command["memory"])
        self._clock = Clock(moved=command["clock"] == "moved", wall=command["wall"])
        if command["clock"] != "real":
            self._clock.install()
        self._subject = Subject(command)
        if command["trace"]:
            tracemalloc.start()
        return self._subject.abilities()


def _bound(mebibytes: int) -> None:
    """Bound what the process may hold, so that one that allocates without end fails by itself."""
    threading.stack_size(1 << 20)
    try:
        import resource
    except ImportError:  # no such bound on this system
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (mebibytes << 20, mebibytes << 20))


def _read(incoming: int, commands: queue.Queue) -> None:
    with os.fdopen(incoming, encoding="utf-8") as lines:
        for line in lines:
            commands.put(json.loads(line))
    os._exit(0)  # nobody is left to answer, whatever the target is doing


def main() -> None:
    incoming, outgoing = int(sys.argv[1]), int(sys.argv[2])
    faulthandler.register(signal.SIGUSR1, all_threads=True)  # on stderr: where it hangs
    commands: queue.Queue = queue.Queue()
    threading.Thread(target=_read, args=(incoming, commands), daemon=True).start()
    worker = Worker()
    while True:
        command = commands.get()
        try:
            reply = worker.do(command)
        except BaseException as error:  # noqa: BLE001 - the target's own, sys.exit() included
            reply = {"raised": _raised(error)}
        data = (json.dumps({"n": command["n"], **reply}) + "\n").encode()
        while data:
            data = data[os.write(outgoing, data) :]


if __name__ == "__main__":
    main()
