"""The figures of docs/performance.md as Markdown. Each block is a pure function of the measured data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

Data = Mapping[str, Any]
Row = Mapping[str, Any]

_NAMES = {
    "a lock and a clock": "a lock and a clock, and no decision",
    "bare deque": "a bare deque: one policy, nothing given back",
    "sluicegate, allow": "sluicegate, `allow`",
    "sluicegate, take": "sluicegate, `take`",
    "sluicegate, AsyncLimiter.allow": "sluicegate, `AsyncLimiter.allow`",
    "redis-py, EVALSHA of return 1": "redis-py, `EVALSHA` of `return 1`",
    "redis-py, GET": "redis-py, `GET`",
    "return 1": "a script that returns 1",
    "sluicegate, all of it": "sluicegate, the whole decision",
    "a script of no more than its commands": "a script with the same commands only",
    "redis-py, EVALSHA of return 1: the server's process": "redis-py, `EVALSHA` of `return 1`: the server's process",
    "redis-py, EVALSHA of return 1: this process": "redis-py, `EVALSHA` of `return 1`: this process",
    "a task that a future wakes, and no more": "waking a task by a future",
    "a thread that a lock wakes, and no more": "waking a thread by a lock",
}
_SAME = {"sluicegate, AsyncLimiter.allow": "sluicegate, allow"}  # in tables with threads and tasks side by side


def span(seconds: float) -> str:
    """Return a span in a unit that suits it, with two digits or three."""
    for unit, size in (("ns", 1e-9), ("µs", 1e-6), ("ms", 1e-3)):
        if seconds < 999.5 * size:
            number = seconds / size
            return f"{number:.0f}&nbsp;{unit}" if number >= 9.95 or unit == "ns" else f"{number:.1f}&nbsp;{unit}"
    return f"{seconds:.1f}&nbsp;s"


def ratio(number: float) -> str:
    """Return a ratio with two digits or three."""
    digits = f"{number:.0f}" if number >= 99.5 else f"{number:.1f}" if number >= 9.95 else f"{number:.2f}"
    return f"\N{MULTIPLICATION SIGN}&nbsp;{digits}"


def whole(number: float) -> str:
    """Return a large number to three digits, with spaces between the thousands."""
    rounded = float(f"{number:.3g}")
    return f"{rounded:,.0f}".replace(",", "&nbsp;") if rounded >= 100 else f"{rounded:.3g}"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(heads)} |", f"| {' | '.join('---' for _ in heads)} |"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines)


def _servers(data: Data) -> list[str]:
    return list(data["ran"]["servers"])


def _time(row: Row) -> str:
    return f"{span(row['median'])}, {ratio(row['times'])}"


def _speed(row: Row) -> str:
    """Return decisions a second, and their ratio to the floor's."""
    return f"{whole(1 / row['median'])}, {ratio(1 / row['times'])}"


def _exact(rows: Sequence[Row]) -> str:
    return {True: "yes", False: "no"}.get(next((row["exact"] for row in rows), None), "")


def _beside(data: Data, columns: Mapping[str, str], cell: Callable[[Row], str] = _time, *, merge: bool = False) -> str:
    """Return the tables with these titles side by side, with a row for each name; ours are bold."""
    tables = []
    for title in columns.values():
        rows = data["tables"][title]["rows"]
        tables.append({_SAME.get(name, name) if merge else name: row for name, row in rows.items()})
    names = list(dict.fromkeys(name for rows in tables for name in rows))
    graded = any(row["exact"] is not None for rows in tables for row in rows.values())
    lines = []
    for name in names:
        cells = [cell(rows[name]) if name in rows else "" for rows in tables]
        label = _NAMES.get(name, name)
        if name.startswith("sluicegate"):
            label, cells = f"**{label}**", [text and f"**{text}**" for text in cells]
        exact = [_exact([rows[name] for rows in tables if name in rows])] if graded else []
        lines.append([label, *exact, *cells])
    return _table(["", *(["exact"] if graded else []), *columns], lines)


# The blocks


def ran(data: Data) -> str:
    where = data["ran"]
    packages = dict(where["packages"])
    ours, client, codec = packages.pop("sluicegate"), packages.pop("redis"), packages.pop("hiredis")
    peers = ", ".join(f"{name} {number}" for name, number in packages.items())
    minutes, seconds = divmod(where["seconds"], 60)
    quick = " **A quick trial with few rounds and sizes: do not quote these figures.**" if where["quick"] else ""
    return (
        f"Measured on {where['at'][:10]} in {minutes} min {seconds:02} s: Sluicegate {ours}, Python {where['python']}, "
        f"redis-py {client} with hiredis {codec}, {' and '.join(_servers(data))} on loopback; {peers}. "
        f"{where['machine']}.{quick}"
    )


def aims(data: Data) -> str:
    """Return all aims, grouped by place, with the servers of one aim in one row."""
    order = list(dict.fromkeys(aim["what"] for aim in data["aims"]))
    rows, last = [], ""
    for what, group in groupby(sorted(data["aims"], key=lambda aim: order.index(aim["what"])), lambda aim: aim["what"]):
        each = list(group)
        where, _, compared = what.partition(": ")
        rows.append(["" if where == last else where, compared, _bound(each[0]), _measured(each), _met(each)])
        last = where
    met = sum(all(aim["met"] for aim in data["aims"] if aim["what"] == what) for what in order)
    return f"{met} of {len(order)} are met.\n\n" + _table(["where", "what", "aim", "measured", "met"], rows)


def _bound(aim: Row) -> str:
    return f"≤&nbsp;{aim['most']:g}" if aim["most"] is not None else f"≥&nbsp;{aim['least']:g}"


def _met(aims: Sequence[Row]) -> str:
    missed = [aim for aim in aims if not aim["met"]]
    if not missed:
        return "yes"
    return "**no**" if len(missed) == len(aims) else f"**not on {missed[0]['on'].split()[0]}**"


def _measured(aims: Sequence[Row]) -> str:
    texts = []
    for aim in aims:
        number = whole(aim["measured"]) if aim["measured"] >= 99.5 else f"{aim['measured']:.3g}"
        server, _, _ = aim["on"].partition(" ")
        texts.append(f"{server}&nbsp;{number}" if server else number)
        if aim["to"]:
            texts[-1] += f" ({aim['to']})"
    return ", ".join(texts)


def in_memory(data: Data) -> str:
    where = "in memory, one hot key, "
    return _beside(
        data,
        {
            "a hot key, allowed": f"{where}allowed",
            "saturated, denied": f"{where}saturated and denied",
            "a full log of 10&nbsp;000": "in memory, one full log of 10 000, at the pace of its limit",
            "100&nbsp;000 keys in turn": "in memory, 100 000 keys in turn",
        },
    )


def footprint(data: Data) -> str:
    table = data["tables"]["bytes in process (tracemalloc)"]
    rows = []
    for name, cells in table["rows"].items():
        texts = [whole(cell) if cell >= 99.5 else f"{cell:.1f}" for cell in cells]
        bold = name.startswith("sluicegate")
        rows.append(
            [f"**{text}**" if bold else text for text in (_NAMES.get(name, name) if not bold else "sluicegate", *texts)]
        )
    return _table(["", *table["columns"]], rows)


def tasks(data: Data) -> str:
    columns = {
        f"{count} tasks, {server}": f"asyncio on one core, {count} tasks, {server}"
        for count in (64, 512)
        for server in _servers(data)
    }
    return _beside(data, columns, _speed)


def one_at_a_time(data: Data) -> str:
    columns = {
        f"{what}, {server}": f"round trip of a decision, {what}, {server}"
        for what in ("one thread", "one task")
        for server in _servers(data)
    }
    return _beside(data, columns, merge=True)


def threads(data: Data) -> str:
    return _beside(data, {server: f"16 threads, {server}" for server in _servers(data)}, _speed)


def flood(data: Data) -> str:
    columns = {
        f"{what}, {server}": f"flood of denied requests, one key, {what}, {server}"
        for what in ("one thread", "64 tasks")
        for server in _servers(data)
    }
    return _beside(data, columns, _speed, merge=True)


def latency(data: Data) -> str:
    shares = {"p50": "half of them (p50)", "p99": "all but one in a hundred (p99)"}
    columns = {
        f"{by}, {short}, {server.split()[0]}": f"latency at 100 requests a second, {by}, {server}, {share}"
        for by in ("one thread", "tasks")
        for short, share in shares.items()
        for server in _servers(data)
    }
    return _beside(data, columns, merge=True)


def server_time(data: Data) -> str:
    return _beside(data, {server: f"server time of a decision, {server}" for server in _servers(data)})


def where_it_goes(data: Data) -> str:
    whats = ("one thread", "one task", "64 tasks", "512 tasks", "16 threads")
    return _beside(data, {what: f"where the time goes, {what}, {_servers(data)[0]}" for what in whats}, _share)


def _share(row: Row) -> str:
    """Return a time, and its share of the whole decision."""
    return f"{span(row['median'])}, {row['times']:.0%}"


def several(data: Data) -> str:
    columns = {f"in memory, {outcome}": f"in memory, take, {outcome}" for outcome in ("allowed", "denied")}
    for server in _servers(data):
        for outcome in ("allowed", "denied"):
            columns[f"{server}, {outcome}"] = f"round trip, one thread, {server}, {outcome}"
    for server in _servers(data):
        columns[f"server time, {server}"] = f"server time, one decision a call, allowed, {server}"
    return _beside(data, columns, lambda row: span(row["median"]) if row["times"] == 1 else ratio(row["times"]))


def algorithms(data: Data) -> str:
    memory = data["tables"]["in memory, take, by algorithm, allowed"]["rows"]
    heads, rows = ["", "in memory, `take`"], {name: [span(row["median"])] for name, row in memory.items()}
    for server in _servers(data):
        for outcome in ("allowed", "denied"):
            table = data["tables"][f"server time by algorithm, {outcome}, {server}"]["rows"]
            heads.append(f"{server}, {outcome}")
            for name, cells in rows.items():
                one, batch = (table[f"{name}, {form}"]["median"] for form in ("one a call", "in a batch of 64"))
                cells.append(f"{span(one)} / {span(batch)}")
    return _table(heads, [[name, *cells] for name, cells in rows.items()])


BLOCKS: Mapping[str, Callable[[Data], str]] = {
    "ran": ran,
    "aims": aims,
    "in-memory": in_memory,
    "footprint": footprint,
    "tasks": tasks,
    "one-at-a-time": one_at_a_time,
    "threads": threads,
    "flood": flood,
    "latency": latency,
    "server-time": server_time,
    "where-it-goes": where_it_goes,
    "several": several,
    "algorithms": algorithms,
}
