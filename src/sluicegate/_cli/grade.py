"""``sluicegate grade``: grade a limiter, print the report and write it to files."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TextIO

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from sluicegate._cli.command import HELP_OPTIONS, Command, Seconds, echo, stop
from sluicegate.proof.case import Case
from sluicegate.proof.environment import GradeSettings
from sluicegate.proof.grading import CouldNotRun, OnResult, choose, grade
from sluicegate.proof.report import CaseResult, Report, data, html, junit, terminal
from sluicegate.proof.target import InvalidTarget, Target, parse, service
from sluicegate.proof.text import counted, plain
from sluicegate.proof.verdict import CaseVerdict

_NOT_A_SANDBOX = (
    "The target's code runs on this machine, as you. Its time and memory are bounded, but this is not a sandbox: grade "
    "code that you do not trust on a machine that you can throw away."
)


@click.command("grade", cls=Command, context_settings=HELP_OPTIONS, epilog=_NOT_A_SANDBOX)
@click.argument("target", required=False)
@click.option("--http", "url", metavar="URL", help="Grade a running service: its URL, with {key} for the key.")
@click.option("--limit", type=click.IntRange(1, 10_000), help="N: units per window.  [default: 5; needed with --http]")
@click.option("--window", type=Seconds(0.05, 3600), help="T: seconds.  [default: 1; needed with --http]")
@click.option("--case", "only", multiple=True, metavar="ID", help="Only this case, or this section. May be repeated.")
@click.option("--strict", is_flag=True, help="Run the recommendations (SHOULD), too.")
@click.option("--questions", is_flag=True, help="Add questions for an interview to what is printed and to the page.")
@click.option("--json", "json_to", type=click.Path(dir_okay=False, path_type=Path), help="Write the report as JSON.")
@click.option("--html", "html_to", type=click.Path(dir_okay=False, path_type=Path), help="Write it as one HTML page.")
@click.option("--junit", "junit_to", type=click.Path(dir_okay=False, path_type=Path), help="Write it as JUnit XML.")
@click.option("--save", type=click.Path(file_okay=False, path_type=Path), help="Keep the recorded answers in a folder.")
@click.option(
    "--deadline",
    type=Seconds(0.01, 60),
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
def main(
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
            stop(str(why))
    report = replace(_with_relative_path(report), questions=questions)
    # Printed at the end, in one piece: the files are written even if nobody reads the output any more.
    with console.capture() as printed:
        terminal.render(report, console)
        if left_out := len(choose(only, strict=True)) - len(wanted):
            console.print(f"{counted(left_out, 'recommendation')} not run: --strict", highlight=False)
        for file, text in files:
            with file:
                file.write(text(report))
            console.print(f"written: {escape(plain(file.name))}", highlight=False)
    echo(printed.get().removesuffix("\n"), color=True)
    sys.exit(report.exit_code)


def _target(target: str | None, url: str | None, limit: int | None, window: float | None) -> Target:
    if (target is None) == (url is None):
        stop("name one target: file.py:Name, package.module:name, or --http URL")
    if url is not None and (limit is None or window is None):
        stop("--http needs --limit and --window, the limit and the window that the service has")
    try:
        return service(url) if url is not None else parse(target or "")
    except InvalidTarget as why:
        stop(str(why))


def _wanted(only: tuple[str, ...], *, strict: bool) -> list[Case]:
    for name in only:
        if not choose([name], strict=True):
            stop(f"--case must be the id of a case or its beginning, got {name!r}; sluicegate cases lists them")
    return choose(only, strict=strict)


# Files are opened and folders made before the minutes of grading, so that a wrong path fails at once.
def _opened(path: Path) -> TextIO:
    try:
        return path.open("w", encoding="utf-8")
    except OSError as why:
        stop(f"{path} cannot be written: {why.strerror}")


def _make_folder(path: Path | None) -> None:
    try:
        if path is not None:
            path.mkdir(parents=True, exist_ok=True)
    except OSError as why:
        stop(f"{path} is not a folder that can be written: {why.strerror}")


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
