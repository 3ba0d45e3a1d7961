"""Workers: hostile targets fail with one clear line and leave nothing running, and scenarios return every answer."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from seeded.table import HOSTILE
from targets import SEEDED, written

from sluicegate.proof.target import Target, parse
from sluicegate.proof.worker import MOST
from sluicegate.proof.workers import ScenarioResult, TargetFailed, Worker, call, call_each, keep_calling

PATIENCE = 1.5
ANSWER = r" \(allow\(\) must answer at once, not wait\)"

HANGS = {
    "hostile_import_hangs.py:SlidingWindow": (r" at hostile_import_hangs\.py, line 7", "", "line 7 in <module>"),
    "hostile_calls.py:HangsAtInit": (r" in __init__\(\) at hostile_calls\.py, line \d+", "", "in __init__"),
    "hostile_calls.py:Hangs": (r" in allow\(\) at hostile_calls\.py, line \d+", ANSWER, "in allow"),
    "hostile_calls.py:Spins": (r" in allow\(\) at hostile_calls\.py, line \d+", ANSWER, "in allow"),
}
"""The place and the hint in the error; and a part of the output, the stack where it hangs."""

GOES_DOWN = {
    "hostile_import_raises.py:SlidingWindow": (
        "the target raised ModuleNotFoundError: No module named 'no_such_package_of_limiters' "
        "at hostile_import_raises.py, line 5"
    ),
    "hostile_import_exits.py:SlidingWindow": "the target raised SystemExit: 0 at hostile_import_exits.py, line 15",
    "hostile_syntax.py:SlidingWindow": "the target raised SyntaxError: not a chance at hostile_syntax.py, line 3",
    "hostile_calls.py:NoSuchClass": (
        "the target has no NoSuchClass in hostile_calls.py; "
        "it has Hangs, Spins, HangsAtInit, RaisesAtInit, OneArgument and 16 more"
    ),
    "hostile_calls.py:NoAllow": "the target has no method allow(user_id): NoAllow",
    "hostile_calls.py:OneArgument": (
        "the target must accept the call OneArgument(limit, window_seconds): too many positional arguments"
    ),
    "hostile_calls.py:RaisesAtInit": (
        "the target raised RuntimeError: no such table: limits at hostile_calls.py, line 49"
    ),
    "hostile_calls.py:Exits": "the target ended its process with exit code 0",
    "hostile_calls.py:Segfaults": "the target died of signal 11 (Segmentation fault)",
    "hostile_calls.py:Prints": "the target printed more than 10 MB and was stopped",
    "hostile_calls.py:WritesToPipes": "the target wrote invalid data to the kit's pipe",
    "hostile_calls.py:ClosesPipes": "the target closed the kit's pipes",
}

RAISES = {
    "hostile_calls.py:ExitsPolitely": "SystemExit: 0 at hostile_calls.py, line 85 (3 calls)",
    "hostile_calls.py:Raises": r"ValueError: \x1b[2J\x1b]0;passed\x07<script>alert('naïve')</script>\u202e\x00",
    "hostile_calls.py:RaisesUnprintable": "Unprintable: (its text cannot be read: Unprintable) at hostile_calls.py",
    "hostile_calls.py:Recurses": "RecursionError: maximum recursion depth exceeded",
    "hostile_calls.py:Allocates": "MemoryError at hostile_calls.py, line 151 (3 calls)",
    "hostile_calls.py:AnswersRaiser": "TypeError: neither at hostile_calls.py, line 179 (3 calls)",
}

ANSWERS = {
    "hostile_calls.py:AnswersText": {"str 'denied'": 3},
    "hostile_calls.py:AnswersNothing": {"NoneType None": 3},
    "hostile_calls.py:LeavesThread": {},
    "hostile_calls.py:LeavesChild": {},
    "hostile_calls.py:BreaksTime": {},
}
"""Answers that are not a bool, with their counts."""


def test_every_hostile_target_has_an_expectation_here():
    assert {*HANGS, *GOES_DOWN, *RAISES, *ANSWERS} == set(HOSTILE)


@pytest.mark.parametrize("name", HANGS, ids=lambda name: name.removeprefix("hostile_"))
@pytest.mark.slow
def test_a_target_that_hangs_is_stopped_and_its_stack_is_printed(name: str):
    failure = _failure(parse(f"{SEEDED / name}"))
    where, hint, printed = HANGS[name]
    assert re.fullmatch(rf"the target hung{where}: no answer within 1\.5\d* s{hint}", str(failure))
    assert printed in failure.output
    assert "sluicegate/proof/worker" not in failure.output


@pytest.mark.parametrize("name", GOES_DOWN, ids=lambda name: name.removeprefix("hostile_"))
def test_a_target_that_goes_down_fails_with_one_line_that_says_how(name: str):
    assert str(_failure(parse(f"{SEEDED / name}"))) == GOES_DOWN[name]


@pytest.mark.parametrize("name", RAISES, ids=lambda name: name.removeprefix("hostile_"))
def test_an_exception_is_an_error_of_the_call_that_raised_it(name: str):
    result = _answers(parse(f"{SEEDED / name}"))
    assert [record.allowed for record in result.records] == [None] * 3
    assert len(result.errors) == 1
    assert str(result.errors[0]).startswith(RAISES[name])
    assert str(result.errors[0]).isprintable()
    assert len(str(result.errors[0])) < 3000


@pytest.mark.parametrize("name", ANSWERS, ids=lambda name: name.removeprefix("hostile_"))
def test_an_answer_that_is_not_a_bool_is_counted_and_its_truth_value_is_recorded(name: str):
    result = _answers(parse(f"{SEEDED / name}"))
    assert result.unexpected == ANSWERS[name]
    assert [record.allowed for record in result.records] == ["Nothing" not in name] * 3
    assert not result.errors


def test_a_crash_prints_its_stack(tmp_path: Path):
    failure = _failure(parse(f"{SEEDED / 'hostile_calls.py'}:Segfaults"))
    assert "in allow" in failure.output


# Nothing is left behind


def test_a_process_started_by_the_target_ends_with_the_worker(tmp_path: Path):
    target = written(
        tmp_path,
        """
        import subprocess
        class Limiter:
            def __init__(self, limit, window):
                print(subprocess.Popen(["sleep", "60"]).pid, flush=True)
            def allow(self, user_id):
                return True
        """,
    )
    with _worker(target) as worker:
        worker.load(1, 1.0)
        pids = [worker._child.pid, int(_printed(worker))]
        assert all(_runs(pid) for pid in pids)
    assert not any(_runs(pid) for pid in pids)


def test_a_process_in_another_session_that_holds_the_output_open_does_not_delay_the_end(tmp_path: Path):
    target = written(
        tmp_path,
        """
        import subprocess
        class Limiter:
            def __init__(self, limit, window):
                print(subprocess.Popen(["sleep", "60"], start_new_session=True).pid, flush=True)
            def allow(self, user_id):
                return True
        """,
    )
    with _worker(target) as worker:
        worker.load(1, 1.0)
        pid = int(_printed(worker))
        began = time.monotonic()
        worker.close()
        took = time.monotonic() - began
    os.kill(pid, signal.SIGKILL)
    assert took < 2
    assert not worker._child._reader.is_alive()


def test_the_end_of_a_worker_is_noticed_although_a_child_holds_the_pipes_open(tmp_path: Path):
    target = written(
        tmp_path,
        """
        import os, time
        class Limiter:
            def __init__(self, limit, window): ...
            def allow(self, user_id):
                if os.fork() == 0:
                    time.sleep(60)
                os._exit(3)
        """,
    )
    assert str(_failure(target, patience=20)) == "the target ended its process with exit code 3"


@pytest.mark.parametrize("hang", ["time.sleep(60)", "\n                while True: pass"], ids=["sleeps", "spins"])
def test_a_worker_and_all_it_started_end_when_the_kit_is_killed(tmp_path: Path, hang: str):
    target = written(
        tmp_path,
        f"""
        import os, subprocess, time
        class Limiter:
            def __init__(self, limit, window): ...
            def allow(self, user_id):
                child = subprocess.Popen(["sleep", "60"]).pid
                with open({str(tmp_path / "pids")!r}, "w") as file:
                    file.write(f"{{os.getpid()}} {{child}}\\n")
                {hang}
        """,
    )
    script = (
        "import sys; from sluicegate.proof.workers import Worker, call; from sluicegate.proof.target import parse\n"
        "worker = Worker(parse(sys.argv[1])); worker.load(1, 1.0); worker.run([call(0, 'a')])"
    )
    with subprocess.Popen([sys.executable, "-c", script, target.name]) as kit:
        _until(lambda: (tmp_path / "pids").exists() and (tmp_path / "pids").read_text().endswith("\n"))
        pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
        assert all(_runs(pid) for pid in pids)
        kit.kill()
    _until(lambda: not any(_runs(pid) for pid in pids))


def test_nothing_is_left_of_a_worker_whose_interpreter_cannot_be_started():
    open_before = _open_descriptors()
    with pytest.raises(TargetFailed, match=r"the interpreter /no/such/python could not be started: .*No such file"):
        Worker(parse(f"{SEEDED / 'correct_minimal.py'}:SlidingWindow"), python="/no/such/python")
    assert _open_descriptors() == open_before


def test_a_worker_leaves_no_descriptor_open(tmp_path: Path):
    open_before = _open_descriptors()
    with _worker(parse(f"{SEEDED / 'correct_minimal.py'}:SlidingWindow")) as worker:
        worker.load(1, 1.0)
    worker.close()
    assert _open_descriptors() == open_before


def test_an_interpreter_that_is_not_python_is_named():
    target = parse(f"{SEEDED / 'correct_minimal.py'}:SlidingWindow")
    with (
        Worker(target, python="false") as worker,
        pytest.raises(TargetFailed, match=r"the interpreter false could not be started: it ended .* exit code 1"),
    ):
        worker.load(1, 1.0)


# The process of the target


def test_a_target_does_not_see_secrets_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    monkeypatch.setenv("LANG", "C.UTF-8")
    target = written(
        tmp_path,
        """
        import os
        class Limiter:
            def __init__(self, limit, window): ...
            def allow(self, user_id):
                return " ".join(sorted(os.environ))
        """,
    )
    [seen] = _answers(target, times=1).unexpected
    assert "AWS" not in seen
    assert "LANG" in seen
    assert "HOME" in seen


def test_the_home_of_a_target_is_its_own_folder_and_removed_afterwards(tmp_path: Path):
    target = written(
        tmp_path,
        """
        import pathlib, tempfile
        class Limiter:
            def __init__(self, limit, window):
                (pathlib.Path.home() / "kept").mkdir()
                print(pathlib.Path.home(), flush=True)
                assert tempfile.gettempdir() == str(pathlib.Path.home())
            def allow(self, user_id):
                return True
        """,
    )
    with _worker(target) as worker:
        worker.load(1, 1.0)
        home = Path(_printed(worker))
        assert home != Path.home()
        assert home.is_dir()
    assert not home.exists()


def test_small_objects_can_exhaust_the_memory_limit_as_well(tmp_path: Path):
    target = written(
        tmp_path,
        """
        kept = []  # of short lists: the large block of a long one would be refused while there is still room
        class Limiter:
            def __init__(self, limit, window): ...
            def allow(self, user_id):
                while True:
                    kept.append([str(len(kept)) * 10 for _ in range(100)])
        """,
    )
    with _worker(target, memory=128, patience=20) as worker:
        worker.load(1, 1.0)
        try:
            seen = str(worker.run([call(0, "a", 1)]).errors[0])
        except TargetFailed as failure:  # nothing was left to reply with
            seen = str(failure)
    assert seen == "the target ran out of memory: it may use 128 MiB" or "MemoryError" in seen


# Calls and answers


def test_an_async_limiter_is_constructed_on_the_loop_that_calls_it(tmp_path: Path):
    target = written(
        tmp_path,
        """
        import asyncio
        class Limiter:
            def __init__(self, limit, window):
                self.loop = asyncio.get_running_loop()
            async def allow(self, user_id):
                return self.loop is asyncio.get_running_loop()
        async def made(limit, window):
            await asyncio.sleep(0)
            return Limiter(limit, window)
        """,
    )
    for name in ("Limiter", "made"):
        with _worker(parse(f"{target.name.rpartition(':')[0]}:{name}")) as worker:
            assert worker.load(1, 1.0).asynchronous
            assert [record.allowed for record in worker.run([call(0, "a", 2)]).records] == [True] * 2


def test_a_cancellation_by_the_target_is_an_error_of_that_call(tmp_path: Path):
    target = written(
        tmp_path,
        """
        import asyncio
        class Limiter:
            def __init__(self, limit, window): ...
            async def allow(self, user_id):
                raise asyncio.CancelledError
        """,
    )
    assert [error.type for error in _answers(target).errors] == ["CancelledError"]


@pytest.mark.slow
def test_a_client_stops_at_the_most_records_it_may_keep(tmp_path: Path):
    target = written(tmp_path, _ALWAYS)
    with _worker(target, patience=30) as worker:
        worker.load(1, 1.0)
        assert len(worker.run([call(0, "a", MOST + 1), call(0, "b")]).records) == MOST
        began = time.monotonic()
        assert len(worker.run([keep_calling(0, 60, "a", "b", pause=0)]).records) == MOST
        assert time.monotonic() - began < 20
        assert len(worker.run([call(0, "a", 3)]).records) == 3


@pytest.mark.slow
def test_a_worker_that_no_longer_reads_does_not_block_the_kit(tmp_path: Path):
    with _worker(written(tmp_path, _ALWAYS)) as worker:
        worker.load(1, 1.0)
        os.kill(worker._child.pid, signal.SIGSTOP)
        with pytest.raises(TargetFailed, match=r"hung: no answer within 1\.5 s"):
            worker.time_calls(["key" * 100] * 10_000, 1, 1)


def test_threads_are_switched_between_the_lines_of_the_target(tmp_path: Path):
    source = """
        import threading
        lock = threading.Lock()
        class Limiter:
            def __init__(self, limit, window):
                self.left = limit
            def allow(self, user_id):
                with lock:
                    left = self.left
                with lock:
                    self.left = left - 1
                return left > 0
        """
    with _worker(written(tmp_path, source)) as worker:
        worker.load(10, 1.0)
        result = worker.run(*[[call(0, "a", 10)]] * 8, preempt=True, lasts=5)
    assert sum(record.allowed or False for record in result.records) > 10


def test_every_field_of_an_answer_is_recorded(tmp_path: Path):
    target = written(
        tmp_path,
        """
        import datetime, math
        class Answer:
            def __init__(self, retry_after, remaining):
                self.allowed, self.retry_after, self.remaining = False, retry_after, remaining
        class Limiter:
            def __init__(self, limit, window): ...
            def allow(self, user_id): ...
            def take(self, user_id, cost=1):
                return eval(user_id)
        """,
    )
    expected = {
        "Answer(0.25, 3)": (0.25, 3),
        "Answer(math.inf, 0)": (float("inf"), 0),
        "Answer(10**400, 10**30)": (float("inf"), None),
        "Answer(math.nan, True)": (None, None),
        "Answer(-math.inf, 1.5)": (None, None),
        "Answer('soon', None)": (None, None),
        "Answer(datetime.timedelta(seconds=2), -1)": (2.0, -1),
        "False": (None, None),
    }
    with _worker(target) as worker:
        abilities = worker.load(1, 1.0)
        result = worker.run([call(0, key, verb="take") for key in expected])
    assert abilities.take and abilities.take_cost and not abilities.cost
    assert not result.errors
    assert {record.key: (record.retry_after, record.remaining) for record in result.records} == expected


def test_take_is_allow_and_retry_after_if_the_target_has_no_take(tmp_path: Path):
    target = written(
        tmp_path,
        """
        class Limiter:
            def __init__(self, limit, window): ...
            def allow(self, user_id):
                return user_id == "a"
            def retry_after(self, user_id):
                return 7
        """,
    )
    with _worker(target) as worker:
        worker.load(1, 1.0)
        result = worker.run([call(0, "a", verb="take"), call(0, "b", verb="take")])
    assert [(record.allowed, record.retry_after) for record in result.records] == [(True, None), (False, 7.0)]


@pytest.mark.parametrize("prefix", ["", "async "], ids=["threads", "tasks"])
@pytest.mark.slow
def test_a_slow_target_is_cut_short_and_not_reported_as_hanging(tmp_path: Path, prefix: str):
    target = written(
        tmp_path,
        f"""
        import asyncio, time
        class Limiter:
            def __init__(self, limit, window): ...
            {prefix}def allow(self, user_id):
                {"await asyncio" if prefix else "time"}.sleep(0.1)
                return True
        """,
    )
    with _worker(target, patience=2) as worker:
        worker.load(1, 1.0)
        result = worker.run([call(0, "a", 1000), call(0, "b")], [call(0, "c", 2)])
        keys = [record.key for record in result.records]
        assert result.cut
        assert "b" not in keys
        assert keys.count("c") == 2
        assert 5 <= keys.count("a") <= 11
        assert not worker.run([call(0, "a", 2)]).cut
        assert not worker.run([keep_calling(0, 0.3, "a", pause=0.01)]).cut
        assert worker.time_calls(["a"], 1000, 10) == [pytest.approx(0.1, rel=0.2)]


def test_a_method_counts_only_if_it_can_be_called_with_a_key_alone(tmp_path: Path):
    target = written(
        tmp_path,
        """
        class Limiter:
            def __init__(self, limit, window): ...
            def allow(self, user_id):
                return False
            def take(self): ...
            def peek(self, user_id, at): ...
            def wait(self, user_id, *, timeout): ...
            retry_after = 7
        class Known:
            def __init__(self, limit, window): ...
            def allow(self, user_id): ...
            def take(self, user_id, cost=1): ...
            def peek(self, *keys): ...
            wait = dict  # Python cannot tell its signature
            def retry_after(self, user_id, *, at=None): ...
        """,
    )
    with _worker(target) as worker:
        abilities = worker.load(1, 1.0)
        result = worker.run([call(0, "a", verb="take")])
    assert not (abilities.take or abilities.peek or abilities.wait or abilities.retry_after or abilities.take_cost)
    assert [record.allowed for record in result.records] == [False]
    with _worker(parse(target.name.replace("Limiter", "Known"))) as worker:
        abilities = worker.load(1, 1.0)
    assert abilities.take and abilities.peek and abilities.wait and abilities.retry_after and abilities.take_cost


def test_answers_of_peek_are_kept_apart_and_a_wait_without_an_answer_is_unknown(tmp_path: Path):
    target = written(
        tmp_path,
        """
        class Limiter:
            def __init__(self, limit, window): ...
            def allow(self, user_id):
                return True
            def peek(self, user_id):
                return False
            def wait(self, user_id):
                return eval(user_id)
        """,
    )
    with _worker(target) as worker:
        worker.load(1, 1.0)
        waits = [call(0, said, verb="wait") for said in ("None", "0.25", "3", "True", "False")]
        result = worker.run([call(0, "a"), call(0, "a", 2, verb="peek"), *waits])
    assert [record.allowed for record in result.peeks] == [False, False]
    assert [record.allowed for record in result.records] == [True, None, None, None, True, False]
    assert result.unexpected == {"float 0.25": 1, "int 3": 1}


_PLAIN = """
    import threading
    class Limiter:
        def __init__(self, limit, window):
            self.limit, self.ran = limit, 0
        async def _allow(self, user_id):
            self.ran += 1
            return self.ran <= self.limit
        def allow(self, user_id):
            return self._allow(user_id)
    """


def test_a_plain_function_that_returns_a_coroutine_is_awaited_from_the_first_call_on(tmp_path: Path):
    with _worker(written(tmp_path, _PLAIN)) as worker:
        assert not worker.load(3, 1.0).asynchronous
        for answers in ([True, True, True, False], [False] * 4):
            result = worker.run([call(0, "a", 4)])
            assert [record.allowed for record in result.records] == answers
            assert result.asynchronous
            assert not result.unexpected
        worker.time_calls(["a"], 10, 2)
    assert "never awaited" not in worker.output
    with _worker(written(tmp_path, _PLAIN)) as worker:  # several threads find out at once
        worker.load(3, 1.0)
        result = worker.run(*[[call(0, "a", 4)]] * 4)
        assert sum(record.allowed is True for record in result.records) == 3
    with _worker(written(tmp_path, _PLAIN)) as worker:
        worker.load(3, 1.0)
        worker.time_calls(["a"], 10, 2)
        assert worker.run([call(0, "a")]).records[0].allowed is False
        assert "never awaited" not in worker.output
    with _worker(written(tmp_path, _PLAIN)) as worker:
        assert worker.load(3, 1.0, asynchronous=True).asynchronous


def test_errors_recorded_by_the_kit_do_not_count_as_memory_of_the_target(tmp_path: Path):
    # A path of many parts that Python has not interned.
    folder = tmp_path.joinpath(*(f"part-{n}-" + "x" * 40 for n in range(40)))
    folder.mkdir(parents=True)
    target = written(
        folder,
        """
        class Limiter:
            def __init__(self, limit, window): ...
            def allow(self, user_id):
                raise ValueError("down")
        """,
    )
    with _worker(target, patience=10) as worker:
        worker.load(1, 1.0, trace=True)
        worker.run([call(0, "a")], keep=False)
        before = worker.memory()
        worker.run([call(0, "a", 2000)], keep=False)
        assert worker.memory() - before < 10_000


def test_a_failure_is_one_printable_line():
    assert str(TargetFailed("a\nb\x1b[2J\udcff")) == "a\\nb\\x1b[2J\\udcff"


_ALWAYS = """
    class Limiter:
        def __init__(self, limit, window): ...
        def allow(self, user_id):
            return True
    """


def _worker(target: Target, *, memory: int = 300, patience: float = PATIENCE) -> Worker:
    return Worker(target, memory=memory, patience=patience)


def _answers(target: Target, times: int = 3, *, patience: float = 10) -> ScenarioResult:
    with _worker(target, patience=patience) as worker:
        try:
            worker.load(5, 1.0)
            return worker.run([call(0, "a", times)])
        finally:
            worker.close()
            assert not _runs(worker._child.pid)


def _failure(target: Target, *, patience: float = PATIENCE) -> TargetFailed:
    return _failed(lambda: _answers(target, patience=patience))


def _failed(do: Callable[[], object]) -> TargetFailed:
    try:
        for _ in range(100):  # a flood, or running out of memory, takes a moment
            do()
    except TargetFailed as failure:
        return failure
    pytest.fail("it did not go down")


def _printed(worker: Worker) -> str:
    _until(lambda: worker.output.endswith("\n"))
    return worker.output.strip()


def _until(true: Callable[[], bool], within: float = 10) -> None:
    end_at = time.monotonic() + within
    while not true():
        assert time.monotonic() < end_at
        time.sleep(0.02)


def _runs(pid: int) -> bool:
    """Tell whether a process is running, and not a zombie."""
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    if Path("/proc").is_dir():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _open_descriptors() -> int:
    return len(list(Path("/dev/fd").iterdir()))


# Pauses and errors


@pytest.mark.slow
def test_a_worker_notes_for_how_long_the_machine_did_not_run_it(tmp_path: Path):
    with _worker(written(tmp_path, _ALWAYS)) as worker:
        worker.load(1, 1.0)
        worker.start([keep_calling(0, 2, "a", pause=0.01)])
        time.sleep(0.3)
        os.kill(worker._child.pid, signal.SIGSTOP)
        stopped_at = time.monotonic()
        time.sleep(0.3)
        stopped = time.monotonic() - stopped_at
        os.kill(worker._child.pid, signal.SIGCONT)
        assert worker.result().paused > stopped - 0.05


@pytest.mark.slow
@pytest.mark.parametrize("prefix", ["", "async "], ids=["threads", "tasks"])
def test_calls_that_raise_are_timed_whether_their_records_are_kept_or_not(tmp_path: Path, prefix: str):
    target = written(
        tmp_path,
        f"""
        import asyncio, time
        class Limiter:
            def __init__(self, limit, window): ...
            {prefix}def allow(self, user_id):
                {"await asyncio" if prefix else "time"}.sleep(float(user_id))
                raise TimeoutError
        """,
    )
    with _worker(target) as worker:
        worker.load(1, 1.0)
        for keep in (True, False):
            result = worker.run([call_each(0, ["0.3", "0.2"])], keep=keep)
            [error] = result.errors
            assert min(result.times.others) >= 0.2
            assert error.times == len(result.times.others) == 2


def test_a_round_in_which_a_call_raises_is_not_timed(tmp_path: Path):
    target = written(
        tmp_path,
        """
        class Limiter:
            def __init__(self, limit, window):
                self.calls = 0
            def allow(self, user_id):
                self.calls += 1
                if user_id == "always" or self.calls % 10 == 5:
                    raise TimeoutError
                return True
        """,
    )
    with _worker(target) as worker:
        worker.load(1, 1.0)
        assert len(worker.time_calls(["a"], 4, 9)) in range(1, 9)
        with pytest.raises(TargetFailed, match="the target raised TimeoutError"):
            worker.time_calls(["always"], 4, 9)
