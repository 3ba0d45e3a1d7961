"""The clocks that a target reads: manual ones, wall clocks that are off, and sleeps."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from proof.answers import text_answered
from proof.targets import written
from sluicegate.proof.environment import GradeSettings
from sluicegate.proof.grading import survey
from sluicegate.proof.requirement import Requirement
from sluicegate.proof.workers import Worker, call

_READS = """
    import asyncio, datetime, time
    from datetime import datetime as DateTime
    class Limiter:
        def __init__(self, limit, window): ...
        def allow(self, user_id):
            return f"{time.time()} {time.time_ns()} {DateTime.now(datetime.UTC).timestamp()} {time.monotonic()}"
    """


def test_a_manual_clock_stands_still_until_it_is_advanced(tmp_path: Path):
    with Worker(written(tmp_path, _READS), patience=10) as worker:
        worker.load(3, 1.0, clock="manual")
        readings = []
        for _ in range(2):
            [text] = worker.run([call(0, "a", 2)]).unexpected  # both calls read the same time
            readings.append([float(each) for each in text.removeprefix("str ").strip("'").split()])
            worker.advance(100.5)
    assert [after - before for before, after in zip(*readings, strict=True)] == [100.5, 100.5e9, 100.5, 100.5]


def test_a_sleep_with_a_manual_clock_advances_it_and_returns_at_once(tmp_path: Path):
    target = written(
        tmp_path,
        """
        import time
        class Limiter:
            def __init__(self, limit, window): ...
            def allow(self, user_id):
                began = time.monotonic()
                time.sleep(3600)
                try:
                    time.sleep(-1)
                except ValueError:
                    return time.monotonic() - began == 3600
        """,
    )
    with Worker(target, patience=10) as worker:
        worker.load(3, 1.0, clock="manual")
        [record] = worker.run([call(0, "a")]).records
    assert record.allowed is True
    assert record.end - record.start == 3600


def test_another_thread_sleeps_until_the_manual_clock_has_been_advanced_so_far(tmp_path: Path):
    target = written(
        tmp_path,
        """
        import threading, time
        class Limiter:
            def __init__(self, limit, window):
                self.swept = 0
                threading.Thread(target=self._janitor, daemon=True).start()
            def _janitor(self):
                while True:
                    time.sleep(10)
                    self.swept += 1
            def allow(self, user_id):
                return f"{self.swept} {time.monotonic()}"
        """,
    )
    with Worker(target, patience=10) as worker:
        worker.load(3, 1.0, clock="manual")
        seen = []
        for _ in range(3):
            time.sleep(0.1)  # lets the janitor run as far as it can
            [text] = worker.run([call(0, "a", 2)]).unexpected
            swept, now = text.removeprefix("str ").strip("'").split()
            seen.append((int(swept), float(now) - 10_000_000))
            worker.advance(9)
    assert seen == [(0, 0.0), (0, 9.0), (1, 18.0)]


def test_a_wall_clock_is_off_and_can_be_stepped_while_the_monotonic_one_runs_on(tmp_path: Path):
    with Worker(written(tmp_path, _READS), patience=10) as worker:
        worker.load(3, 1.0, wall=3600)
        for off in (3600, -7200):
            worker.set_wall(off)
            [text] = worker.run([call(0, "a")]).unexpected
            wall, wall_ns, moment, monotonic = (float(each) for each in text.removeprefix("str ").strip("'").split())
            for reading in (wall, wall_ns / 1e9, moment):
                assert reading == pytest.approx(time.time() + off, abs=5)
            assert monotonic == pytest.approx(time.monotonic(), abs=5)


def test_monotonic_clocks_that_are_off_run_on_and_tasks_sleep_by_them(tmp_path: Path):
    target = written(
        tmp_path,
        """
        import asyncio, time
        class Limiter:
            def __init__(self, limit, window): ...
            async def allow(self, user_id):
                loop = asyncio.get_running_loop()
                began = loop.time()
                time.sleep(0.02)
                await asyncio.sleep(0.02)
                slept = loop.time() - began
                try:
                    await asyncio.wait_for(asyncio.sleep(3600), 0.01)
                except TimeoutError:
                    read = [time.monotonic(), time.perf_counter(), time.monotonic_ns() / 1e9, loop.time(), time.time()]
                    return f"{0.04 <= slept < 3600} {read}"
        """,
    )
    with Worker(target, patience=10) as worker:
        worker.load(3, 1.0, monotonic=-7200.0)
        result = worker.run([call(0, "a")])
    [text] = result.unexpected
    slept, _, read = text.removeprefix("str ").strip("'").partition(" ")
    *monotonic, wall = json.loads(read)
    assert slept == "True"
    assert monotonic == [pytest.approx(time.monotonic() - 7200, abs=5)] * 4
    assert wall == pytest.approx(time.time(), abs=5)
    assert result.records[0].end == pytest.approx(time.monotonic(), abs=5)


def test_a_datetime_made_before_the_clocks_were_replaced_is_still_an_instance(tmp_path: Path):
    target = written(
        tmp_path,
        """
        from datetime import UTC, date, datetime
        from _datetime import datetime as Made  # as C code makes it, and modules imported earlier
        class Own(datetime): ...
        class Limiter:
            def __init__(self, limit, window): ...
            def allow(self, user_id):
                made = Made.now(UTC)
                are = [isinstance(each, datetime) for each in (made, datetime.now(UTC), date(2026, 1, 1))]
                return f"{are} {isinstance(made, Own)} {isinstance(Own.now(UTC), Own)}"
        """,
    )
    assert text_answered(target, clock="manual") == "[True, True, False] False True"


@pytest.mark.slow
def test_a_target_that_hangs_with_a_manual_clock_is_graded_in_real_time(tmp_path: Path):
    target = written(
        tmp_path,
        """
        import asyncio
        class Limiter:
            def __init__(self, limit, window): ...
            async def allow(self, user_id):
                await asyncio.sleep(0.01)
                return True
        """,
    )
    seen = survey(target, GradeSettings(patience=1.5))
    assert seen.abilities.asynchronous
    assert Requirement.MANUAL_CLOCK not in seen.met
