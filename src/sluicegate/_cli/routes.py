"""``sluicegate routes``: list the routes of a FastAPI app, and the limits that are in force on each."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import tomllib
import traceback
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NoReturn

from sluicegate._cli.main import COULD_NOT_RUN
from sluicegate.web.fastapi import LimitInForce, RouteLimits, rate_limits_of

LACKS_A_LIMIT = 1

_HEADINGS = ("METHODS", "PATH", "LIMIT", "ALLOWS", "COUNTS BY", "PUT ON")
_Line = tuple[str, str, str, str, str, str]


def main(arguments: Sequence[str], prog_name: str) -> NoReturn:
    """Run the command and exit.

    Args:
        arguments: The arguments of the command.
        prog_name: What the command is called.
    """
    given = _parser(prog_name).parse_args(arguments)
    name = given.app or _entrypoint()
    rows = _rows(name)
    _print(json.dumps([_data(row) for row in rows], indent=2) if given.as_json else _table(rows))
    lacking = [f"{','.join(row.methods)} {row.path}" for row in rows if row.lacks_limit]
    if given.strict and lacking:
        _complain(f"no limit is in force on {', '.join(lacking)}: give each one, or put @limits.exempt below its line")
        sys.exit(LACKS_A_LIMIT)
    sys.exit(0)


def _parser(prog_name: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog_name,
        description="List the routes of a FastAPI app, with the limits that are in force on each. The app is imported, "
        "and not started.",
        epilog="Exit codes: 0 listed, 1 a route lacks a limit (with --strict), 2 could not run.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "app",
        nargs="?",
        metavar="MODULE:NAME",
        help="The app, such as app.main:app. By default what pyproject.toml names as entrypoint under [tool.fastapi].",
    )
    parser.add_argument("--json", dest="as_json", action="store_true", help="Print JSON.")
    parser.add_argument("--strict", action="store_true", help="Exit with 1 if a route has no limit and is not exempt.")
    return parser


# From a name to the rows


def _entrypoint() -> str:
    """Return the app that pyproject.toml names."""
    expected = 'name the app, as in app.main:app, or write entrypoint = "app.main:app" under [tool.fastapi] in it'
    try:
        project = tomllib.loads(Path("pyproject.toml").read_text("utf-8"))
    except FileNotFoundError:
        _stop("there is no pyproject.toml here: name the app, as in app.main:app")
    except (OSError, ValueError) as error:
        _stop(f"pyproject.toml cannot be read: {error}")
    name: Any = project
    for part in ("tool", "fastapi", "entrypoint"):
        name = name.get(part) if isinstance(name, dict) else None
    if not isinstance(name, str):
        _stop(f"pyproject.toml names no app: {expected}")
    return name


def _rows(name: str) -> list[RouteLimits]:
    """Return the routes of an app."""
    app = _imported(name)
    try:
        limits = rate_limits_of(app)
        rows = [] if limits is None else limits.routes(app)
    except ValueError as error:  # InvalidPolicy and its like
        _stop(f"the limits of {name} are invalid: {error}")
    if limits is None:
        _stop(
            f"{name} has no RateLimits: its lifespan, its middleware and the dependencies of its routes belong to none"
        )
    return rows


def _imported(name: str) -> Any:
    module, colon, attributes = name.partition(":")
    if not (module and colon and attributes):
        _stop(f"the app must be named as in app.main:app, got {name!r}")
    sys.path.insert(0, str(Path.cwd()))
    try:
        with redirect_stdout(sys.stderr):  # what the app prints is not part of the list
            found: Any = importlib.import_module(module)
    except SystemExit as stopped:
        _stop(f"{module} ended the program with {stopped.code!r} while it was imported")
    except Exception as error:  # noqa: BLE001 - the app may raise anything
        _stop(f"{module} cannot be imported: {type(error).__name__}: {error}{_where(error)}")
    for attribute in attributes.split("."):
        try:
            found = getattr(found, attribute)
        except AttributeError:
            _stop(f"{module} has no {attributes}")
    if not hasattr(found, "routes"):
        _stop(f"{name} must be a FastAPI or Starlette app, got one of type {type(found).__name__}")
    return found


def _where(error: Exception) -> str:
    """Return the line of the app's that raised an error, if it was one of its own."""
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if Path.cwd() in Path(frame.filename).parents
    ]
    return f" ({Path(frames[-1].filename).relative_to(Path.cwd())}, line {frames[-1].lineno})" if frames else ""


# The table


def _table(rows: list[RouteLimits]) -> str:
    lines = [_HEADINGS, *(line for row in rows for line in _lines(row))]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([*text, "", _summary(rows)])


def _lines(row: RouteLimits) -> Iterator[_Line]:
    """Yield the lines of a route: one for each of its policies, or one that says why it has none."""
    head = ",".join(row.methods), row.path
    if not row.limits:
        yield *head, _remark(row), "", "", ""
    for limit in row.limits:
        for name, rate in _policies(limit):
            yield *head, name, rate, limit.per, limit.at
            head = "", ""


def _policies(limit: LimitInForce) -> list[tuple[str, str]]:
    if limit.function is not None:
        return [(limit.name, f"what {limit.function} returns")]
    return [(str(policy.name), rate) for policy, rate in zip(limit.policies, limit.rates, strict=True)]


def _remark(row: RouteLimits) -> str:
    if row.is_exempt:
        return "exempt"
    return "NO LIMIT" if row.lacks_limit else "documentation"


def _summary(rows: list[RouteLimits]) -> str:
    lacking = sum(row.lacks_limit for row in rows)
    own = [row for row in rows if row.limits or not row.is_documentation]
    exempt = sum(row.is_exempt and not row.limits for row in rows)
    return f"{len(own)} routes: {len(own) - lacking - exempt} limited, {exempt} exempt, {lacking} without a limit"


def _data(row: RouteLimits) -> dict[str, object]:
    return {
        "path": row.path,
        "methods": row.methods,
        "limits": [_limit_data(limit) for limit in row.limits],
        "exempt": row.is_exempt,
        "documentation": row.is_documentation,
        "lacks_limit": row.lacks_limit,
    }


def _limit_data(limit: LimitInForce) -> dict[str, object]:
    policies = [
        {
            "name": policy.name,
            "allows": rate,
            "algorithm": policy.algorithm,
            "limit": policy.limit,
            "window": policy.window,
            "burst": policy.burst,
        }
        for policy, rate in zip(limit.policies, limit.rates, strict=True)
    ]
    return {
        "name": limit.name,
        "policies": policies,
        "function": limit.function,
        "per": limit.per,
        "at": limit.at,
    }


# Output


def _print(text: str) -> None:
    """Print text. When the reader has closed the pipe, as ``head`` does, discard the text and what follows."""
    try:
        print(text, flush=True)  # noqa: T201 - click belongs to another extra
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(why: str) -> None:
    print(f"sluicegate: {why}", file=sys.stderr)  # noqa: T201


def _stop(why: str) -> NoReturn:
    """Exit with the code of a command that could not run, and say why."""
    _complain(why)
    sys.exit(COULD_NOT_RUN)
