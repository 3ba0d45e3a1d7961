"""Where the log of a sliding window may live on the server: what a decision costs in each home, what an entry weighs.

    .venv/bin/python benchmarks/homes.py                the tables: some minutes, and it wants the machine to itself
    .venv/bin/python benchmarks/homes.py --quick        few sizes and rounds, to see that it works
    .venv/bin/python benchmarks/homes.py --json FILE    the same as data, too

The homes are the script that ships, and those in ``homes/``: a list of single entries, a string, a sorted set. Each is
one script that decides a batch. They run in turn, round after round, on logs of the same requests. Times are the
server's own count (INFO commandstats) for one decision of a batch, µs: the median, how many times that of a script
that returns 1, which is what counts, and the spread over the rounds.

The scripts' clock is a counter on the server, moved on by a fixed step at each call, in the place of ``clock.lua``. So
a log of any size is steady to the entry, and all homes see the same times and must give the same answers; that is
checked before anything is measured.
"""

from __future__ import annotations

import json
import random
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any, NamedTuple

import redis
from report import ran, said
from rich.console import Console
from rich.table import Table
from rounds import ROUNDS, Spread, measured

from sluicegate import SlidingWindow
from sluicegate._core.request import Charge
from sluicegate._stores.redis.script import Script, ServerClockEstimate, decide_arguments

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import servers

QUICK = "--quick" in sys.argv
SIZES = (10, 1_000) if QUICK else (10, 100, 1_000, 10_000, 100_000)
SHIPS = "sluicegate"
LARGEST = {"sorted_set": 10_000}  # entries; it would take minutes and gigabytes
FLOOR = "return 1"
BATCH = 64  # an eighth of it where logs are larger than 10 000 entries

MANY = 10**9  # a limit that is never reached
MIX = (1, 1, 2, 1, 4, 1, 1, 8)
START_US = 1_800_000_000_000_000
# What the clock moves on by at a call. Pace is a minute, so that no TTL, counted in real time, ends during the run.
PACE_US, BURST_US, STILL_US = 60_000_000, 1, 0


class Home:
    """One layout of the log, and the script that decides on it.

    Args:
        name: The stem of a file in ``homes/``, or `SHIPS`.
        prefix: What its keys begin with; of one length for all homes, because a key's name is in its weight.
    """

    def __init__(self, client: redis.Redis, name: str, prefix: str) -> None:
        self.name, self.client = name, client
        self._prefix, self._now = prefix, f"{prefix}now"
        self._shas = {step: client.script_load(self._source(step)) for step in (PACE_US, BURST_US, STILL_US)}
        self.turn(START_US)

    def _source(self, step_us: int) -> str:
        clock = f"local function now_us() return redis.call('INCRBY', '{self._now}', {step_us}) end"
        if self.name == SHIPS:
            return Script("decide", clock=clock).source
        file = Path(__file__).parent / "homes" / f"{self.name}.lua"
        return f"#!lua\n{clock}\n{file.read_text('utf-8')}"

    def turn(self, now_us: int) -> None:
        self.client.set(self._now, now_us)

    def key(self, policy: SlidingWindow, name: str) -> Any:
        return decide_arguments(self._prefix, [(Charge(policy, name, 1),)], ServerClockEstimate())[1]

    def command(self, charges: Sequence[Charge], step_us: int) -> list[Any]:
        """Return the call that decides a batch."""
        count, *rest = decide_arguments(self._prefix, [(charge,) for charge in charges], ServerClockEstimate())
        if self.name != SHIPS:
            rest[len(charges) :] = [n for policy, _, cost in charges for n in (policy.limit, policy.window_us, cost)]
        return ["EVALSHA", self._shas[step_us], count, *rest]

    def run(self, command: list[Any]) -> list[list[int]]:
        """Return allowed, remaining, retry_after and reset_after for each charge."""
        reply = self.client.execute_command(*command)
        if self.name != SHIPS:
            return [reply[at : at + 4] for at in range(0, len(reply), 4)]
        return [[int(reply[at + 1] == 0), *reply[at : at + 3]] for at in range(1, len(reply), 3)]

    def traffic(self, policy: SlidingWindow, name: str, costs: Iterable[int]) -> None:
        """Charge one log with one cost after the other, at the pace."""
        calls = {cost: self.command([Charge(policy, name, cost)], PACE_US) for cost in {1, *MIX}}
        pending = iter(costs)
        while some := list(islice(pending, 1000)):
            pipe = self.client.pipeline(transaction=False)
            for cost in some:
                pipe.execute_command(*calls[cost])
            pipe.execute()

    def weight(self, policy: SlidingWindow, name: str) -> int:
        """Return the bytes of a log and its key."""
        return self.client.memory_usage(self.key(policy, name), samples=0)

    def copy(self, policy: SlidingWindow, name: str, others: Iterable[str]) -> None:
        pipe = self.client.pipeline(transaction=False)
        for other in others:
            pipe.copy(self.key(policy, name), self.key(policy, other), replace=True)
        pipe.execute()


def homes(client: redis.Redis, size: int) -> list[Home]:
    """Make the homes that a log of this size is tried in, on a server that is empty then."""
    client.flushall()
    names = (SHIPS, "entries", "string", "sorted_set")
    return [Home(client, name, f"{n}:") for n, name in enumerate(names) if size <= LARGEST.get(name, size)]


def check(client: redis.Redis, calls: int = 600) -> None:
    """Ask all homes the same at the same times; end the run where two of them differ in a number."""
    chance = random.Random(1)
    contenders = homes(client, 0)
    now_us = START_US
    for call in range(calls):
        now_us += 1_000_000 * chance.choices((0, 10, 30, 600, 7200), (20, 50, 25, 4, 1))[0]
        charges = []
        for limit in (1, 5, 20, 100, 500, 2000, 2000):
            policy = SlidingWindow(chance.choice((limit, limit, limit // 2 + 1)), window=3600, name="check")
            most = chance.choices((1, limit // 50 + 2, limit + 1), (60, 35, 5))[0]
            charges.append((policy, f"key-{len(charges)}", chance.randint(1, most)))
        said = {}
        for home in contenders:
            home.turn(now_us)
            said[home.name] = home.run(home.command(charges, STILL_US))
        if any(answers != said[SHIPS] for answers in said.values()):
            lines = [f"{name:>10}  {answers}" for name, answers in said.items()]
            sys.exit("\n".join(["THE HOMES DISAGREE. Nothing was measured.", f"call {call}: {charges}", *lines]))


class Case(NamedTuple):
    """A batch that is asked of logs of a size, and what it must be told."""

    title: str
    log: str
    limit: int
    costs: Iterable[int]
    step_us: int
    allowed: bool


def cases(size: int, units: int) -> list[Case]:
    """List the cases for logs of so many entries: one of cost 1 each, and one of the mix, of so many units in all."""
    return [
        Case("allowed, cost 1", "ones", MANY, (1,), BURST_US, True),
        Case("denied, cost 1", "ones", size, (1,), BURST_US, False),
        Case("allowed, mixed costs", "mix", MANY, MIX, BURST_US, True),
        Case("denied, mixed costs, near wait", "mix", units, (2, 4, 8), BURST_US, False),
        Case("denied, half the limit, far wait", "mix", units, (units // 2,), BURST_US, False),
        Case("steady, one leaves for each", "ones", size, (1,), PACE_US, True),
    ]


def log(size: int, limit: int) -> SlidingWindow:
    """Return the policy whose window holds so many entries at the pace."""
    return SlidingWindow(limit, window=size * PACE_US / 1e6, name="log")


def server_time(client: redis.Redis, call: Callable[[], object], calls: int) -> float:
    """Return the server's seconds for one script call."""
    client.config_resetstat()
    for _ in range(calls):
        call()
    return client.info("commandstats")["cmdstat_evalsha"]["usec"] / 1e6 / calls


def decision(home: Home, case: Case, size: int) -> Callable[[], float]:
    """Time one decision of a case."""
    policy = log(size, case.limit)
    names = [f"key-{n}" for n in range(BATCH if size <= 10_000 else BATCH // 8)]
    command = home.command(list(zip(cycle([policy]), names, cycle(case.costs), strict=False)), case.step_us)
    grows = case.allowed and case.step_us == BURST_US

    def restore() -> None:
        home.copy(policy, case.log, names)
        home.turn(START_US + size * PACE_US)

    def call() -> None:
        if grows and size <= 100:  # a larger one hardly changes in all the rounds
            restore()
        if any(allowed != case.allowed for allowed, *_ in home.run(command)):
            sys.exit(f"{case.title.upper()}: NOT SO. {home.name}, {size} entries")

    restore()
    return lambda: server_time(home.client, call, 5 if grows else 10) / len(names)


def heaviest(home: Home, size: int) -> int:
    """Return the most bytes of a full log under steady traffic, seen while all of it leaves twice."""
    policy, weights = log(size, size), []
    home.turn(START_US + size * PACE_US)
    for _ in range(40):
        home.traffic(policy, "ones", [1] * max(size // 20, 1))
        weights.append(home.weight(policy, "ones"))
    return max(weights)


Grid = dict[str, dict[int, Any]]
"""Of each home, what was found at each size."""


class Grids:
    """Tables with a row for each home and a column for each size; with ``--json FILE`` the same as data."""

    def __init__(self) -> None:
        self._console = Console()
        self._data: dict[str, Any] = {"ran": ran(), "tables": {}}
        self._console.print(said(self._data["ran"]))

    def close(self) -> None:
        if "--json" in sys.argv:
            target = Path(sys.argv[sys.argv.index("--json") + 1])
            target.write_text(json.dumps(self._data, indent=2))

    def grid(self, title: str, rows: Grid, show: Callable[[Any, int], str]) -> None:
        sizes = list(next(iter(rows.values())))
        heads = (f"{size:,}".replace(",", " ") for size in sizes)
        table = Table("log of", *heads, title=title, title_justify="left")
        for name, cells in rows.items():
            table.add_row(name, *(show(cells[size], size) if size in cells else "" for size in sizes))
        self._console.print(table)

    def times(self, title: str, rows: Grid) -> None:
        def show(spread: Spread, size: int) -> str:
            ratio = spread.median / rows[FLOOR][size].median
            return f"{_us(spread.median)} x{ratio:.1f}\n{_us(spread.low)}-{_us(spread.high)}"

        self.grid(title, rows, show)
        self._data["tables"][title] = {
            name: {size: asdict(spread) for size, spread in cells.items()} for name, cells in rows.items()
        }

    def bytes(self, title: str, rows: Grid) -> None:
        self.grid(title, rows, lambda count, _: f"{count:.1f}")
        self._data["tables"][title] = rows


def _us(seconds: float) -> str:
    return f"{seconds * 1e6:.2f}" if seconds < 1e-5 else f"{seconds * 1e6:.1f}"


def fill(home: Home, size: int, costs: Iterable[int]) -> None:
    for name, each in ("one", [1]), ("mix", costs), ("ones", [1] * size):
        home.turn(START_US)
        home.traffic(log(size, MANY), name, each)


def measure(report: Grids, server: servers.Server) -> None:
    client = server.client
    check(client)
    times: dict[str, Grid] = defaultdict(lambda: defaultdict(dict))
    filled: Grid = defaultdict(dict)
    steady: Grid = defaultdict(dict)
    for size in SIZES:
        contenders = homes(client, size)
        costs = list(islice(cycle(MIX), size))
        for home in contenders:
            fill(home, size, costs)
            filled[home.name][1] = home.weight(log(size, MANY), "one")
            filled[home.name][size] = home.weight(log(size, MANY), "ones") / size
        sha = client.script_load(FLOOR)
        for case in cases(size, sum(costs)):
            runs = {home.name: decision(home, case, size) for home in contenders}
            runs[FLOOR] = partial(server_time, client, partial(client.evalsha, sha, 0), 200)
            for name, spread in measured(f"{case.title}, {size} entries", runs, 3 if QUICK else ROUNDS).items():
                times[case.title][name][size] = spread
        for home in contenders:
            steady[home.name][size] = heaviest(home, size) / size
    for title, rows in times.items():
        report.times(f"{title} (µs, times {FLOOR}), {server.version}", rows)
    report.bytes(f"filled (bytes an entry), {server.version}", filled)
    report.bytes(f"steady, at its most (bytes an entry), {server.version}", steady)


def main() -> None:
    report = Grids()
    for kind in servers.binaries():
        with servers.running(kind) as server:
            measure(report, server)
    report.close()


if __name__ == "__main__":
    main()
