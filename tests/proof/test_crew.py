"""Workers against targets that harm whoever runs them: each failure is one clear line, and nothing is left running."""

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
from planted.table import HOSTILE
from targets import PLANTED, written

from sluicegate.proof import replies
from sluicegate.proof.crew import Played, TargetFailed, Worker, ask, keep_asking
from sluicegate.proof.target import Target, parse
from sluicegate.proof.worker import MOST

PATIENCE = 1.5
ANSWER = r" \(allow must answer, not wait\)"

HANGS = {
    "hostile_import_hangs.py:SlidingWindow": (r" at hostile_import_hangs\.py, line 7", "", "line 7 in <module>"),
    "hostile_calls.py:HangsAtInit": (r" in __init__\(\) at hostile_calls\.py, line \d+", "", "in __init__"),
    "hostile_calls.py:Hangs": (r" in allow\(\) at hostile_calls\.py, line \d+", ANSWER, "in allow"),
    "hostile_calls.py:Spins": (r" in allow\(\) at hostile_calls\.py, line \d+", ANSWER, "in allow"),
}
"""What it says: where, and a hint; and what is to be found in the output, the stack where it hangs."""

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
        "the target is to be made by OneArgument(limit, window_seconds), and that does not fit: "
        "too many positional arguments"
    ),
    "hostile_calls.py:RaisesAtInit": (
        "the target raised RuntimeError: no such table: limits at hostile_calls.py, line 49"
    ),
    "hostile_calls.py:Exits": "the target ended its process with exit code 0",
    "hostile_calls.py:Segfaults": "the target died of signal 11 (Segmentation fault)",
    "hostile_calls.py:Prints": "the target printed more than 10 MB, and was stopped",
    "hostile_calls.py:WritesToPipes": "the target answered rubbish on the kit's own pipe",
    "hostile_calls.py:ClosesPipes": "the target closed the kit's own pipes",
}

RAISES = {
    "hostile_calls.py:ExitsPolitely": "SystemExit: 0 at hostile_calls.py, line 85 (3 calls)",
    "hostile_calls.py:Raises": r"ValueError: \x1b[2J\x1b]0;passed\x07<script>alert('naïve')</script>\u202e\x00",
    "hostile_calls.py:RaisesUnprintable": "Unprintable: (its text cannot be had: Unprintable) at hostile_calls.py",
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
"""Answers that are no bool, and how often each came."""


def test_every_hostile_target_has_its_line_here():
    assert {*HANGS, *GOES_DOWN, *RAISES, *ANSWERS} == set(HOSTILE)


@pytest.mark.parametrize("name", HANGS, ids=lambda name: name.removeprefix("hostile_"))
@pytest.mark.slow
def test_a_target_that_hangs_is_stopped_and_prints_where(name: str):
    failure = _failure(parse(f"{PLANTED / name}"))
    where, hint, printed = HANGS[name]
    assert re.fullmatch(rf"the target hung{where}: no answer within 1\.5\d* s{hint}", str(failure))
    assert printed in failure.output
    assert "sluicegate/proof/worker" not in failure.output


@pytest.mark.parametrize("name", GOES_DOWN, ids=lambda name: name.removeprefix("hostile_"))
def test_a_target_that_goes_down_says_how_in_one_line(name: str):
    assert str(_failure(parse(f"{PLANTED / name}"))) == GOES_DOWN[name]


@pytest.mark.parametrize("name", RAISES, ids=lambda name: name.removeprefix("hostile_"))
def test_what_a_call_raises_is_an_error_of_that_call(name: str):
    played = _asked(parse(f"{PLANTED / name}"))
    assert [record.allowed for record in played.records] == [None] * 3
    assert len(played.errors) == 1
    assert str(played.errors[0]).startswith(RAISES[name])
    assert str(played.errors[0]).isprintable()
    assert len(str(played.errors[0])) < 3000


@pytest.mark.parametrize("name", ANSWERS, ids=lambda name: name.removeprefix("hostile_"))
def test_an_answer_that_is_no_bool_is_counted_and_taken_for_what_it_is_worth(name: str):
    played = _asked(parse(f"{PLANTED / name}"))
    assert played.odd == ANSWERS[name]
    assert [record.allowed for record in played.records] == ["Nothing" not in name] * 3
    assert not played.errors


def test_a_crash_prints_where(tmp_path: Path):
    failure = _failure(parse(f"{PLANTED / 'hostile_calls.py'}:Segfaults"))
    assert "in allow" in failure.output


# What it leaves behind


def test_what_a_target_started_ends_with_its_worker(tmp_path: Path):
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


def test_who_left_the_session_and_holds_the_output_open_does_not_hold_up_the_end(tmp_path: Path):
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


def test_an_end_is_seen_though_a_child_holds_the_pipes_open(tmp_path: Path):
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
def test_a_worker_ends_with_all_that_it_started_when_the_kit_is_killed(tmp_path: Path, hang: str):
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
        "import sys; from sluicegate.proof.crew import Worker, ask; from sluicegate.proof.target import parse\n"
        "worker = Worker(parse(sys.argv[1])); worker.load(1, 1.0); worker.play([ask(0, 'a')])"
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
        Worker(parse(f"{PLANTED / 'correct_minimal.py'}:SlidingWindow"), python="/no/such/python")
    assert _open_descriptors() == open_before


def test_a_worker_leaves_no_descriptor_open(tmp_path: Path):
    open_before = _open_descriptors()
    with _worker(parse(f"{PLANTED / 'correct_minimal.py'}:SlidingWindow")) as worker:
        worker.load(1, 1.0)
    worker.close()
    assert _open_descriptors() == open_before


def test_an_interpreter_that_is_no_python_is_named():
    target = parse(f"{PLANTED / 'correct_minimal.py'}:SlidingWindow")
    with (
        Worker(target, python="false") as worker,
        pytest.raises(TargetFailed, match=r"the interpreter false could not be started: it ended .* exit code 1"),
    ):
        worker.load(1, 1.0)


# What it is given


def test_a_target_sees_no_secret_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
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
    [seen] = _asked(target, times=1).odd
    assert "AWS" not in seen
    assert "LANG" in seen
    assert "HOME" in seen


def test_its_home_is_a_folder_of_its_own_and_gone_afterwards(tmp_path: Path):
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


def test_memory_taken_by_small_objects_is_given_a_line_as_well(tmp_path: Path):
    target = written(
        tmp_path,
        """
        kept = []
        class Limiter:
            def __init__(self, limit, window): ...
            def allow(self, user_id):
                while True:
                    kept.append(str(len(kept)) * 10)
        """,
    )
    with _worker(target, memory=128, patience=20) as worker:
        worker.load(1, 1.0)
        failure = _failed(lambda: worker.play([ask(0, "a", 50)]))
    assert str(failure) == "the target ran out of memory: it may hold 128 MiB"


# What it is told, and what it answers


def test_an_async_limiter_is_made_where_it_is_asked(tmp_path: Path):
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
            assert [record.allowed for record in worker.play([ask(0, "a", 2)]).records] == [True] * 2


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
    assert [error.type for error in _asked(target).errors] == ["CancelledError"]


def test_a_lane_ends_with_the_most_records_that_are_kept(tmp_path: Path):
    target = written(tmp_path, _ALWAYS)
    with _worker(target, patience=30) as worker:
        worker.load(1, 1.0)
        assert len(worker.play([ask(0, "a", MOST + 1), ask(0, "b")]).records) == MOST
        began = time.monotonic()
        assert len(worker.play([keep_asking(0, 60, "a", "b", pause=0)]).records) == MOST
        assert time.monotonic() - began < 20
        assert len(worker.play([ask(0, "a", 3)]).records) == 3


@pytest.mark.slow
def test_a_worker_that_no_longer_reads_does_not_hold_up_the_kit(tmp_path: Path):
    with _worker(written(tmp_path, _ALWAYS)) as worker:
        worker.load(1, 1.0)
        os.kill(worker._child.pid, signal.SIGSTOP)
        with pytest.raises(TargetFailed, match=r"hung: no answer within 1\.5 s"):
            worker.pace(["key" * 100] * 10_000, 1, 1)


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
        played = worker.play(*[[ask(0, "a", 10)]] * 8, restless=True, lasts=5)
    assert sum(record.allowed or False for record in played.records) > 10


def test_everything_that_an_answer_tells_comes_through(tmp_path: Path):
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
    told = {
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
        played = worker.play([ask(0, key, verb="take") for key in told])
    assert abilities.take and abilities.take_cost and not abilities.cost
    assert not played.errors
    assert {record.key: (record.retry_after, record.remaining) for record in played.records} == told


def test_take_is_allow_and_retry_after_where_there_is_no_take(tmp_path: Path):
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
        played = worker.play([ask(0, "a", verb="take"), ask(0, "b", verb="take")])
    assert [(record.allowed, record.retry_after) for record in played.records] == [(True, None), (False, 7.0)]


@pytest.mark.parametrize("prefix", ["", "async "], ids=["threads", "tasks"])
@pytest.mark.slow
def test_a_target_that_is_only_slow_is_cut_short_and_does_not_hang(tmp_path: Path, prefix: str):
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
        played = worker.play([ask(0, "a", 1000), ask(0, "b")], [ask(0, "c", 2)])
        keys = [record.key for record in played.records]
        assert played.cut
        assert "b" not in keys
        assert keys.count("c") == 2
        assert 5 <= keys.count("a") <= 11
        assert not worker.play([ask(0, "a", 2)]).cut
        assert not worker.play([keep_asking(0, 0.3, "a", pause=0.01)]).cut
        assert worker.pace(["a"], 1000, 10) == [pytest.approx(0.1, rel=0.2)]


def test_only_a_verb_that_can_be_called_with_a_key_alone_is_one(tmp_path: Path):
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
            wait = dict  # of which Python knows no signature
            def retry_after(self, user_id, *, at=None): ...
        """,
    )
    with _worker(target) as worker:
        abilities = worker.load(1, 1.0)
        played = worker.play([ask(0, "a", verb="take")])
    assert not (abilities.take or abilities.peek or abilities.wait or abilities.retry_after or abilities.take_cost)
    assert [record.allowed for record in played.records] == [False]
    with _worker(parse(target.name.replace("Limiter", "Known"))) as worker:
        abilities = worker.load(1, 1.0)
    assert abilities.take and abilities.peek and abilities.wait and abilities.retry_after and abilities.take_cost


def test_what_a_peek_answers_is_kept_apart_and_a_wait_that_says_nothing_is_unknown(tmp_path: Path):
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
        waits = [ask(0, said, verb="wait") for said in ("None", "0.25", "3", "True", "False")]
        played = worker.play([ask(0, "a"), ask(0, "a", 2, verb="peek"), *waits])
    assert [record.allowed for record in played.peeks] == [False, False]
    assert [record.allowed for record in played.records] == [True, None, None, None, True, False]
    assert played.odd == {"float 0.25": 1, "int 3": 1}


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


def test_a_plain_function_that_returns_a_coroutine_is_awaited_from_its_first_answer_on(tmp_path: Path):
    with _worker(written(tmp_path, _PLAIN)) as worker:
        assert not worker.load(3, 1.0).asynchronous
        for answers in ([True, True, True, False], [False] * 4):
            played = worker.play([ask(0, "a", 4)])
            assert [record.allowed for record in played.records] == answers
            assert played.asynchronous
            assert not played.odd
        worker.pace(["a"], 10, 2)
    assert "never awaited" not in worker.output
    with _worker(written(tmp_path, _PLAIN)) as worker:  # several threads find it out at once
        worker.load(3, 1.0)
        played = worker.play(*[[ask(0, "a", 4)]] * 4)
        assert sum(record.allowed is True for record in played.records) == 3
    with _worker(written(tmp_path, _PLAIN)) as worker:
        worker.load(3, 1.0)
        worker.pace(["a"], 10, 2)
        assert worker.play([ask(0, "a")]).records[0].allowed is False
        assert "never awaited" not in worker.output
    with _worker(written(tmp_path, _PLAIN)) as worker:
        assert worker.load(3, 1.0, asynchronous=True).asynchronous


def test_what_the_kit_does_with_errors_is_no_memory_of_the_target(tmp_path: Path):
    # A folder of many parts, each of which is new to Python.
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
        worker.play([ask(0, "a")], keep=False)
        before = worker.memory()
        worker.play([ask(0, "a", 2000)], keep=False)
        assert worker.memory() - before < 10_000


# What is no reply

_RECORD = [1.0, 2.0, "a", 1, True, None, None]


def _reply(*record: object) -> dict[str, object]:
    told = {"stalled": 0.0, "cut": False, "asynchronous": False}
    return {"records": [list(record)], "peeks": [], "errors": [], "odd": {}, **told}


def test_a_record_is_read():
    assert replies.played(_reply(*_RECORD)) == Played([(1.0, 2.0, "a", 1, True, None, None)])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (0, float("-inf")),
        (0, float("nan")),
        (0, 3.0),
        (0, "1"),
        (0, None),
        (1, float("inf")),
        (1, True),
        (2, 7),
        (2, None),
        (3, 1.0),
        (3, True),
        (4, 1),
        (4, "yes"),
        (5, float("inf")),
        (5, float("nan")),
        (5, "never"),
        (5, False),
        (5, []),
        (6, 1.5),
        (6, False),
    ],
)
def test_a_record_with_anything_else_in_a_field_is_rubbish(field: int, value: object):
    record = list(_RECORD)
    record[field] = value
    with pytest.raises(replies.Rubbish):
        replies.played(_reply(*record))


@pytest.mark.parametrize(
    "change",
    [
        {"records": [_RECORD[:6]]},
        {"records": [[*_RECORD, 1]]},
        {"records": ["abcdefg"]},
        {"records": None},
        {"errors": [{"type": "E", "message": "m", "where": 1, "times": 1}]},
        {"errors": [{"type": "E", "message": "m", "where": "", "times": "1"}]},
        {"errors": ["E"]},
        {"odd": []},
        {"odd": {"str": 1.5}},
        {"peeks": [_RECORD[:6]]},
        {"peeks": None},
        {"cut": None},
        {"cut": 1},
        {"asynchronous": "yes"},
        {"stalled": None},
        {"stalled": -1.0},
        {"stalled": float("nan")},
    ],
    ids=str,
)
def test_a_reply_with_anything_else_in_it_is_rubbish(change: dict[str, object]):
    with pytest.raises(replies.Rubbish):
        replies.played({**_reply(*_RECORD), **change})


@pytest.mark.parametrize(
    "line",
    [b"", b"\xff", b"null", b"[]", b'{"n": 1}', b'{"n": "2"}', b"[" * 100_000, b'{"n": 2, "x": ' + b"9" * 5000 + b"}"],
    ids=lambda line: line[:12].decode(errors="replace"),
)
def test_a_line_that_is_no_reply_to_the_command_is_rubbish(line: bytes):
    with pytest.raises(replies.Rubbish):
        replies.reply(line, 2)


def test_a_failure_is_one_line_fit_to_be_shown():
    assert str(TargetFailed("a\nb\x1b[2J\udcff")) == "a\\nb\\x1b[2J\\udcff"


_ALWAYS = """
    class Limiter:
        def __init__(self, limit, window): ...
        def allow(self, user_id):
            return True
    """


def _worker(target: Target, *, memory: int = 300, patience: float = PATIENCE) -> Worker:
    return Worker(target, memory=memory, patience=patience)


def _asked(target: Target, times: int = 3, *, patience: float = 10) -> Played:
    with _worker(target, patience=patience) as worker:
        try:
            worker.load(5, 1.0)
            return worker.play([ask(0, "a", times)])
        finally:
            worker.close()
            assert not _runs(worker._child.pid)


def _failure(target: Target, *, patience: float = PATIENCE) -> TargetFailed:
    return _failed(lambda: _asked(target, patience=patience))


def _failed(do: Callable[[], object]) -> TargetFailed:
    try:
        for _ in range(100):  # a flood, or the end of all memory, takes a moment
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
    """Tell whether a process is there, and is no zombie that nobody has waited for."""
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
