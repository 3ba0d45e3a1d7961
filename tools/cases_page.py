"""Write docs/reference/cases.md from the cases and from the faults seeded for them.

It stops if a case has no description below, or a description no case.
"""

import ast
import sys
from itertools import groupby
from pathlib import Path

from sluicegate.proof.case import Case
from sluicegate.proof.cases import cases
from sluicegate.proof.requirement import Requirement

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/reference/cases.md"
SEEDED = ROOT / "tests/proof/seeded"

DOES = {
    "correctness/answer/bool": "Calls N + 2 times and checks the type of each answer.",
    "correctness/limit/exact": "Calls for each of three fresh keys N + 3 times in a row.",
    "correctness/limit/one": "Calls for each of three fresh keys twice, with N = 1.",
    "correctness/limit/large": "Calls for one key 1010 times in a row, with N = 1000.",
    "correctness/edge/before": "Fills five keys at five phases of the clock, and calls again at 80, 90 and 96 % of T.",
    "correctness/edge/after": "Fills five keys at five phases of the clock, and calls again just after T.",
    "correctness/edge/at": (
        "With a manual clock, calls an eighth of a second before each unit is free, and when it is."
    ),
    "correctness/window/any-phase": "Fills eight keys, an eighth of T apart, and keeps calling until 97 % of T.",
    "correctness/window/late-burst": (
        "Calls once, then for the rest of N at 85 % of T, and then without a pause until those units are free."
    ),
    "correctness/window/model": (
        "With a manual clock, calls 1500 times at random for three keys, four months of rest in the middle, and "
        "compares each answer with a model."
    ),
    "correctness/window/random": "Calls for six keys at random for about three windows, singly and in bursts.",
    "correctness/window/fractional": "Fills four keys with T = 0.25 s, and calls again at 0.18, 0.22 and 0.29 s.",
    "correctness/window/long": (
        "With T = 1 h and a manual clock, calls at ten moments up to T and after it; without one, for 2.5 s."
    ),
    "correctness/window/odd": (
        "With T = 1.4, 1.5 and 2.5 s, calls early in a window, late, and until its units are free."
    ),
    "correctness/window/days": (
        "With T = 2 and 30 days and a manual clock, calls at seven moments up to T; without one, for 1.5 s."
    ),
    "correctness/window/ends": (
        "Fills a key with N = 10 000 at once, and calls again when all of it has left the window."
    ),
    "correctness/denied/free": (
        "Fills three keys, calls 700 times for each (a service: 300) and on until 1.2 T, and judges every denial."
    ),
    "correctness/keys/apart": (
        "Calls past the limit for 75 ids that a careless join, cut, strip, pattern, parser, decoder or lower case "
        "would confuse; of 160 to 1000 characters, some of them."
    ),
    "correctness/keys/many": "With N = 1, calls once for each of 4000 keys, and once more for 50 of them.",
    "correctness/keys/sprayed": (
        "Fills one key, calls once for each of 20 000 others, and calls again for the first; with a manual clock 90 % "
        "of T passes meanwhile."
    ),
    "correctness/limiters/apart": "Makes another limiter with another limit beside the first, and fills both.",
    "correctness/rate/steady": "Calls for three keys for three windows, faster than the limit; judges every denial.",
    "correctness/cost/counted": "Requests 3, 3, 3, 3, 2, 1 and 1 of 10 units; and 300 four times, 100 and 1 of 1000.",
    "correctness/cost/denied-free": "Requests 6, three times 5, then 4 and 1 of 10 units.",
    "correctness/cost/above-limit": "Requests 6, 256, 258, 65 536, 65 539 and 1000, then 5 and 1 of 5 units.",
    "correctness/cost/invalid": "Requests negative costs and a cost of 0 on a full key, then single units.",
    "correctness/cost/model": (
        "With a manual clock, requests 1 to N units 1200 times at random, and compares each answer with a model."
    ),
    "correctness/cost/random": (
        "Requests 1 to N units at random for eight keys, from eight callers at once for another, and all units of two "
        "keys when many small requests have left."
    ),
    "correctness/settle/gives-back": "Reserves 5 of 5 units, settles with 2 used, and calls until denied.",
    "correctness/settle/above": "Reserves 2 of 5 units, settles with 4 used, and calls until denied.",
    "correctness/settle/cancelled": "Cancels a reservation of 3 of 5 units twice, and a denied one of a full key.",
    "correctness/settle/once": "Reserves 3 of 5 units, takes 2, settles twice with 1 used, and calls until denied.",
    "correctness/settle/late": (
        "Settles a reservation 1.05 T later; cancels another at once, and fills its key 1.05 T later."
    ),
    "correctness/settle/own": (
        "With a manual clock, reserves 2 of 5 units, takes 2 half a window later, cancels, and calls until those have "
        "left."
    ),
    "correctness/settle/moment": (
        "With a manual clock, settles a reservation at T / 2, and calls just before T and at T."
    ),
    "concurrency/threads/one-key": "Runs 16 threads that call at once past the limit, for one key after another.",
    "concurrency/threads/new-keys": "Runs threads that use the same fresh keys, preempted between lines of the code.",
    "concurrency/threads/interleaved": "Preempts threads at random between any two lines of the file.",
    "concurrency/threads/window-end": (
        "Runs eight threads, preempted between lines of the code: with T = 0.05 s and N = 1 all at once for keys that "
        "were left alone; with T = 0.1 and 0.25 s and N = 5 without a pause while units leave one by one."
    ),
    "concurrency/tasks/one-key": "Runs 64 tasks that call at once past the limit, for one key after another.",
    "concurrency/processes/one-key": "Runs four processes with four threads each that do the same.",
    "concurrency/processes/fleet": "Runs three processes with two threads each that keep three keys full for 2.5 T.",
    "concurrency/keys/apart": "Delays every reply of Redis by 40 ms, and times eight keys at once against one alone.",
    "concurrency/loop/free": "Delays every reply of Redis by 0.3 s, and measures how long the event loop is blocked.",
    "concurrency/wait/apart": "Lets one caller wait for a full key, and meanwhile calls for another.",
    "concurrency/wait/takes": "Waits N times for a fresh key, and calls twice.",
    "concurrency/wait/limit": (
        "With N = 2, lets six callers wait for a fresh key, and counts how many were served in one, two and three "
        "windows."
    ),
    "concurrency/wait/soon": (
        "Takes two units half a window apart, waits, and measures when the first one is had again."
    ),
    "concurrency/wait/timeout": (
        "Lets one caller, and in another process four, wait at most 0.3 s for a full key; fills it again when T has "
        "passed."
    ),
    "concurrency/wait/order": "With N = 1, lets seven callers come 0.04 s apart, and looks who is served first.",
    "concurrency/wait/never": "Waits for N + 1 units.",
    "concurrency/lease/limit": "Acquires until denied, releases a permit, once and twice, and acquires again.",
    "concurrency/lease/ends": "Acquires and never releases, over one and a half terms.",
    "concurrency/lease/renewed": "Renews a permit six times at half of its term, and acquires at 1.2 and 1.7 terms.",
    "concurrency/lease/late": "Releases and renews permits whose leases have ended, after they were lent to others.",
    "concurrency/lease/threads": (
        "Runs six threads that acquire for the same fresh keys, preempted between lines of the code."
    ),
    "performance/time/limit": "Fills a key with N = 10 to 8000, and times a denial.",
    "performance/time/requests": "Times a decision after 50 to 12 000 requests of one key in the window.",
    "performance/time/keys": "Times a decision among 10 to 8000 keys.",
    "performance/time/worst": (
        "Times each of 2500 decisions among 1000 to 16 000 keys (on Redis: 1500, and 500 to 8000 keys), by the "
        "processor time in the process and on the server; 250 s pass on a manual clock."
    ),
    "performance/time/expiry": (
        "Fills a key with N = 100 to 8000, the first 20 one by one, moves the clock on by T, and measures the "
        "processor time of 20 calls before each of which a unit leaves."
    ),
    "performance/time/ends": (
        "Fills a key with N = 1000 to 16 000, lets the window pass, and measures the processor time of the first call."
    ),
    "performance/memory/limit": "Fills keys with N = 10 to 4000, and measures the memory of each.",
    "performance/memory/denied": "Measures the memory that 4000 denied requests leave in the process and on Redis.",
    "performance/memory/requests": (
        "Measures the memory that 24 more windows of one key leave. In real time: two, which must leave more than a "
        "whole window takes."
    ),
    "performance/memory/idle-keys": (
        "Calls for 3000 keys, for some until they are denied, then for five others for an hour (in real time: 4 T), "
        "and measures the memory; does the same with keys that are only peeked at."
    ),
    "performance/redis/round-trips": "Counts the replies that pass a proxy in front of Redis, for 200 decisions.",
    "performance/redis/connections": "Counts the connections that the server accepted, for 100 decisions.",
    "resilience/ttl/set": "Calls for four keys, and reads the TTL of every key on the server.",
    "resilience/ttl/long-enough": (
        "With T = 1 and 2 s, calls early and late in a window, and on until the late units are free."
    ),
    "resilience/ttl/long": (
        "With T = 90 s, 2 and 30 days, fills a key, steps the server's clock on by three quarters of T, and calls "
        "from another process."
    ),
    "resilience/ttl/peeked": "Peeks at one of two keys until the other is gone from the server, and for a window more.",
    "resilience/script/flush": "Runs SCRIPT FLUSH with half the limit taken, and calls again.",
    "resilience/restart/recovers": "Kills Redis, calls, restarts it, and calls for two more seconds.",
    "resilience/restart/limits": (
        "Lets two processes call while Redis is killed for 1.5 s; 2 s later both call for fresh keys."
    ),
    "resilience/outage/thawed": (
        "Lets two processes call while Redis is frozen for 0.15, 0.25 and 1.5 s; 2 s later they call in turn for "
        "fresh keys and for one that is full."
    ),
    "resilience/outage/killed": "Kills Redis, and calls for three keys three times each.",
    "resilience/outage/paused": "Suspends Redis with its connections open, and calls for three keys three times each.",
    "resilience/reply/lost": "Cuts three replies on their way back, then takes what is left of the limit.",
    "resilience/clock/clients": (
        "Runs three processes at once, two of them with a wall clock that is an hour off, and with monotonic clocks "
        "that are 2 and 5 h ahead."
    ),
    "resilience/clock/wall": "Fills keys, steps the wall clock of the process by an hour either way, and calls again.",
    "resilience/clock/server-back": "Steps the server's clock back by 0.9 T while a process calls without a pause.",
    "resilience/clock/server-forward": "Steps the server's clock 30 s ahead while a process calls without a pause.",
    "resilience/clock/server-glitch": (
        "Fills a key while the server's clock is a year ahead, sets the clock right, and keeps calling."
    ),
    "honesty/wait/enough": "Fills four keys in two steps, gets a wait at T / 2, and keeps calling past its end.",
    "honesty/wait/not-too-long": (
        "Does the same, and checks that no call is allowed before the wait ends, less the time of the longest call of "
        "the key until then: a remembered denial may be too long by that."
    ),
    "honesty/wait/exact": (
        "With a manual clock, calls 1 µs before each of three waits ends (whole seconds: 1 s), then at its end."
    ),
    "honesty/wait/cost": (
        "With a manual clock, requests 3 units of a full key, again just before the wait ends, and at its end."
    ),
    "honesty/wait/asked": "Does the same with the waits of `retry_after()`.",
    "honesty/wait/never": "Requests 6 and 100 of 5 units.",
    "honesty/wait/header": "Calls for a fresh key N + 3 times and checks the Retry-After of each 429.",
    "honesty/remaining/true": (
        "Calls for a fresh key N + 2 times, then at random for three others over several windows, and compares the "
        "remaining units with those that its window can have held."
    ),
    "honesty/peek/free": "Peeks at a fresh key N + 2 times, takes N, peeks again, and calls once more.",
    "honesty/peek/true": (
        "Peeks before and after calls at random over several windows, with costs if peek() takes one, and compares "
        "each answer with what the window can have held."
    ),
}

COVERS = {
    "correctness/window/random": "The faults that the model catches, for limiters without a manual clock.",
    "correctness/rate/steady": "Units that come back late, or in lumps: a bucket that is too slow.",
    "concurrency/processes/fleet": "Instances that agree while they are idle, but not while units come and go.",
    "resilience/clock/server-forward": "State that a step forward corrupts for good instead of letting it expire.",
}
"""The faults that a case catches if none is seeded for it."""

HEAD = """\
# Cases

The cases of the proof kit, each with the faults that it is there to catch. [Verdicts](../explanation/verdicts.md) \
explains when a case passes, [Add a case](../how-to/add-a-case.md) how to write one.

Do not edit this page: `python tools/cases_page.py` writes it from the cases and from the limiters in \
[tests/proof/seeded](../../tests/proof/seeded), which have one fault each and on which the kit is tested.

- The id runs one case: `sluicegate grade TARGET --case correctness/limit/one`. Its beginning runs all cases of a topic.
- **MUST** cases always run. **SHOULD** cases are recommendations: they run with `--strict`, or by their id.
- N is the limit and T the window: `--limit` and `--window`, unless the case sets its own.
- *Alone* means that no other case runs beside it, as it measures time or loads the machine.
- [The table at the end](#requirements) explains what a case requires. A target that lacks it skips the case.
"""


def main() -> None:
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
    print(f"written: {PAGE.relative_to(ROOT)}")


def page() -> str:
    """Return the page."""
    known, faults = cases(), seeded_faults()
    ids = {case.id for case in known}
    if set(DOES) != ids:
        raise SystemExit(f"in DOES or a case, but not both: {sorted(set(DOES) ^ ids)}")
    bare = ids - set(faults)
    if bare != set(COVERS):
        raise SystemExit(f"in COVERS or without a seeded fault, but not both: {sorted(set(COVERS) ^ bare)}")
    parts = [HEAD, _summary(known)]
    for section, in_section in groupby(known, key=lambda case: case.section):
        parts.append(f"## {section.capitalize()}\n")
        parts += [_entry(case, faults.get(case.id) or [COVERS[case.id]]) for case in in_section]
    return "\n".join([*parts, _requirements()])


def seeded_faults() -> dict[str, list[str]]:
    """Return the faults that are seeded for each case, each in a sentence."""
    if str(ROOT / "tests") not in sys.path:
        sys.path.insert(0, str(ROOT / "tests"))
    from proof.seeded.table import SEEDED_FAULTS  # noqa: PLC0415 - it is in the folder of tests

    found: dict[str, list[str]] = {}
    for seeded in SEEDED_FAULTS:
        file, _, name = seeded.target.partition(":")
        found.setdefault(seeded.caught_by, []).append(_fault(ast.parse((SEEDED / file).read_text("utf-8")), name))
    return found


def _fault(file: ast.Module, name: str) -> str:
    """Return the first paragraph of the class's docstring; if it has none, the fault is that of the whole file."""
    of_class = next((each for each in file.body if isinstance(each, ast.ClassDef) and each.name == name), None)
    docstring = (ast.get_docstring(of_class) if of_class else None) or ast.get_docstring(file) or ""
    return " ".join(docstring.partition("\n\n")[0].split())


def _summary(known: list[Case]) -> str:
    rows = ["| section | MUST | SHOULD |", "| --- | --- | --- |"]
    for section, in_section in groupby(known, key=lambda case: case.section):
        should = [case.should for case in in_section]
        rows.append(f"| [{section}](#{section}) | {should.count(False)} | {should.count(True)} |")
    every = [case.should for case in known]
    return "\n".join([*rows, f"| all | {every.count(False)} | {every.count(True)} |", ""])


def _entry(case: Case, catches: list[str]) -> str:
    requires = ", ".join(f"`{requirement.name}`" for requirement in Requirement if requirement in case.requires)
    notes = [
        f"Rubric: {case.line}." if case.line != case.section else "",
        f"Requires {requires}." if requires else "Requires nothing.",
        "Alone." if case.alone else "",
    ]
    lines = [
        f"### `{case.id}`",
        "",
        f"**{'SHOULD' if case.should else 'MUST'}**: {case.sentence}",
        "",
        f"{DOES[case.id]} {' '.join(filter(None, notes))}",
        "",
        *(f"- Catches: {fault}" for fault in catches),
        "",
    ]
    return "\n".join(lines)


def _requirements() -> str:
    rows = ["## Requirements", "", "| requirement | the reason in the report if it is missing |", "| --- | --- |"]
    return "\n".join([*rows, *(f"| `{requirement.name}` | {requirement.value} |" for requirement in Requirement), ""])


if __name__ == "__main__":
    main()
