"""The methods beside ``allow`` that a scenario calls: with which arguments, and what they leave in the records."""

from __future__ import annotations

from pathlib import Path

import pytest

from proof.targets import written
from sluicegate.proof.workers import Worker, call


def text(unexpected: dict[str, int]) -> str:
    """Return the text that ``allow`` answered."""
    [answer] = unexpected
    return answer.removeprefix("str ").strip("\"'")


def test_a_timeout_is_passed_to_wait_only_if_the_step_has_one(tmp_path: Path):
    target = written(
        tmp_path,
        """
        class Limiter:
            def __init__(self, limit, window):
                self.log = []
            def allow(self, user_id):
                return str(self.log)
            def wait(self, user_id, **how):
                self.log.append((user_id, how))
                return True
        """,
    )
    with Worker(target, patience=10) as worker:
        worker.load(1, 1.0)
        waits = [
            call(0, "a", verb="wait"),
            call(0, "b", verb="wait", timeout=0.5),
            call(0, "c", cost=2, verb="wait", timeout=0.0),
        ]
        result = worker.run([*waits, call(0, "log")])
    assert text(result.unexpected) == "[('a', {}), ('b', {'timeout': 0.5}), ('c', {'cost': 2, 'timeout': 0.0})]"


_RESERVES = """
    class Reservation:
        def __init__(self, log, cost):
            self.log, self.allowed, self.remaining, self.ended = log, cost < 3, 7, False
            log.append(cost)
        def _end(self, what):
            if self.ended:
                raise ValueError("ended twice")
            self.ended = True
            self.log.append(what)
        {prefix}def settle(self, actual):
            self._end(f"settle {actual}")
        {prefix}def cancel(self):
            self._end("cancel")
    class Limiter:
        def __init__(self, limit, window):
            self.log = []
        {prefix}def allow(self, user_id):
            return str(self.log).replace("'", "")
        {prefix}def reserve(self, user_id, cost):
            return Reservation(self.log, cost)
    """


@pytest.mark.parametrize("prefix", ["", "async "], ids=["threads", "tasks"])
def test_a_reservation_is_an_answer_and_what_ends_it_is_none(tmp_path: Path, prefix: str):
    with Worker(written(tmp_path, _RESERVES.replace("{prefix}", prefix)), patience=10) as worker:
        assert worker.load(1, 1.0).reserve
        steps = [
            call(0, "a", cost=2, verb="reserve"),
            call(0, "b", cost=3, verb="reserve"),
            call(0, "b", verb="cancel"),
            call(0, "a", 2, cost=1, verb="settle"),  # the second raises
            call(0, "a", verb="reserve"),
            call(0, "a", cost=0, verb="settle"),  # of the newest of the key
        ]
        result = worker.run([*steps, call(0, "log")])
    assert text(result.unexpected) == "[2, 3, cancel, settle 1, 1, settle 0]"
    reserved = [(each.key, each.cost, each.allowed, each.remaining) for each in result.records[:-1]]
    assert reserved == [("a", 2, True, 7), ("b", 3, False, 7), ("a", 1, True, 7)]
    assert not result.errors


_LENDS = """
    class Permit:
        def __init__(self, limiter):
            self.limiter, self.released = limiter, False
        {prefix}def release(self):
            if self.released:
                raise ValueError("released twice")
            self.released = True
            self.limiter.left += 1
        {prefix}def renew(self):
            self.limiter.left += 10
            return True
    class Limiter:
        def __init__(self, limit, ttl):
            self.left = limit
        {prefix}def acquire(self, user_id):
            self.left -= self.left > 0
            return Permit(self) if self.left or user_id == "last" else None
    """


@pytest.mark.parametrize("prefix", ["", "async "], ids=["threads", "tasks"])
def test_permits_are_released_and_renewed_by_their_number_and_leave_no_record(tmp_path: Path, prefix: str):
    with Worker(written(tmp_path, _LENDS.replace("{prefix}", prefix)), patience=10) as worker:
        abilities = worker.load(3, 1.0)
        steps = [
            call(0, "a", 3, verb="acquire"),
            call(0, "a", 2, cost=2, verb="release"),  # the second raises
            call(0, "a", cost=3, verb="release"),  # was denied
            call(0, "last", 2, verb="acquire"),
            call(0, "last", cost=1, verb="renew"),
            call(0, "a", verb="acquire"),
        ]
        result = worker.run(steps)
    assert abilities.acquire
    assert abilities.asynchronous is bool(prefix)
    assert [record.allowed for record in result.records] == [True, True, False, True, True, True]
    assert [record.key for record in result.records] == ["a"] * 3 + ["last"] * 2 + ["a"]
    assert not result.errors
