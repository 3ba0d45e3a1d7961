"""A report with everything that a report can hold: every verdict, every drawing, long and hostile text."""

from __future__ import annotations

import random

from sluicegate.proof.case import Case
from sluicegate.proof.facts import Facts
from sluicegate.proof.growth import Growth
from sluicegate.proof.history import History, Record
from sluicegate.proof.report import CaseResult, Report
from sluicegate.proof.requirement import Requirement
from sluicegate.proof.rubric import RubricLine
from sluicegate.proof.verdict import CaseVerdict, Finding

HOSTILE_KEY = "<script>alert(1)</script>\x1b[31mred\u202eevil [bold]שלום"
HOSTILE_OUTPUT = (
    "Traceback (most recent call last):\n"
    '  File "limiter.py", line 12, in allow\n'
    "\x1b]0;owned\x07\x1b[2J\x1b[31m</pre><img src=x onerror=alert(1)>[/bold][link=evil]x\n"
    "ValueError: \u202egnp.exe\n"
)


def exact(limit: int, window: float, times: list[float], key: str = "alice", cost: int = 1) -> History:
    """Return the answers of an exact sliding window, each of which takes a fifth of a millisecond."""
    kept: list[float] = []
    records = []
    for time in times:
        kept = [at for at in kept if at > time - window]
        allowed = len(kept) + cost <= limit
        kept += [time] * cost * allowed
        records.append(Record(time, time + 0.0002, key, cost, allowed))
    return History(limit, window, records)


def fixed(limit: int, window: float, times: list[float], key: str = "alice") -> History:
    """Return the answers of a fixed window, by the count in the current window of the clock."""
    counts: dict[int, int] = {}
    records = []
    for time in times:
        at = int(time / window)
        counts[at] = counts.get(at, 0) + 1
        records.append(Record(time, time + 0.0003, key, 1, counts[at] <= limit))
    return History(limit, window, records)


def edge() -> Finding:
    times = [100.2, 100.5, *(100.7 + 0.06 * n for n in range(5)), *(101.02 + 0.035 * n for n in range(7)), 101.3]
    history = fixed(5, 1.0, times)
    at = [record for record in history.records if record.allowed][-1]
    says = "10 units were allowed to one key within 0.96 s, less than the window of 1 s; the limit is 5."
    return Finding(
        CaseVerdict.FAILED, says, history, at, figures={"spans over the limit": 5, "most units in a window": 10}
    )


def denial() -> Finding:
    history = exact(5, 1.0, [10.0, 10.1, 10.2, 10.3, 10.4, 10.6, 10.8, 11.6], HOSTILE_KEY)
    at = Record(11.65, 11.651, HOSTILE_KEY, 1, False)
    history.records.append(at)
    says = f"a request of {HOSTILE_KEY} was denied 1.25 s after the last one that was allowed; there was room for it"
    return Finding(CaseVerdict.FAILED, says, history, at, output=HOSTILE_OUTPUT)


def race() -> Finding:
    chance = random.Random(3)
    starts = [5.0 + chance.random() * 0.004 for _ in range(100)]
    records = [Record(s, s + 0.001 + chance.random() * 0.012, "race", 1, n % 4 == 0) for n, s in enumerate(starts)]
    history = History(20, 60.0, records)
    at = max((record for record in records if record.allowed), key=lambda record: record.end)
    says = "25 of 100 requests that were sent at once were allowed; the limit is 20."
    return Finding(CaseVerdict.FAILED, says, history, at)


def outage() -> Finding:
    history = exact(5, 1.0, [1.0, 1.2, 1.4])
    history.records.extend([Record(1.5, 2.0, "alice", 1, None), Record(1.9, 2.2, "alice", 3, None)])
    history.records.extend([Record(2.15, 2.152, "alice", 1, True), Record(2.3, 2.302, "alice", 1, False)])
    says = (
        "2 requests got no answer while the server was frozen; they may have been counted, so a denial proves nothing."
    )
    return Finding(
        CaseVerdict.UNDECIDED, says, history, history.records[-1], output="redis.exceptions.TimeoutError\n" * 12
    )


def many() -> Finding:
    chance = random.Random(7)
    history = exact(200, 1.0, sorted(chance.random() * 6 for _ in range(5000)))
    return Finding(CaseVerdict.PASSED, "No window held more than 200 units; the fullest held 200.", history)


def costs() -> Finding:
    history = exact(10, 1.0, [0.0, 0.2, 0.4, 0.9, 1.05, 1.21], cost=3)
    return Finding(
        CaseVerdict.PASSED, "Each request took its 3 units, and the one that did not fit took none.", history
    )


def result(id_: str, sentence: str, line: RubricLine, finding: Finding, seconds: float = 0.4, **more) -> CaseResult:
    runs = more.pop("runs", 1)
    return CaseResult(Case(id_, sentence, line, lambda env: finding, **more), finding, seconds, runs)


def skipped(reason: str) -> Finding:
    return Finding(CaseVerdict.SKIPPED, reason)


def passed(says: str = "12 of 12 windows were looked at; none held more than the limit.") -> Finding:
    return Finding(CaseVerdict.PASSED, says)


NO_REDIS = Requirement.REDIS.value
NO_COST = Requirement.COST.value
NO_WAIT = Requirement.REPORTS_WAIT.value


def demo() -> Report:
    c, k, p, r = RubricLine.CORRECTNESS, RubricLine.CONCURRENCY, RubricLine.PERFORMANCE, RubricLine.RESILIENCE
    slow = Growth("time of a decision, µs", "limit", (100, 1000, 10_000, 100_000), (3.1, 22.4, 214.0, 2190.0))
    flat = Growth("time of a decision, µs", "limit", (100, 1000, 10_000, 100_000), (1.31, 1.29, 1.4, 1.33))
    idle = Growth("memory after a sweep, bytes", "idle keys", (1000, 10_000, 100_000), (512.0, 0.0, 512.0))
    slow_says = "A decision costs more the higher the limit is: 3.1 µs at 100, 2190 µs at 100 000."
    return Report(
        "limiter_memory.py:MemorySlidingWindow",
        5,
        1.0,
        (
            result(
                "correctness/limit/one", "With N = 1 the first request is allowed and the second is not.", c, passed()
            ),
            result("correctness/limit/most", "In no window are more than N units allowed.", c, many(), 2.1),
            result(
                "correctness/rollover/edge",
                "Of N late in one window and N early in the next, no more than N are allowed.",
                c,
                edge(),
                3.42,
            ),
            result(
                "correctness/denial/room",
                "A request is allowed where there is room for it, and a denied request takes no room.",
                c,
                denial(),
                1.9,
                runs=2,
            ),
            result("correctness/cost/whole", "A cost is taken whole or not at all.", c, costs(), should=True),
            result("correctness/cost/too-large", "A cost above the limit is denied, for ever.", c, skipped(NO_COST)),
            result(
                "correctness/wait/enough",
                "After the wait that a denial reports, the request is allowed.",
                c,
                skipped(NO_WAIT),
            ),
            result(
                "correctness/wait/short",
                "And not sooner.",
                c,
                skipped(NO_WAIT),
                should=True,
            ),
            result(
                "concurrency/threads/together",
                "Of many threads released together exactly N are allowed.",
                k,
                race(),
                6.2,
            ),
            result("concurrency/redis/atomic", "Of many processes exactly N are allowed.", k, skipped(NO_REDIS)),
            result(
                "performance/time/limit",
                "The time of a decision does not grow with the limit.",
                p,
                Finding(CaseVerdict.FAILED, slow_says, growth=slow),
                9.5,
                timed=True,
            ),
            result(
                "performance/time/keys",
                "The time of a decision does not grow with the number of keys.",
                p,
                Finding(CaseVerdict.PASSED, "1.33 µs at 100 000, 1.31 µs at 100.", growth=flat),
                8.1,
                timed=True,
            ),
            result(
                "performance/memory/idle",
                "Idle keys are forgotten.",
                p,
                Finding(
                    CaseVerdict.PASSED,
                    "512 bytes were left of 100 000 keys.",
                    growth=idle,
                    figures={"bytes a key": 0.00512, "longest call, ms": 3.3},
                ),
                8.1,
            ),
            result(
                "resilience/outage/frozen",
                "While the server is frozen each call ends within its deadline.",
                r,
                outage(),
                12.0,
                runs=3,
            ),
            result("resilience/ttl/key", "Every key has a TTL no shorter than its window.", r, skipped(NO_REDIS)),
            result(
                "resilience/clock/host", "A host whose clock is a window ahead changes nothing.", r, skipped(NO_REDIS)
            ),
        ),
        "2026-03-05T14:02:11+01:00",
        48.3,
        {"sluicegate": "0.4.0", "Python": "3.11.7", "Redis": "7.0.15", "Linux": "6.1 x86_64"},
        Facts(
            "app/limiter_memory.py",
            86,
            9,
            7,
            "allow",
            31,
            5,
            4,
            9,
            ("test_burst", "test_edge_of_the_window", "test_threads"),
            2,
        ),
    )


def service() -> Report:
    """Return a report on a running service that answers 429 too early."""
    finding = edge()
    long = "http://127.0.0.1:8000/ping?user_id={key}&" + "a-long-part-of-a-query=" * 4
    case = result(
        "correctness/rollover/edge",
        "Of N late in one window and N early in the next, no more than N are allowed.",
        RubricLine.CORRECTNESS,
        finding,
    )
    here = skipped(Requirement.CONSTRUCTOR.value)
    rest = result(
        "performance/time/limit", "The time of a decision does not grow with the limit.", RubricLine.PERFORMANCE, here
    )
    return Report(long, 5, 1.0, (case, rest), "2026-03-05T14:02:11+01:00", 4.0, {"sluicegate": "0.4.0"})
