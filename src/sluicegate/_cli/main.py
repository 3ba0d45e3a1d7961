"""The command ``sluicegate``: each subcommand reads its options, calls the package and prints the result.

Exit codes: 0 every case passed, 1 one failed, 2 it could not run, 3 none failed but some stayed undecided, or none
could be tried.
"""

from __future__ import annotations

import json
import math
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn, TextIO

try:
    import click
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
except ImportError as error:  # pragma: no cover - seen by the test of the bare package
    raise SystemExit(f"the command sluicegate needs more packages: pip install 'sluicegate[proof]' ({error})") from None

from sluicegate import __version__
from sluicegate.proof.case import Case
from sluicegate.proof.cases import cases
from sluicegate.proof.environment import GradeSettings
from sluicegate.proof.grading import CouldNotRun, OnResult, choose, grade
from sluicegate.proof.history import History, InvalidHistory
from sluicegate.proof.judge import judge
from sluicegate.proof.report import CaseResult, Report, data, html, junit, terminal
from sluicegate.proof.target import InvalidTarget, Target, parse, service
from sluicegate.proof.text import counted, plain
from sluicegate.proof.verdict import CaseVerdict

COULD_NOT_RUN = 2

_NOT_A_SANDBOX = (
    "The target's code runs on this machine, as you. Its time and memory are bounded, but this is not a sandbox: grade "
    "code that you do not trust on a machine that you can throw away."
)


class _Group(click.Group):
    """Reports any error in one line and exits with 2, for 1 means that a limiter failed."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except KeyboardInterrupt:
            _stop("stopped before the end")
        except Exception as why:  # noqa: BLE001 - at the edge
            _stop(f"{type(why).__name__}: {why}")


class _Seconds(click.FloatRange):
    """A span of time. ``nan`` lies in every range, and is rejected."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the number."""
        seconds = super().convert(value, param, ctx)
        if not math.isfinite(seconds):
            self.fail(f"{value} is not a finite number of seconds.", param, ctx)
        return seconds


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sluicegate")
def main() -> None:
    """Sluicegate: an exact rate limiter, and a proof kit that grades any limiter."""


@main.command("grade", epilog=_NOT_A_SANDBOX)
@click.argument("target", required=False)
@click.option("--http", "url", metavar="URL", help="Grade a running service: its URL, with {key} for the key.")
@click.option("--limit", type=click.IntRange(1, 10_000), help="N: units per window.  [default: 5; needed with --http]")
@click.option("--window", type=_Seconds(0.05, 3600), help="T: seconds.  [default: 1; needed with --http]")
@click.option("--case", "only", multiple=True, metavar="ID", help="Only this case, or this section. May be repeated.")
@click.option("--strict", is_flag=True, help="Run the recommendations (SHOULD), too.")
@click.option("--questions", is_flag=True, help="Add questions for an interview to what is printed and to the page.")
@click.option("--json", "json_to", type=click.Path(dir_okay=False, path_type=Path), help="Write the report as JSON.")
@click.option("--html", "html_to", type=click.Path(dir_okay=False, path_type=Path), help="Write it as one HTML page.")
@click.option("--junit", "junit_to", type=click.Path(dir_okay=False, path_type=Path), help="Write it as JUnit XML.")
@click.option("--save", type=click.Path(file_okay=False, path_type=Path), help="Keep the recorded answers in a folder.")
@click.option(
    "--deadline",
    type=_Seconds(0.01, 60),
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
    help="MiB that a process of the target may use.",
)
def grade_command(  # noqa: PLR0917 - click passes each by its name
    target: str | None,
    url: str | None,
    limit: int | None,
    window: float | None,
    only: tuple[str, ...],
    strict: bool,
    questions: bool,
    json_to: Path | None,
    html_to: Path | None,
    junit_to: Path | None,
    save: Path | None,
    deadline: float,
    server: str | None,
    python: str,
    memory: int,
) -> None:
    """Grade a rate limiter, case by case, with the evidence.

    TARGET is file.py:Name or package.module:name, a class or factory that is called as Name(limit, window_seconds),
    with a Redis URL as third argument if it takes one. Its allow(user_id) returns True or False; it may be async. cost,
    take, wait, peek and retry_after are used if they exist.

    \b
      sluicegate grade limiter.py:SlidingWindow --limit 5 --window 1
      sluicegate grade --http 'http://127.0.0.1:8000/ping?user_id={key}' --limit 10 --window 60

    Exit codes: 0 passed, 1 failed, 2 could not run, 3 undecided, or nothing could be tried.
    """  # noqa: D301 - the mark of click for lines to keep
    chosen_target = _target(target, url, limit, window)
    wanted = _wanted(only, strict=strict)
    settings = GradeSettings(limit or 5, window or 1.0, deadline, python, memory, server=server, save=save)
    _make_folder(save)
    forms: list[tuple[Path | None, Callable[[Report], str]]]
    forms = [(json_to, data.text), (html_to, html.page), (junit_to, junit.text)]
    files = [(_opened(path), text) for path, text in forms if path is not None]
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    console = Console()
    _stop_on_signals()
    with _progress(len(wanted)) as on_result:
        try:
            report = grade(chosen_target, settings, wanted, on_result)
        except CouldNotRun as why:
            _stop(str(why))
    report = replace(_with_relative_path(report), questions=questions)
    terminal.render(report, console)
    if left_out := len(choose(only, strict=True)) - len(wanted):
        console.print(f"{counted(left_out, 'recommendation')} not run: --strict", highlight=False)
    for file, text in files:
        with file:
            file.write(text(report))
        console.print(f"written: {escape(plain(file.name))}", highlight=False)
    sys.exit(report.exit_code)


def _target(target: str | None, url: str | None, limit: int | None, window: float | None) -> Target:
    if (target is None) == (url is None):
        _stop("name one target: file.py:Name, package.module:name, or --http URL")
    if url is not None and (limit is None or window is None):
        _stop("--http needs --limit and --window, the limit and the window that the service has")
    try:
        return service(url) if url is not None else parse(target or "")
    except InvalidTarget as why:
        _stop(str(why))


def _wanted(only: tuple[str, ...], *, strict: bool) -> list[Case]:
    for name in only:
        if not choose([name], strict=True):
            _stop(f"--case must be the id of a case or its beginning, got {name!r}; sluicegate cases lists them")
    return choose(only, strict=strict)


# Files are opened and folders made before the minutes of grading, so that a wrong path fails at once.
def _opened(path: Path) -> TextIO:
    try:
        return path.open("w", encoding="utf-8")
    except OSError as why:
        _stop(f"{path} cannot be written: {why.strerror}")


def _make_folder(path: Path | None) -> None:
    try:
        if path is not None:
            path.mkdir(parents=True, exist_ok=True)
    except OSError as why:
        _stop(f"{path} is not a folder that can be written: {why.strerror}")


def _stop_on_signals() -> None:
    """Make the signals that end a process act as Ctrl-C does, so that servers and workers are ended as well."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores SIGHUP: keep that
            signal.signal(number, signal.default_int_handler)


def _with_relative_path(report: Report) -> Report:
    facts, here = report.facts, Path.cwd()
    if facts is None or not Path(facts.path).is_relative_to(here):
        return report
    return replace(report, facts=replace(facts, path=str(Path(facts.path).relative_to(here))))


def _stop(why: str) -> NoReturn:
    lines = "\n".join(plain(line) for line in why.splitlines())
    click.echo(f"sluicegate: {lines}", err=True)
    sys.exit(COULD_NOT_RUN)


@contextmanager
def _progress(total: int) -> Iterator[OnResult]:
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

        def on_result(result: CaseResult) -> None:
            nonlocal failed
            failed += result.finding.verdict is CaseVerdict.FAILED
            progress.update(task, advance=1, description=f"grading, {failed} failed" if failed else "grading")

        yield on_result


@main.command("judge")
@click.argument("history", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
@click.option("--limit", type=click.IntRange(1), help="N, in place of the file's.")
@click.option("--window", type=_Seconds(0, min_open=True), help="T in seconds, in place of the file's.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def judge_command(history: Path, limit: int | None, window: float | None, as_json: bool) -> None:
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
        _stop(f"{'standard input' if piped else history} is not a valid history: {why}")
    judged = replace(recorded, limit=limit or recorded.limit, window=window or recorded.window)
    judgement = judge(judged)
    if as_json:
        findings = judgement._asdict().items()
        found = {name: {"verdict": finding.verdict, "says": finding.says} for name, finding in findings}
        click.echo(json.dumps({"limit": judged.limit, "window": judged.window, **found}, indent=2))
    else:
        click.echo(f"{len(judged.records)} answers, held to {judged.limit} in any {judged.window:g} s")
        for name, finding in judgement._asdict().items():
            click.echo(f"{finding.verdict:<10} {name.replace('_', ' ')}: {plain(finding.says)}")
    sys.exit({CaseVerdict.FAILED: 1, CaseVerdict.UNDECIDED: 3}.get(judgement.worst.verdict, 0))


@main.command("cases")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def cases_command(as_json: bool) -> None:
    """List the cases, without running them."""
    if as_json:
        click.echo(json.dumps([data.case_data(each) for each in cases()], indent=2))
        return
    for each in cases():
        click.echo(f"{each.id:<34} {'SHOULD' if each.should else 'MUST  '}  {each.sentence}")
