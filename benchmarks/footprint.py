"""What a key and an event take in this process, beside a bare deque and the peers: bytes that Python allocated."""

from __future__ import annotations

import gc
import tracemalloc
from itertools import count

from contenders.contender import MANY, Contender
from contenders.floors import FLOOR
from contenders.memory import OURS, TAKE, TASKS, in_memory
from trial import Trial

TITLE = "bytes in process (tracemalloc)"
COLUMNS = ("a key with one event", "each further event, 100 a key", "each further event, 10 000 a key")

_names = count()


def run(trial: Trial) -> None:
    keys = 1_000 if trial.quick else 10_000
    rows: dict[str, tuple[float | None, ...]] = {}
    with in_memory(MANY, 3600, keys=4 * keys) as contenders:
        for each in contenders:
            # A limiter's state does not differ by the verb it is asked with.
            if each.name not in (FLOOR, TAKE, TASKS):
                one = weight(trial, each, keys, 1) / keys
                further = (_further(trial, each, keys // 50, 100), _further(trial, each, 4, 10_000))
                rows[each.name] = (one, *further)
    trial.report.bytes(TITLE, COLUMNS, rows)
    one, *further = (cell or 0 for cell in rows[OURS])
    trial.report.aim("in memory: bytes of a key with one event", "", one, most=300)
    trial.report.aim("in memory: bytes of each further event, at most", "", max(further), most=16)


def _further(trial: Trial, contender: Contender, keys: int, events: int) -> float:
    before, after = weight(trial, contender, keys, 1), weight(trial, contender, keys, 1 + events)
    return max(after - before, 0) / keys / events


def weight(trial: Trial, contender: Contender, keys: int, events: int) -> int:
    """Return what so many keys, each with so many events, take. Each request brings its own string."""
    name = f"user-{next(_names)}"
    gc.collect()
    tracemalloc.start()
    if contender.awaited:

        async def fill() -> None:
            for _ in range(events):
                for n in range(keys):
                    await contender.call(f"{name}-{n}")

        trial.runner.run(fill())
    else:
        for _ in range(events):
            for n in range(keys):
                contender.call(f"{name}-{n}")
    gc.collect()
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return taken
