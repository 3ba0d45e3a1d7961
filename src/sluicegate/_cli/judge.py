"""``sluicegate judge``: judge a recorded history."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import click

from sluicegate._cli.command import HELP_OPTIONS, Command, Seconds, echo, stop
from sluicegate.proof.history import History, InvalidHistory
from sluicegate.proof.judge import judge
from sluicegate.proof.text import plain
from sluicegate.proof.verdict import CaseVerdict


@click.command("judge", cls=Command, context_settings=HELP_OPTIONS)
@click.argument("history", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
@click.option("--limit", type=click.IntRange(1), help="N, in place of the file's.")
@click.option("--window", type=Seconds(0, min_open=True), help="T in seconds, in place of the file's.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def main(history: Path, limit: int | None, window: float | None, as_json: bool) -> None:
    """Judge recorded answers again: whether more than N were allowed in any T seconds, and whether a denial had room.

    HISTORY is a file that sluicegate grade --save wrote, or one of your own; - reads standard input. Its first line
    holds the limit and the window in seconds. Each other line is one answer, with the times in seconds at which the
    request was sent and the answer arrived.

    \b
      {"sluicegate-history": 1, "limit": 5, "window": 1.0}
      {"start": 12.0101, "end": 12.0103, "key": "alice", "allowed": true}

    Exit codes: 0 passed, 1 failed, 2 could not run, 3 undecided.
    """  # noqa: D301 - the mark of click for lines to keep
    piped = str(history) == "-"
    try:
        if piped:
            sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")  # type: ignore[union-attr]
            recorded = History.read(sys.stdin)
        else:
            recorded = History.load(history)
    except (InvalidHistory, OSError) as why:
        stop(f"{'standard input' if piped else history} is not a valid history: {why}")
    judged = replace(recorded, limit=limit or recorded.limit, window=window or recorded.window)
    judgement = judge(judged)
    if as_json:
        findings = judgement._asdict().items()
        found = {name: {"verdict": finding.verdict, "says": finding.says} for name, finding in findings}
        echo(json.dumps({"limit": judged.limit, "window": judged.window, **found}, indent=2))
    else:
        echo(f"{len(judged.records)} answers, held to {judged.limit} in any {judged.window:g} s")
        for name, finding in judgement._asdict().items():
            echo(f"{finding.verdict:<10} {name.replace('_', ' ')}: {plain(finding.says)}")
    sys.exit({CaseVerdict.FAILED: 1, CaseVerdict.UNDECIDED: 3}.get(judgement.worst.verdict, 0))
