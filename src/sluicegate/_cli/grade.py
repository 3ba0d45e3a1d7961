"""``sluicegate grade``: grade a limiter, print the report and write it to files."""

from __future__ import annotations

import difflib
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NoReturn, TextIO

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Column

from sluicegate._cli.command import HELP_OPTIONS, Command, Seconds, echo, stop
from sluicegate.proof.case import Case
from sluicegate.proof.environment import GradeSettings
from sluicegate.proof.grading import CouldNotRun, OnResult, OnStart, choose, grade
from sluicegate.proof.limiters import limiters
from sluicegate.proof.report import CaseResult, Report, data, html, junit, terminal
from sluicegate.proof.target import InvalidTarget, Target, parse, service
from sluicegate.proof.text import counted, plain
from sluicegate.proof.verdict import CaseVerdict

_SUGGESTED = 4
_NOT_A_SANDBOX = (
    "The target's code runs on this machine, as you. Its time and memory are bounded, but this is not a sandbox: grade "
    "code that you do not trust on a machine that you can throw away."
)


@click.command("grade", cls=Command, context_settings=HELP_OPTIONS, epilog=_NOT_A_SANDBOX)
@click.argument("target", required=False)
@click.option("--http", "url", metavar="URL", help="Grade a service: its URL, with {key} for the key.")
@click.option("--method", metavar="NAME", help="Its method.  [default: GET, or POST with --body]")
@click.option("--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="Send a header. May be repeated.")
@click.option("--body", metavar="TEXT", help="Send a body: JSON, unless a header Content-Type says otherwise.")
@click.option("--serve", metavar="COMMAND", default="", help="Start the service: a command with {port}, {redis} ...")
@click.option("--limit", type=click.IntRange(1, 10_000), help="N: units per window.  [default: 5; needed with --http]")
@click.option("--window", type=Seconds(0.05, 3600), help="T: seconds.  [default: 1; needed with --http]")
@click.option("--case", "only", multiple=True, metavar="ID", help="Only this case, or this section. May be repeated.")
@click.option("--strict", is_flag=True, help="Run the recommendations (SHOULD), too.")
@click.option("--questions", is_flag=True, help="Add questions for an interview to what is printed and to the page.")
@click.option("-v", "--verbose", is_flag=True, help="Print the cases that passed, too.")
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
    method: str | None,
    headers: tuple[str, ...],
    body: str | None,
    serve: str,
    limit: int | None,
    window: float | None,
    only: tuple[str, ...],
    strict: bool,
    questions: bool,
    verbose: bool,
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
    take, wait, peek and retry_after are used if they exist. file.py alone is enough if it has one limiter.

    A service is called over HTTP, with {key} in its URL, a header or the body. The command of --serve starts it, in
    place of {port}, {redis}, {limit}, {window} and {instance}.

    \b
      sluicegate grade limiter.py:SlidingWindow --limit 5 --window 1
      sluicegate grade --http 'http://127.0.0.1:8000/ping?user_id={key}' --limit 10 --window 60
      sluicegate grade --http 'http://127.0.0.1:{port}/ping' --header 'X-User: {key}' \\
          --serve 'REDIS_URL={redis} RATE={limit} WINDOW={window} ./app --port {port}'

    Exit codes: 0 passed, 1 failed, 2 could not run, 3 undecided, or nothing could be tried.
    """  # noqa: D301 - the mark of click for lines to keep
    if url is None:
        if serve or headers or method is not None or body is not None:
            stop("--method, --header, --body and --serve need --http, the URL of the service")
        chosen_target = _code(target)
    else:
        if target is not None:
            _stop_without_target()
        chosen_target = _service(url, method, headers, body, serve)
        if not chosen_target.takes_limit and (limit is None or window is None):
            stop("--http needs --limit and --window, the limit and the window that the service has")
    wanted = _wanted(only, strict=strict)
    settings = GradeSettings(limit or 5, window or 1.0, deadline, python, memory, server=server, save=save)
    _make_folder(save)
    forms: list[tuple[Path | None, Callable[[Report], str]]]
    forms = [(json_to, data.text), (html_to, html.page), (junit_to, junit.text)]
    files = [(_opened(path), text) for path, text in forms if path is not None]
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    console = Console()
    _stop_on_signals()
    with _progress(len(wanted)) as (on_result, on_start):
        try:
            report = grade(chosen_target, settings, wanted, on_result, on_start)
        except CouldNotRun as why:
            stop(str(why))
    report = replace(_with_relative_path(report), questions=questions)
    # Printed at the end, in one piece: the files are written even if nobody reads the output any more.
    with console.capture() as printed:
        terminal.render(report, console, verbose=verbose)
        if left_out := len(choose(only, strict=True)) - len(wanted):
            console.print(f"{counted(left_out, 'recommendation')} not run: --strict", highlight=False)
        for file, text in files:
            with file:
                file.write(text(report))
            console.print(f"written: {escape(plain(file.name))}", highlight=False)
    echo(printed.get().removesuffix("\n"), color=True)
    sys.exit(report.exit_code)


def _stop_without_target() -> NoReturn:
    stop("name one target: file.py:Name, package.module:name, or --http URL")


def _code(text: str | None) -> Target:
    if text is None:
        _stop_without_target()
    try:
        return parse(_named(Path(text)) if text.endswith(".py") and Path(text).is_file() else text)
    except InvalidTarget as why:
        stop(str(why))


def _named(path: Path) -> str:
    """Return the target for the only limiter in a file. If there is another number of them, stop and list them."""
    try:
        names = limiters(path)
    except (OSError, SyntaxError, ValueError) as why:
        stop(f"{path} cannot be read: {type(why).__name__}: {why}")
    if not names:
        stop(
            f"{path} has no class with allow(user_id) that is called as Name(limit, window_seconds), and no function "
            f"that returns one: name the target, as {path}:Name"
        )
    if len(names) > 1:
        commands = "".join(f"\n  sluicegate grade {path}:{name}" for name in names)
        stop(f"{path} has {len(names)} limiters; name one of them:{commands}")
    click.echo(f"grading {plain(str(path))}:{names[0]}, the only limiter in the file", err=True)
    return f"{path}:{names[0]}"


def _service(url: str, method: str | None, headers: tuple[str, ...], body: str | None, serve: str) -> Target:
    try:
        return service(url, method=method, headers=headers, body=body, serve=serve)
    except InvalidTarget as why:
        stop(str(why))


def _wanted(only: tuple[str, ...], *, strict: bool) -> list[Case]:
    for name in only:
        if not choose([name], strict=True):
            meant = " or ".join(_similar(name))
            stop(
                f"--case must be the id of a case or its beginning, got {name!r}"
                f"{f': did you mean {meant}?' if meant else ';'} sluicegate cases lists them"
            )
    return choose(only, strict=strict)


def _similar(name: str) -> list[str]:
    """Return the ids, topics and sections that were probably meant: those with the same last word, or a similar one."""
    last = {known: known.rpartition("/")[2] for known in sorted(_names(), key=lambda known: known.count("/"))}
    wanted = name.strip("/").lower()
    exact = [known for known, word in last.items() if word == wanted.rpartition("/")[2]]
    if exact:
        return exact[:_SUGGESTED]
    words = set(difflib.get_close_matches(wanted.rpartition("/")[2], set(last.values())))
    return (
        difflib.get_close_matches(wanted, last, _SUGGESTED)
        or [known for known, word in last.items() if word in words][:_SUGGESTED]
    )


def _names() -> set[str]:
    parts = [case.id.split("/") for case in choose(strict=True)]
    return {"/".join(each[:depth]) for each in parts for depth in (1, 2, 3)}


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
def _progress(total: int) -> Iterator[tuple[OnResult, OnStart]]:
    """Show a line on a terminal, while the cases run: how many are done, how many failed, and which runs now."""
    console = Console(stderr=True)
    columns = (
        SpinnerColumn(),
        MofNCompleteColumn(),
        BarColumn(bar_width=20),
        TimeElapsedColumn(),
        TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis")),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task, failed, now = progress.add_task("looking at the target", total=total), 0, ""

        def show(advance: int = 0) -> None:
            failures = f"[red]{failed} failed[/red]  " if failed else ""
            progress.update(task, advance=advance, description=f"{failures}{now}", refresh=True)

        def on_result(result: CaseResult) -> None:
            nonlocal failed
            failed += result.finding.verdict is CaseVerdict.FAILED
            show(1)

        def on_start(case: Case) -> None:
            nonlocal now
            now = case.id
            show()

        yield on_result, on_start
