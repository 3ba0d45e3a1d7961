"""The top level of the command ``sluicegate``: find the subcommand, import its file, and run it.

Only the standard library is imported here, so that the command works without any extra: a subcommand that needs one
says which. Every subcommand exits with 2 if it could not run. Those of the proof kit exit with 0 if every case passed,
1 if one failed, and 3 if none failed but some stayed undecided or none could be tried.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple, NoReturn

from sluicegate import __version__

COULD_NOT_RUN = 2


class Subcommand(NamedTuple):
    """A subcommand: what it does, in one line, and the extra that it needs."""

    summary: str
    extra: str


SUBCOMMANDS = {
    "bans": Subcommand("List the keys that an app has banned, and free one.", "fastapi"),
    "cases": Subcommand("List the cases, without running them.", "proof"),
    "grade": Subcommand("Grade a rate limiter, case by case, with the evidence.", "proof"),
    "judge": Subcommand("Judge recorded answers again.", "proof"),
    "routes": Subcommand("List the routes of a FastAPI app, with their limits.", "fastapi"),
}
"""The subcommands by name. Each is the function ``main`` in the file of that name beside this one."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command and exit.

    Args:
        arguments: The arguments of the command; those of this process by default.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    # The first argument that is not an option names the subcommand; the subcommand reads everything after it.
    at = next((number for number, each in enumerate(given) if not each.startswith("-")), len(given))
    parser = _parser()
    parser.parse_args(given[:at])
    if at == len(given):
        parser.print_help(sys.stderr)
        sys.exit(COULD_NOT_RUN)
    name = given[at]
    if name not in SUBCOMMANDS:
        parser.error(f"command must be one of {', '.join(SUBCOMMANDS)}, got {name!r}")
    _load(name)(given[at + 1 :], prog_name=f"{parser.prog} {name}")


def _parser() -> argparse.ArgumentParser:
    summaries = [f"  {name:<9}  {each.summary}" for name, each in SUBCOMMANDS.items()]
    parser = argparse.ArgumentParser(
        prog="sluicegate",
        usage="%(prog)s [OPTIONS] COMMAND [ARGS]...",
        description="Sluicegate: an exact rate limiter, and a proof kit that grades any limiter.",
        epilog="\n".join(["commands:", *summaries, "", "Each command has its own --help."]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
        allow_abbrev=False,
    )
    version = f"%(prog)s, version {__version__}"
    parser.add_argument("--version", action="version", version=version, help="Show the version and exit.")
    parser.add_argument("-h", "--help", action="help", help="Show this message and exit.")
    return parser


def _load(name: str) -> Callable[..., NoReturn]:
    """Import the file of a subcommand; exit with one line that names the extra if a package of it is missing."""
    try:
        module = importlib.import_module(f"sluicegate._cli.{name}")
    except ImportError as error:
        if (error.name or "").partition(".")[0] in {"", "sluicegate"}:
            raise
        extra = SUBCOMMANDS[name].extra
        print(  # noqa: T201 - click may be the package that is missing
            f"sluicegate: the command {name} needs more packages: pip install 'sluicegate[{extra}]' ({error})",
            file=sys.stderr,
        )
        sys.exit(COULD_NOT_RUN)
    run: Callable[..., NoReturn] = module.main
    return run
