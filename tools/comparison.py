"""What grading the peers came to: the data that is kept of it, and the page made of them."""

from __future__ import annotations

import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Self

from sluicegate.proof.case import Case
from sluicegate.proof.cases import cases
from sluicegate.proof.report import Report
from sluicegate.proof.requirement import Requirement
from sluicegate.proof.text import counted, plain
from sluicegate.proof.verdict import CaseVerdict, Finding

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks" / "peers"))
from table import Peer

VERSION = 1

_LONGEST = 300  # characters of one piece of evidence
_REFUSED_WINDOW = re.compile(r"raised ValueError: .*window must be")  # raised by an adapter: its peer lacks the window
_UNITS = re.compile(r"^(\d+) units were allowed .*; the limit is (\d+)$", re.DOTALL)
_MOST = 2  # no peer's algorithm intends more than so many limits in a window
_SYMBOLS = {"passed": "✓", "failed": "✗", "meant": "≈", "undecided": "?"}

_OFFERS = {
    Requirement.COST: "a cost",
    Requirement.REPORTS_WAIT: "the time to wait",
    Requirement.REPORTS_REMAINING: "the remaining units",
    Requirement.PEEK: "a peek that takes nothing",
    Requirement.WAIT: "a call that waits",
}
"""Optional features: a case that requires one is skipped without it."""

STORES = {"memory": "in memory", "redis": "on Redis"}

_HEAD = """\
# Sluicegate and its peers, case by case

<!-- Written by `make compare`. Do not edit this page, but tools/comparison.py, tools/web_traps_page.py or
     benchmarks/peers/table.py. -->

The proof kit graded every limiter here, one after the other, as `sluicegate grade --strict` does. `make compare` grades
them again and rewrites this page.

{ran}

## How to read it

| | |
| --- | --- |
| ✓ | passed: the case would have shown the fault, and did not |
| ✗ | failed: the evidence is certain, whatever the delays were |
| ≈ | failed by design: its documentation or its maintainers say that it behaves so, for example with another window |
| ? | undecided: the evidence is too weak for either verdict |

- The cases check for "at most N in any T seconds, and no denial while there is room", and for what follows from that.
  A limiter that promises something else, and keeps it, is not broken. Its promise is stated with it.
- A feature that a limiter does not offer, such as a cost or a window of half a second, is not counted and is not a
  fault. Nor is a case that cannot be tried on it: a limiter in memory has no Redis to restart.
- "Advice" holds the recommendations (SHOULD), such as one round trip a decision; the other columns hold the
  requirements (MUST). An empty cell means that nothing there could be tried.

## What it cannot show

- **A pass is not a proof.** Each case ran once, on one shared machine. A race that did not show may show tomorrow.
- **The kit is Sluicegate's own.** Its cases are faults that its authors knew, and Sluicegate was fixed until it passed
  nearly all of them. Nobody did that for the others. Read the evidence; the counts are not a ranking.
- **The adapters are Sluicegate's own, too.** If one misuses its limiter, blame the adapter first. Each is linked.
- **Defaults were graded.** Time-outs, retries and fallbacks that a peer has as options were left at their defaults.
  With a time-out, some of those that hang while Redis is frozen would raise an error instead.
- Speed has [its own page](performance.md). Documentation, users and years in production are not compared.

## At a glance
"""


@dataclass(frozen=True)
class Graded:
    """The results of one limiter.

    Attributes:
        made_at: The time of the grading, ISO 8601.
        limit: N, units per window.
        window: T, seconds.
        machine: The machine, in one line.
        versions: The versions of the package and of the software it ran on, by name.
        passed: The ids of the cases that passed.
        failed: The evidence of the failed cases, by id.
        undecided: The evidence of the undecided cases, by id.
        refused: The evidence of the cases whose window the limiter does not offer, by id.
        skipped: The reasons of the skipped cases, by id.
    """

    made_at: str
    limit: int
    window: float
    machine: str
    versions: Mapping[str, str]
    passed: Sequence[str]
    failed: Mapping[str, str]
    undecided: Mapping[str, str]
    refused: Mapping[str, str]
    skipped: Mapping[str, str]

    @classmethod
    def of(cls, report: Report, versions: Mapping[str, str], machine: str) -> Self:
        """Sort the results of a report by their verdicts."""
        found: dict[str, dict[str, str]] = defaultdict(dict)
        for result in report.results:
            found[_kind(result.finding)][result.case.id] = result.finding.says
        return cls(
            made_at=report.made_at,
            limit=report.limit,
            window=report.window,
            machine=machine,
            versions=versions,
            passed=list(found["passed"]),
            failed=found["failed"],
            undecided=found["undecided"],
            refused=found["refused"],
            skipped=found["skipped"],
        )


def _kind(finding: Finding) -> str:
    failed = finding.verdict is CaseVerdict.FAILED
    return "refused" if failed and _REFUSED_WINDOW.search(finding.says) else finding.verdict.value


def load(path: Path) -> dict[str, Graded]:
    """Read the results that `save` wrote; empty if there is no such file.

    Raises:
        ValueError: The file is of another version.
    """
    if not path.exists():
        return {}
    data = json.loads(path.read_text(encoding="utf-8"))
    if data.get("sluicegate-comparison") != VERSION:
        raise ValueError(f'expected "sluicegate-comparison": {VERSION} in {path}; remove it and run make compare')
    return {name: Graded(**fields) for name, fields in data["limiters"].items()}


def save(graded: Mapping[str, Graded], path: Path) -> None:
    """Write the results, sorted, so that two runs can be compared line by line."""
    limiters = {name: asdict(each) for name, each in graded.items()}
    text = json.dumps({"sluicegate-comparison": VERSION, "limiters": limiters}, indent=1, sort_keys=True)
    path.write_text(f"{text}\n", encoding="utf-8")


def page(peers: Iterable[Peer], graded: Mapping[str, Graded], in_fastapi: str = "") -> str:
    """Return the page in Markdown, with this section in it. Peers that were not graded are left out."""
    known = [peer for peer in peers if peer.name in graded]
    lines = [_HEAD.format(ran=_ran([graded[peer.name] for peer in known])), *_table(known, graded), ""]
    if in_fastapi:
        lines.append(in_fastapi)
    for package, group in groupby(known, key=lambda peer: peer.package):
        lines += [f"## {package}", ""]
        for peer in group:
            lines += _section(peer, graded[peer.name])
    return "\n".join(lines)


def escaped(text: str) -> str:
    """Return text as one line that Markdown shows literally: evidence may quote any key and any message."""
    return re.sub(r"([\\`*_{}\[\]<>#|~$&@:])", r"\\\1", plain(text, _LONGEST))


def _ran(found: Sequence[Graded]) -> str:
    days = sorted({each.made_at[:10] for each in found})
    terms = sorted({(each.limit, each.window) for each in found})
    held = " (over HTTP: ".join(f"{counted(limit, 'request')} in any {window:g} s" for limit, window in terms)
    on = (_all(each.versions.get(name) for each in found) for name in ("Python", "server", "sluicegate"))
    where = "{}, Python {}, {}, Sluicegate {}".format(_all(each.machine for each in found), *on)
    when = " to ".join(dict.fromkeys((days[0], days[-1])))
    return f"Last run: {when}; {where}. Each was held to {held}{')' * (len(terms) - 1)}."


def _all(values: Iterable[str | None]) -> str:
    return " and ".join(sorted({value for value in values if value}))


# The table


def _table(peers: Sequence[Peer], graded: Mapping[str, Graded]) -> Iterator[str]:
    musts = [case for case in cases() if not case.should]
    columns = {name: list(group) for name, group in groupby(musts, key=lambda case: case.section)}
    columns["advice"] = [case for case in cases() if case.should]
    yield f"| limiter | its algorithm | {' | '.join(columns)} |"
    yield f"| --- | --- |{' --- |' * len(columns)}"
    for peer in peers:
        cells = (_cell(peer, graded[peer.name], these) for these in columns.values())
        yield f"| [{peer.name}](#{peer.name}) | {peer.algorithm} | {' | '.join(cells)} |"


def _cell(peer: Peer, found: Graded, these: Iterable[Case]) -> str:
    ids = {case.id for case in these}
    failed = ids & found.failed.keys()
    meant = {id_ for id_ in failed if why(peer, id_, found.failed[id_])}
    counts = {
        "passed": len(ids & set(found.passed)),
        "failed": len(failed - meant),
        "meant": len(meant),
        "undecided": len(ids & found.undecided.keys()),
    }
    return " ".join(f"{_SYMBOLS[kind]}&nbsp;{count}" for kind, count in counts.items() if count)


def why(peer: Peer, id_: str, says: str) -> str | None:
    """Return the reason why the peer intends a failure; None if it does not."""
    units = _UNITS.search(says)
    if units and int(units[1]) > _MOST * int(units[2]):
        return None
    for each in peer.meant:
        if any(id_ == begins or id_.startswith(f"{begins}/") for begins in each.ids) and re.search(each.says, says):
            return each.why
    return None


# A limiter


def _section(peer: Peer, found: Graded) -> Iterator[str]:
    tried = len(found.passed) + len(found.failed) + len(found.undecided)
    versions = ", ".join(f"{name} {found.versions[name]}" for name in peer.installed)
    passed = f"Passed {len(found.passed)} of {counted(tried, 'case')}"
    yield f"### {peer.name}\n"
    yield f"{peer.algorithm[0].upper()}{peer.algorithm[1:]}, {STORES[peer.store]}. {peer.note}\n"
    yield f"{versions}; [adapter](../{peer.adapter.as_posix()}). {passed}.\n"
    groups: dict[str | None, list[str]] = {None: []}
    for case in cases():
        if case.id in found.failed:
            says = found.failed[case.id]
            reason = why(peer, case.id, says)
            groups.setdefault(reason, []).append(_item("meant" if reason else "failed", case, says))
        elif case.id in found.undecided:
            groups[None].append(_item("undecided", case, found.undecided[case.id]))
    for reason, items in groups.items():
        yield from (f"{text}\n" for text in (reason, "\n".join(items)) if text)
    missing = [text for requirement, text in _OFFERS.items() if requirement.value in found.skipped.values()]
    missing += ["windows of less than a second, or of parts of one"] if found.refused else []
    if missing:
        yield f"Not offered: {', '.join(missing)}.\n"


def _item(kind: str, case: Case, says: str) -> str:
    advice = " (advice)" if case.should else ""
    return f"- {_SYMBOLS[kind]} `{case.id}`{advice}: {case.sentence} *{escaped(says)}*"
