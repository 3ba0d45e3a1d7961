"""``sluicegate routes``: list the routes of a FastAPI app, and the limits that are in force on each."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from typing import NoReturn

from sluicegate._cli.apps import APP_HELP, complain, limited, write
from sluicegate.web.fastapi import LimitInForce, RouteLimits

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
    _, app, limits = limited(given.app)
    rows = limits.routes(app)
    write(json.dumps([_data(row) for row in rows], indent=2) if given.as_json else _table(rows))
    lacking = [f"{','.join(row.methods)} {row.path}" for row in rows if row.lacks_limit]
    if given.strict and lacking:
        complain(f"no limit is in force on {', '.join(lacking)}: give each one, or put @limits.exempt below its line")
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
        help=APP_HELP,
    )
    parser.add_argument("--json", dest="as_json", action="store_true", help="Print JSON.")
    parser.add_argument("--strict", action="store_true", help="Exit with 1 if a route has no limit and is not exempt.")
    return parser


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
