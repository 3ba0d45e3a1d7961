"""What trying the web traps came to: the data that is kept of it, and the section "In FastAPI" made of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from comparison import escaped

ROOT = Path(__file__).resolve().parent.parent
WEB_DATA = ROOT / "docs" / "comparison-web.json"
APPS = ROOT / "tools" / "trap_apps"

sys.path.insert(0, str(APPS))
from kit import LIMIT  # noqa: E402 - found by the line above
from traps import TRAPS, Trap  # noqa: E402

VERSION = 1
LIBRARIES = ("sluicegate", "slowapi", "fastapi-limiter", "traffik")

_HEAD = """\
## In FastAPI

Each library limits small apps to {limit} requests a day, and a client falls into the traps below. `make compare-web`
tries them again and rewrites this section.

{ran}

| | |
| --- | --- |
| ✓ | right in the first form of its README that fits |
| (✓) | right with another documented form or setting, named below |
| ✗ | wrong in every form and setting tried |
| no way | its documentation has no way to do it |
| n/a | it has nothing that could be wrong |

- Only documented forms and settings count. Where a library takes a function, such as one that returns the key, an app
  can make up for what is missing; that is not tried.
- Each trap is tried with the settings that suit it. Two of them may exclude each other.
- The apps are [Sluicegate's own](../tools/trap_apps). If one misuses its library, blame the app first. The results of
  every form tried are in [comparison-web.json](comparison-web.json).
- Keep-alive and two workers are tried on uvicorn, everything else in process. "50 requests at once", "Two workers" and
  "Redis frozen" count on {server}; a frozen server is a stopped process.
"""

_NOTES = {
    "fastapi-limiter": (
        "It reads the path of every route of the app, and the included routers of this FastAPI have none. So an app "
        "that includes a router answers every limited request with a 500."
    ),
}


@dataclass(frozen=True)
class Tried:
    """What came of one form of a library in one trap.

    Attributes:
        kit: The form, in Markdown.
        in_readme: Whether the library's README shows it so.
        verdict: ``right``, ``wrong``, ``no way`` or ``nothing to try``.
        says: The evidence.
    """

    kit: str
    in_readme: bool
    verdict: str
    says: str


@dataclass(frozen=True)
class TriedLibrary:
    """What came of one library.

    Attributes:
        made_at: The time, ISO 8601.
        machine: The machine, in one line.
        server: The server that it counted on, with its version.
        versions: The versions of the library and of the web stack, by name.
        traps: What was tried in each trap, by its id; the form of the README first.
    """

    made_at: str
    machine: str
    server: str
    versions: Mapping[str, str]
    traps: Mapping[str, Sequence[Tried]]


def load(path: Path = WEB_DATA) -> dict[str, TriedLibrary]:
    """Read the results that `save` wrote; empty if there is no such file.

    Raises:
        ValueError: The file is of another version.
    """
    if not path.exists():
        return {}
    data = json.loads(path.read_text(encoding="utf-8"))
    if data.get("sluicegate-comparison-web") != VERSION:
        raise ValueError(f'expected "sluicegate-comparison-web": {VERSION} in {path}; remove it, run make compare-web')
    return {name: _library(**fields) for name, fields in data["libraries"].items()}


def _library(traps: Mapping[str, Sequence[Mapping[str, Any]]], **fields: str) -> TriedLibrary:
    tried = {id_: [Tried(**each) for each in these] for id_, these in traps.items()}
    return TriedLibrary(traps=tried, **fields)  # type: ignore[arg-type]


def save(found: Mapping[str, TriedLibrary], path: Path = WEB_DATA) -> None:
    """Write the results, so that two runs can be compared line by line."""
    libraries = {name: asdict(each) for name, each in found.items()}
    text = json.dumps({"sluicegate-comparison-web": VERSION, "libraries": libraries}, indent=1, ensure_ascii=False)
    path.write_text(f"{text}\n", encoding="utf-8")


def section(found: Mapping[str, TriedLibrary]) -> str:
    """Return the section in Markdown; empty if nothing was tried. Libraries that were not tried are left out."""
    known = [name for name in LIBRARIES if name in found]
    if not known:
        return ""
    server = " and ".join(sorted({each.server for each in found.values()}))
    lines = [_HEAD.format(limit=LIMIT, ran=_ran(found), server=server)]
    lines += [f"| trap | right is | {' | '.join(known)} |", f"| --- | --- |{' --- |' * len(known)}"]
    for trap in TRAPS:
        cells = (symbol(found[name].traps.get(trap.id, ())) for name in known)
        lines.append(f"| {trap.title} | {trap.asks} | {' | '.join(cells)} |")
    lines.append("")
    for name in known:
        lines += _evidence(name, found[name])
    return "\n".join(lines)


def symbol(tried: Sequence[Tried]) -> str:
    """Return the verdict on a library in one trap."""
    if not tried:
        return ""
    if tried[0].verdict in _ALONE:
        return _ALONE[tried[0].verdict]
    if tried[0].verdict == "right" and tried[0].in_readme:
        return "✓"
    return "(✓)" if any(each.verdict == "right" for each in tried) else "✗"


_ALONE = {"no way": "no way", "nothing to try": "n/a"}


def _ran(found: Mapping[str, TriedLibrary]) -> str:
    days = sorted({each.made_at[:10] for each in found.values()})
    machines = " and ".join(sorted({each.machine for each in found.values()}))
    stacks = {", ".join(f"{name} {each.versions[name]}" for name in _STACK) for each in found.values()}
    libraries = ", ".join(f"{name} {found[name].versions[name]}" for name in LIBRARIES if name in found)
    when = " to ".join(dict.fromkeys((days[0], days[-1])))
    return f"Last run: {when}; {machines}; {' and '.join(sorted(stacks))}; {libraries}."


_STACK = ("fastapi", "starlette", "uvicorn")


def _evidence(name: str, found: TriedLibrary) -> Iterator[str]:
    """Yield what is behind every verdict but ✓, and what else a ✓ does not say."""
    yield f"### {name} in FastAPI\n"
    if name in _NOTES:
        yield f"{_NOTES[name]}\n"
    items = [_item(trap, found.traps[trap.id]) for trap in TRAPS if trap.id in found.traps]
    yield "\n".join(item for item in items if item) + "\n"


def _item(trap: Trap, tried: Sequence[Tried]) -> str:
    mark = symbol(tried)
    if mark in _ALONE.values():
        return f"- {mark}, {trap.title}: {escaped(tried[0].says)}"
    wrong = [each for each in tried if each.verdict == "wrong"]
    if mark == "✓" and not wrong:
        return ""
    right = next((f"right with {each.kit}. " for each in tried if each.verdict == "right" and mark != "✓"), "")
    by_evidence: dict[str, list[str]] = {}
    for each in wrong:
        by_evidence.setdefault(each.says, []).append(each.kit)
    parts = (f"*{escaped(says)}* ({'; '.join(kits)})" for says, kits in by_evidence.items())
    return f"- {mark} {trap.title}: {right}{', '.join(parts)}".rstrip()
