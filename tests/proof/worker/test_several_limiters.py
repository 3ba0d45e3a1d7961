"""Several limiters of one target in one process, which get the calls in turn."""

from __future__ import annotations

from pathlib import Path

from proof.targets import written
from sluicegate.proof.workers import Worker, call


def allowed(worker: Worker, *keys: str, times: int = 6) -> list[int]:
    """Return how many of so many calls were allowed for each key."""
    records = worker.run([call(0, key, times) for key in keys]).records
    assert len(records) == times * len(keys)
    return [sum(record.allowed is True for record in records if record.key == key) for key in keys]


def test_limiters_beside_each_other_get_the_calls_in_turn_and_share_what_the_class_holds(tmp_path: Path):
    target = written(
        tmp_path,
        """
        class Limiter:
            of_all = {}
            def __init__(self, limit, window):
                self.limit, self.own = limit, {}
            def allow(self, user_id):
                counts = self.of_all if user_id == "shared" else self.own
                counts[user_id] = counts.get(user_id, 0) + 1
                return counts[user_id] <= self.limit
        """,
    )
    with Worker(target, patience=10) as worker:
        worker.load(2, 1.0)
        assert allowed(worker, "own") == [2]
        worker.beside(3, 1.0)
        assert allowed(worker, "own", "shared", times=4) == [3, 3]
        worker.beside(5, 1.0)
        assert allowed(worker, "own", "shared") == [5, 1]  # the sixth request of a limit of 5
        for own, limit in ((0, 2), (0, 3), (0, 5), (0, 2)):  # from the first one on
            worker.turn()
            assert allowed(worker, "own", f"new-{worker._number}") == [own, limit]
        worker.turn()
        assert allowed(worker, "shared") == [0]
        assert len(worker.time_each(["a", "b"], 3)) == 3


def test_another_limiter_of_an_asynchronous_target_is_made_on_the_loop_of_the_first(tmp_path: Path):
    target = written(
        tmp_path,
        """
        import asyncio
        class Limiter:
            loops = set()
            def __init__(self, limit, window):
                self.loops.add(asyncio.get_running_loop())
            async def allow(self, user_id):
                return self.loops == {asyncio.get_running_loop()}
        """,
    )
    with Worker(target, patience=10) as worker:
        worker.load(2, 1.0)
        worker.beside(3, 1.0)
        assert allowed(worker, "a", times=1) == [1]
        worker.turn()
        assert allowed(worker, "a", times=1) == [1]
