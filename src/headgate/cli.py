"""The command ``headgate``. Each verb reads its options, calls the package, and says what came of it.

Exit codes: 0 every case passed, 1 one failed, 2 it could not run, 3 none failed but some stayed undecided.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

try:
    import click
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
except ImportError as error:  # pragma: no cover - seen by the test of the bare package
    raise SystemExit(f"the command headgate needs more packages: pip install 'headgate[proof]' ({error})") from None

from headgate import __version__
from headgate.proof.case import Case
from headgate.proof.cases import cases
from headgate.proof.grading import CouldNotRun, Told, choose, grade
from headgate.proof.history import History, InvalidHistory
from headgate.proof.judge import judge
from headgate.proof.report import Result, data, html, junit, terminal
from headgate.proof.report.text import plain
from headgate.proof.rig import Settings
from headgate.proof.target import InvalidTarget, Target, parse, service
from headgate.proof.verdict import Verdict

COULD_NOT_RUN = 2

_NO_SANDBOX = (
    "The target's code runs on this machine, as you. Its time and memory are bounded, but this is no sandbox: grade "
    "code that you do not trust on a machine that you can throw away."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="headgate")
def main() -> None:
    """Headgate: an exact rate limiter, and a proof kit that grades any limiter."""


@main.command("grade", epilog=_NO_SANDBOX)
@click.argument("target", required=False)
@click.option("--http", "url", metavar="URL", help="Grade a running service: its URL, with {key} for the key.")
@click.option("--limit", type=click.IntRange(1, 10_000), help="N: units per window.  [default: 5]")
@click.option("--window", type=click.FloatRange(0.05, 3600), help="T: seconds.  [default: 1]")
@click.option("--case", "only", multiple=True, metavar="ID", help="Only this case, or this section. May be repeated.")
@click.option("--strict", is_flag=True, help="Run the recommendations (SHOULD), too.")
@click.option("--json", "json_to", type=click.Path(dir_okay=False, path_type=Path), help="Write the report as JSON.")
@click.option("--html", "html_to", type=click.Path(dir_okay=False, path_type=Path), help="Write it as one HTML page.")
@click.option("--junit", "junit_to", type=click.Path(dir_okay=False, path_type=Path), help="Write it as JUnit XML.")
@click.option("--save", type=click.Path(file_okay=False, path_type=Path), help="Keep the recorded answers in a folder.")
@click.option(
    "--deadline",
    type=click.FloatRange(0.01, 60),
    default=1.0,
    show_default=True,
    help="Seconds for an answer in an outage.",
)
@click.option(
    "--server",
    type=click.Choice(["valkey", "redis"]),
    help="The kind of server to start.  [default: whichever there is]",
)
@click.option(
    "--python",
    "python",
    default=sys.executable,
    metavar="PATH",
    help="The interpreter for the target.  [default: this one]",
)
@click.option(
    "--memory",
    type=click.IntRange(64, 65536),
    default=1024,
    show_default=True,
    help="MiB that a process of the target may hold.",
)
def grade_command(  # noqa: PLR0917 - click passes each by its name
    target: str | None,
    url: str | None,
    limit: int | None,
    window: float | None,
    only: tuple[str, ...],
    strict: bool,
    json_to: Path | None,
    html_to: Path | None,
    junit_to: Path | None,
    save: Path | None,
    deadline: float,
    server: str | None,
    python: str,
    memory: int,
) -> None:
    r"""Grade a rate limiter, case by case, with the evidence.

    TARGET is file.py:Name or package.module:name, a class or factory that is called as Name(limit, window_seconds),
    with the URL of a Redis as third argument where it takes one. Its allow(user_id) answers True or False; it may be
    async. cost, take, wait, peek and retry_after are used where they exist.

    \b
      headgate grade limiter.py:SlidingWindow --limit 5 --window 1
      headgate grade --http 'http://127.0.0.1:8000/ping?user_id={key}' --limit 10 --window 60
    """
    what = _target(target, url, limit, window)
    wanted = _wanted(only, strict=strict)
    settings = Settings(limit or 5, window or 1.0, deadline, python, memory, server=server, save=save)
    _writable(json_to, html_to, junit_to)
    if save is not None:
        save.mkdir(parents=True, exist_ok=True)
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    console = Console()
    with _progress(len(wanted)) as told:
        try:
            report = grade(what, settings, wanted, told)
        except CouldNotRun as why:
            _stop(str(why))
        except KeyboardInterrupt:
            _stop("stopped before the end")
    terminal.render(report, console)
    for path, text in ((json_to, data.text), (html_to, html.page), (junit_to, junit.text)):
        if path is not None:
            path.write_text(text(report), encoding="utf-8")
            console.print(f"written: {escape(str(path))}", highlight=False)
    sys.exit(report.exit_code)


def _target(target: str | None, url: str | None, limit: int | None, window: float | None) -> Target:
    if (target is None) == (url is None):
        _stop("name one target: file.py:Name, package.module:name, or --http URL")
    if url is not None and (limit is None or window is None):
        _stop("a service's limit and window are its own: name them with --limit and --window")
    try:
        return service(url) if url is not None else parse(target or "")
    except InvalidTarget as why:
        _stop(str(why))


def _wanted(only: tuple[str, ...], *, strict: bool) -> list[Case]:
    for name in only:
        if not choose([name], strict=True):
            _stop(f"--case must be the id of a case, or its beginning; there is no {name!r}. See: headgate cases")
    return choose(only, strict=strict)


def _writable(*paths: Path | None) -> None:
    # Before the minutes of work whose result they are for.
    for path in paths:
        if path is not None and not path.parent.is_dir():
            _stop(f"{path} cannot be written: there is no folder {path.parent}")


def _stop(why: str) -> NoReturn:
    lines = "\n".join(plain(line) for line in why.splitlines())
    click.echo(f"headgate: {lines}", err=True)
    sys.exit(COULD_NOT_RUN)


@contextmanager
def _progress(total: int) -> Iterator[Told]:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("grading", total=total)
        failed = 0

        def told(result: Result) -> None:
            nonlocal failed
            failed += result.finding.verdict is Verdict.FAILED
            progress.update(task, advance=1, description=f"grading, {failed} failed" if failed else "grading")

        yield told


@main.command("judge")
@click.argument("history", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--limit", type=click.IntRange(1), help="N, in place of the file's.")
@click.option("--window", type=click.FloatRange(0, min_open=True), help="T in seconds, in place of the file's.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def judge_command(history: Path, limit: int | None, window: float | None, as_json: bool) -> None:
    """Judge recorded answers again: whether more than N were allowed in any T seconds, and whether a denial had room.

    HISTORY is a file that `headgate grade --save` wrote, or one of your own: a line of JSON for each answer, in the
    format that docs/reference/history.md describes.
    """
    try:
        recorded = History.load(history)
    except (InvalidHistory, OSError) as why:
        _stop(f"{history} is no history: {why}")
    held_to = replace(recorded, limit=limit or recorded.limit, window=window or recorded.window)
    judgement = judge(held_to)
    if as_json:
        named = judgement._asdict().items()
        found = {name: {"verdict": finding.verdict, "says": finding.says} for name, finding in named}
        click.echo(json.dumps({"limit": held_to.limit, "window": held_to.window, **found}, indent=2))
    else:
        click.echo(f"{len(held_to.records)} answers, held to {held_to.limit} in any {held_to.window:g} s")
        for name, finding in judgement._asdict().items():
            click.echo(f"{finding.verdict:<10} {name.replace('_', ' ')}: {plain(finding.says)}")
    sys.exit({Verdict.FAILED: 1, Verdict.UNDECIDED: 3}.get(judgement.worst.verdict, 0))


@main.command("cases")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def cases_command(as_json: bool) -> None:
    """List the cases, without running them."""
    if as_json:
        click.echo(json.dumps([data.case_data(each) for each in cases()], indent=2))
        return
    for each in cases():
        click.echo(f"{each.id:<34} {'SHOULD' if each.should else 'MUST  '}  {each.sentence}")
