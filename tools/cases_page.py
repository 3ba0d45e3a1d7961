"""Write docs/reference/cases.md from the cases themselves and from the faults that are planted for them.

A case that nobody has described below stops it, and so does a description of a case that is gone.
"""

import ast
import sys
from itertools import groupby
from pathlib import Path

from sluicegate.proof.case import Case
from sluicegate.proof.cases import cases
from sluicegate.proof.need import Need

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/reference/cases.md"
PLANTED = ROOT / "tests/proof/planted"

DOES = {
    "correctness/answer/bool": "Asks N + 2 times and looks at the type of each answer.",
    "correctness/limit/exact": "Asks each of three fresh keys N + 3 times in a row.",
    "correctness/limit/one": "Asks each of three fresh keys twice, with N = 1.",
    "correctness/limit/large": "Asks one key 1010 times in a row, with N = 1000.",
    "correctness/edge/before": "Fills five keys at five phases of the clock, and asks again at 80, 90 and 96 % of T.",
    "correctness/edge/after": "Fills five keys at five phases of the clock, and asks again just after T.",
    "correctness/edge/at": "On a moved clock, asks an eighth of a second before each unit is due, and when it is.",
    "correctness/window/any-phase": "Fills eight keys, begun an eighth of T apart, and keeps asking until 97 % of T.",
    "correctness/window/late-burst": (
        "Asks once, then for the rest of N at 85 % of T, and then without a pause until those leave."
    ),
    "correctness/window/model": "On a moved clock, asks 1500 times at random for three keys; a model has every answer.",
    "correctness/window/random": "Asks six keys at random for some three windows, singly and in bursts.",
    "correctness/window/fractional": "Fills four keys with T = 0.25 s, and asks again at 0.18, 0.22 and 0.29 s.",
    "correctness/window/long": (
        "With T = 1 h, on a moved clock, asks at ten moments up to T and after it; without one, for 2.5 s."
    ),
    "correctness/denied/free": "Fills three keys, keeps asking for 1.2 T, and judges every denial.",
    "correctness/keys/apart": (
        "Asks for ids that a careless join, cut, pattern or lower case would mix up, each past its limit."
    ),
    "correctness/keys/sprayed": "Fills one key, asks once for each of 5000 others, and asks again for the first.",
    "correctness/rate/steady": "Asks three keys for three windows, faster than the limit, and judges every denial.",
    "correctness/cost/counted": "Of 10 units, asks for 3, 3, 3, 3, 2, 1 and 1.",
    "correctness/cost/denied-free": "Of 10 units, asks for 6, three times for 5, then for 4 and for 1.",
    "correctness/cost/above-limit": "Of 5 units, asks for 6 and for 1000, then for 5 and for 1.",
    "correctness/cost/invalid": "On a full key, asks for less than nothing and for nothing, then for single units.",
    "concurrency/threads/one-key": "Lets 16 threads ask at once for more than the limit, for one key after another.",
    "concurrency/threads/new-keys": "Lets threads meet at fresh keys, and holds them up between lines of the code.",
    "concurrency/threads/interleaved": "Holds threads up at random between any two lines of the file.",
    "concurrency/tasks/one-key": "Lets 64 tasks ask at once for more than the limit, for one key after another.",
    "concurrency/processes/one-key": "Lets four processes with four threads each do the same.",
    "concurrency/processes/fleet": "Lets three processes with two threads each press on three keys for 2.5 T.",
    "concurrency/keys/apart": "Delays every reply of Redis by 40 ms, and times eight keys at once against one alone.",
    "concurrency/loop/free": "Delays every reply of Redis by 0.3 s, and measures how long the event loop stood still.",
    "concurrency/wait/apart": "Lets one caller wait for a full key, and meanwhile asks for another.",
    "performance/time/limit": "Fills a key with N = 10 to 8000, and times a denial.",
    "performance/time/requests": "Times a decision after 50 to 12 000 requests of one key in the window.",
    "performance/time/keys": "Times a decision among 10 to 8000 keys.",
    "performance/memory/limit": "Fills keys with N = 10 to 4000, and counts what each takes.",
    "performance/memory/denied": "Denies 4000 requests, and counts what they left in the process and on Redis.",
    "performance/memory/requests": "Fills 24 windows more of one key, in real time two, and counts what they left.",
    "performance/memory/idle-keys": "Asks for 3000 keys, then five others for an hour (real time: 4 T), and counts.",
    "performance/redis/round-trips": "Counts the replies that pass a proxy before Redis, for 200 decisions.",
    "performance/redis/connections": "Counts the connections that the server accepted, for 100 decisions.",
    "resilience/ttl/set": "Asks for four keys, and reads the TTL of every key on the server.",
    "resilience/ttl/long-enough": "Asks early and late in T = 1 and 2 s, and on until the late ones leave.",
    "resilience/script/flush": "Runs SCRIPT FLUSH with half the limit taken, and asks on.",
    "resilience/restart/recovers": "Kills Redis, asks, starts it again, and asks for two seconds more.",
    "resilience/outage/killed": "Kills Redis, and asks three keys three times each.",
    "resilience/outage/paused": "Stops Redis where it is, connections open, and asks three keys three times each.",
    "resilience/reply/lost": "Cuts three replies on their way back, then takes what is left of the limit.",
    "resilience/clock/clients": "Lets three processes ask at once, the wall clocks of two of them an hour off.",
    "resilience/clock/wall": "Fills keys, steps the wall clock of the process by an hour either way, and asks on.",
    "resilience/clock/server-back": "Steps the server's clock back by 0.9 T while a process asks without a pause.",
    "resilience/clock/server-forward": "Steps the server's clock on by 30 s while a process asks without a pause.",
    "resilience/clock/server-glitch": "Fills a key while the server's clock is a year ahead, sets it right, asks on.",
    "honesty/wait/enough": "Fills four keys in two steps, is told to wait at T / 2, and asks on past the wait.",
    "honesty/wait/not-too-long": "The same, from the other side: not allowed earlier, but for the unit it is told in.",
    "honesty/wait/exact": "On a moved clock, asks 1 µs before three waits end (whole seconds: 1 s), and at it.",
    "honesty/wait/cost": "On a moved clock, asks a full key for 3 units, again just before the wait ends, and at it.",
    "honesty/wait/header": "Asks a fresh key N + 3 times and looks at the Retry-After of each 429.",
    "honesty/remaining/true": "Asks a fresh key N + 2 times and counts down beside it.",
    "honesty/peek/free": "Peeks at a fresh key N + 2 times, takes N, peeks again, and asks once more.",
}

COVERS = {
    "correctness/window/model": "Whatever errs by a step of the clock, at an edge that no other case comes to.",
    "correctness/window/random": "What the model catches, where the clock cannot be moved.",
    "correctness/rate/steady": "Units that come back late, or in lumps: a bucket that is too slow.",
    "concurrency/processes/fleet": "Instances that agree while they rest and not while units come and go.",
    "resilience/clock/server-forward": "State that a step forward spoils for good, rather than ages.",
    "honesty/wait/not-too-long": "A wait that is always the window, or that of the newest request.",
}
"""What a case catches for which no fault of its own is planted."""

HEAD = """\
# Cases

What the kit tries, case by case, with the fault that each is there to catch. [Verdicts](../explanation/verdicts.md) \
says when a case passes; [Add a case](../how-to/add-a-case.md) how one is written.

This page is written by `python tools/cases_page.py` from the cases and from the limiters in \
[tests/proof/planted](../../tests/proof/planted), each with one fault, on which the kit is tried: do not edit it.

- The id runs a case by itself: `sluicegate grade TARGET --case correctness/limit/one`. Its beginning runs all of a topic.
- **MUST** is run always. **SHOULD** is a recommendation, run with `--strict` or by its id.
- N is the limit and T the window: `--limit` and `--window`, unless the case names its own.
- *Alone* means that no other case runs beside it, for it measures time or loads the machine.
- What a case needs of a target is named as in [the table at the end](#needs); where that is missing it is skipped.
"""


def main() -> None:
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
    print(f"written: {PAGE.relative_to(ROOT)}")


def page() -> str:
    """Return the page as it should be."""
    known, faults = cases(), planted_faults()
    ids = {case.id for case in known}
    if set(DOES) != ids:
        raise SystemExit(f"described in DOES, or a case, but not both: {sorted(set(DOES) ^ ids)}")
    bare = ids - set(faults)
    if bare != set(COVERS):
        raise SystemExit(f"in COVERS, or without a planted fault, but not both: {sorted(set(COVERS) ^ bare)}")
    parts = [HEAD, _summary(known)]
    for section, in_section in groupby(known, key=lambda case: case.section):
        parts.append(f"## {section.capitalize()}\n")
        parts += [_entry(case, faults.get(case.id) or [COVERS[case.id]]) for case in in_section]
    return "\n".join([*parts, _needs()])


def planted_faults() -> dict[str, list[str]]:
    """Return what is planted for each case, in words: the first paragraph of each file."""
    if str(ROOT / "tests") not in sys.path:
        sys.path.insert(0, str(ROOT / "tests"))
    from proof.planted.table import PLANTED as TABLE  # noqa: PLC0415 - it lies with the tests

    found: dict[str, list[str]] = {}
    for planted in TABLE:
        source = (PLANTED / planted.target.partition(":")[0]).read_text(encoding="utf-8")
        says = " ".join((ast.get_docstring(ast.parse(source)) or "").partition("\n\n")[0].split())
        found.setdefault(planted.caught_by, []).append(says)
    return found


def _summary(known: list[Case]) -> str:
    rows = ["| section | MUST | SHOULD |", "| --- | --- | --- |"]
    for section, in_section in groupby(known, key=lambda case: case.section):
        should = [case.should for case in in_section]
        rows.append(f"| [{section}](#{section}) | {should.count(False)} | {should.count(True)} |")
    every = [case.should for case in known]
    return "\n".join([*rows, f"| all | {every.count(False)} | {every.count(True)} |", ""])


def _entry(case: Case, catches: list[str]) -> str:
    needs = ", ".join(f"`{need.name}`" for need in Need if need in case.needs)
    notes = [
        f"Rubric: {case.line}." if case.line != case.section else "",
        f"Needs {needs}." if needs else "Needs nothing.",
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


def _needs() -> str:
    rows = ["## Needs", "", "| need | where it is missing, the report says |", "| --- | --- |"]
    return "\n".join([*rows, *(f"| `{need.name}` | {need.value} |" for need in Need), ""])


if __name__ == "__main__":
    main()
