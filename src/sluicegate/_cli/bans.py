"""``sluicegate bans``: list the keys that an app's limits have banned, and free one."""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, NoReturn

from sluicegate._cli.apps import APP_HELP, Limited, limited, stop, write
from sluicegate._core.errors import InvalidKey, InvalidStore, StoreError
from sluicegate._core.keys import Key
from sluicegate.web.fastapi import Banned

_HEADINGS = ("KEY", "LIMIT", "STILL")


def main(arguments: Sequence[str], prog_name: str) -> NoReturn:
    """Run the command and exit.

    Args:
        arguments: The arguments of the command.
        prog_name: What the command is called.
    """
    given = _parser(prog_name).parse_args(arguments)
    found = limited(given.app)
    if found.limits.counts_in_memory:
        stop(f"the limits of {found.name} count in the memory of each process: their bans are not seen from here")
    try:
        if given.lift is None:
            _list(found, given.limit, as_json=given.as_json)
        else:
            asyncio.run(_lift(found, _key(given.lift), given.limit))
    except (InvalidKey, InvalidStore, StoreError) as error:
        stop(str(error))
    sys.exit(0)


def _parser(prog_name: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog_name,
        description="List the keys that the limits of a FastAPI app have banned, from the store that they count in. "
        "The app is imported, and not started.",
        epilog="Exit codes: 0 done, 2 could not run.",
        allow_abbrev=False,
    )
    parser.add_argument("app", nargs="?", metavar="MODULE:NAME", help=APP_HELP)
    parser.add_argument("--json", dest="as_json", action="store_true", help="Print JSON.")
    parser.add_argument("--limit", metavar="NAME", help="Only what this limit has banned.")
    parser.add_argument(
        "--lift",
        metavar="KEY",
        help="Free a key: forget what was counted of it, and lift its bans and blocks. Attributes are given as JSON, "
        """'{"tenant": "acme", "user": "bob"}'.""",
    )
    return parser


async def _banned(found: Limited, limit: str | None) -> list[Banned]:
    try:
        every = await found.limits.bans(found.app)
    finally:
        await found.limits.aclose()
    return [each for each in every if limit in (None, each.limit)]


def _list(found: Limited, limit: str | None, *, as_json: bool) -> None:
    banned = asyncio.run(_banned(found, limit))
    write(json.dumps([_data(each) for each in banned], indent=2) if as_json else _table(banned))


async def _lift(found: Limited, key: Key, limit: str | None) -> None:
    try:
        await found.limits.forget(key, limit=limit, app=found.app)
    finally:
        await found.limits.aclose()
    write(f"{_shown(key)} is free again{'' if limit is None else f' under {limit}'}")


def _key(text: str) -> Key:
    """Return a key: text, unless it is a JSON object of text."""
    if text.startswith("{"):
        try:
            key = json.loads(text)
        except ValueError:
            return text
        if key and all(isinstance(each, str) for each in key.values()):
            return dict(key)
    return text


def _data(banned: Banned) -> dict[str, Any]:
    return {"key": banned.key, "limit": banned.limit, "seconds": banned.seconds}


def _table(banned: Sequence[Banned]) -> str:
    rows = [(_shown(each.key), each.limit, _left(each)) for each in banned]
    widths = [max(map(len, column)) for column in zip(_HEADINGS, *rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (_HEADINGS, *rows)
    ]
    count = f"{len(banned)} key{'' if len(banned) == 1 else 's'} banned"
    return "\n".join([*lines, "", count] if banned else [count])


def _left(banned: Banned) -> str:
    return "unknown" if banned.seconds is None else str(timedelta(seconds=math.ceil(banned.seconds)))


def _shown(key: str | Mapping[str, str]) -> str:
    """Return a key for a terminal: a client may have chosen it, and control characters would act there."""
    text = key if isinstance(key, str) else json.dumps(dict(key), ensure_ascii=False)
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
