"""Write the figures and pictures of docs/performance.md from the data of the benchmarks, docs/performance.json.

    .venv/bin/python benchmarks/bench.py --json docs/performance.json    measures all of it, in ten minutes
    .venv/bin/python tools/performance.py                                writes the page and the pictures from it

This tool writes the text between two marks in the page, and nothing else.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from performance_charts import panel, picture
from performance_tables import BLOCKS

ROOT = Path(__file__).resolve().parent.parent
DATA, PAGE = ROOT / "docs" / "performance.json", ROOT / "docs" / "performance.md"
VERSION = 1

_BLOCK = re.compile(r"(<!-- figures: ([a-z-]+) -->\n).*?(<!-- end of figures -->)", re.DOTALL)

Data = Mapping[str, Any]


def load(path: Path) -> Data:
    """Read the data of the benchmarks.

    Raises:
        ValueError: The file is of another version.
    """
    data: Data = json.loads(path.read_text(encoding="utf-8"))
    if data.get("sluicegate-performance") != VERSION:
        raise ValueError(
            f'expected "sluicegate-performance": {VERSION} in {path}; measure again, with benchmarks/bench.py'
        )
    return data


def rewritten(text: str, data: Data, blocks: Mapping[str, Callable[[Data], str]] = BLOCKS) -> str:
    """Return the page with its figures from the data.

    Raises:
        ValueError: The page lacks a block of figures, or has an unknown one.
    """
    found = [name for _, name, _ in _BLOCK.findall(text)]
    if sorted(found) != sorted(blocks):
        raise ValueError(f"expected each of these blocks once in the page: {sorted(blocks)}; found {sorted(found)}")
    return _BLOCK.sub(lambda match: f"{match[1]}\n{blocks[match[2]](data)}\n\n{match[3]}", text)


# The pictures

_OURS, _EVALSHA, _SORTED = "sluicegate", "redis-py, EVALSHA of return 1", "sorted set, one call a decision"
_AWAITED, _ALLOW, _MOVING = "sluicegate, AsyncLimiter.allow", "sluicegate, allow", "limits, moving window"


def pictures(data: Data) -> dict[str, str]:
    """Return all pictures by the names of their files."""
    return {
        "performance-tasks.svg": _tasks(data),
        "performance-keys.svg": _keys(data),
        "performance-limit-memory.svg": _limit_in_memory(data),
        "performance-limit-redis.svg": _limit_on_a_server(data),
        "performance-cost-memory.svg": _cost_in_memory(data),
        "performance-cost-redis.svg": _cost_on_a_server(data),
    }


def _tasks(data: Data) -> str:
    curve = data["curves"]["asyncio on one core, by tasks"]
    peers = [name for name in curve["lines"] if name not in (_AWAITED, _EVALSHA)]
    looks = {_AWAITED: (_OURS, "ours"), _EVALSHA: ("redis-py alone", "floor")}
    looks |= {name: (name.partition(",")[0], "peer-too" if name == _SORTED else "peer") for name in peers}
    says = f"{curve['on']}, asyncio, client and server on one core"
    title = "Decisions a second, by tasks"
    return picture(title, [panel(curve, title, says, "/s", looks)])


def _keys(data: Data) -> str:
    memory, server = data["curves"]["in memory, by keys"], data["curves"]["asyncio on one core, 64 tasks, by keys"]
    return picture(
        "Decisions a second, by keys",
        [
            panel(
                memory,
                "Decisions a second in memory, by keys",
                "One thread, all keys live, in turn",
                "/s",
                {_ALLOW: (_OURS, "ours"), "bare deque": ("bare deque", "floor"), _MOVING: ("limits, moving", "peer")},
            ),
            panel(
                server,
                "Decisions a second on Redis, by keys",
                f"{server['on']}, asyncio, 64 tasks, all keys live, one core",
                "/s",
                {_AWAITED: (_OURS, "ours"), _EVALSHA: ("redis-py alone", "floor"), _SORTED: ("sorted set", "peer-too")},
            ),
        ],
    )


def _limit_in_memory(data: Data) -> str:
    looks = {_ALLOW: (_OURS, "ours"), "bare deque": ("bare deque", "floor"), _MOVING: ("limits, moving", "peer")}
    return picture(
        "Time and bytes in memory, by limit",
        [
            panel(
                data["curves"]["in memory, full logs, by limit: time"],
                "Time of a decision in memory, by limit",
                "Requests of cost 1 that fill a log to its limit; one thread",
                "s",
                looks,
            ),
            panel(
                data["curves"]["in memory, full logs, by limit: bytes"],
                "Bytes of a full log in memory, by limit",
                "Allocated by Python for one key, tracemalloc",
                "B",
                looks,
            ),
        ],
    )


def _limit_on_a_server(data: Data) -> str:
    time, weight = (data["curves"][f"on a server, full logs, by limit: {of}"] for of in ("time", "bytes"))
    peers = {_MOVING: ("limits, moving", "peer"), _SORTED: ("sorted set", "peer-too")}
    return picture(
        "Time and bytes on Redis, by limit",
        [
            panel(
                time,
                "Server's time of a decision, by limit",
                f"{time['on']}, requests of cost 1 that fill a log to its limit",
                "s",
                {
                    "sluicegate, in a batch of 64": ("sluicegate, batch", "ours"),
                    "sluicegate, one a call": ("sluicegate, single", "ours-too"),
                    **peers,
                },
            ),
            panel(
                weight,
                "Bytes of a full log on Redis, by limit",
                f"{weight['on']}, MEMORY USAGE of one key",
                "B",
                {"sluicegate, one a call": (_OURS, "ours"), **peers},
            ),
        ],
    )


def _cost_in_memory(data: Data) -> str:
    looks = {_ALLOW: (_OURS, "ours"), _MOVING: ("limits, moving", "peer"), "pyrate-limiter": ("pyrate", "peer-too")}
    return picture(
        "Time and bytes in memory, by the cost of a request",
        [
            panel(
                data["curves"]["in memory, by the cost of a request: time"],
                "Time of a decision in memory, by its cost",
                "One request on a fresh key; one thread",
                "s",
                looks,
            ),
            panel(
                data["curves"]["in memory, by the cost of a request: bytes"],
                "Bytes of a request in memory, by its cost",
                "Allocated by Python for a key with one request, tracemalloc",
                "B",
                looks,
            ),
        ],
    )


def _cost_on_a_server(data: Data) -> str:
    time, weight = (data["curves"][f"on a server, by the cost of a request: {of}"] for of in ("time", "bytes"))
    looks = {
        "sluicegate, one a call": (_OURS, "ours"),
        _MOVING: ("limits, moving", "peer"),
        _SORTED: ("sorted set", "peer-too"),
    }
    return picture(
        "Time and bytes on Redis, by the cost of a request",
        [
            panel(
                time,
                "Server's time of a decision, by its cost",
                f"{time['on']}, one request a call, on a fresh key",
                "s",
                looks,
            ),
            panel(
                weight,
                "Bytes of a request on Redis, by its cost",
                f"{weight['on']}, MEMORY USAGE of a key with one request",
                "B",
                looks,
            ),
        ],
    )


def main() -> None:
    data = load(DATA)
    PAGE.write_text(rewritten(PAGE.read_text(encoding="utf-8"), data), encoding="utf-8")
    for name, text in pictures(data).items():
        (PAGE.parent / name).write_text(text, encoding="utf-8")
    sys.stdout.write(f"written: {PAGE.relative_to(ROOT)}, and {len(pictures(data))} pictures beside it\n")


if __name__ == "__main__":
    main()
