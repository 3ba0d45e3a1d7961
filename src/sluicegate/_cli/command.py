"""What the subcommands of the proof kit share: how they report errors, a type for seconds, and output to a pipe."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import click

from sluicegate._cli.main import COULD_NOT_RUN
from sluicegate.proof.text import plain

HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}


class Command(click.Command):
    """A command that reports any error in one line and exits with 2, for 1 means that a limiter failed."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Parse the arguments."""
        with _errors_in_one_line():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with _errors_in_one_line():
            return super().invoke(ctx)


class Seconds(click.FloatRange):
    """A span of time. ``nan`` lies in every range, and is rejected."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse the number."""
        seconds = super().convert(value, param, ctx)
        if not math.isfinite(seconds):
            self.fail(f"{value} is not a finite number of seconds.", param, ctx)
        return seconds


def stop(why: str) -> NoReturn:
    """Exit with the code of a command that could not run, and say why."""
    lines = "\n".join(plain(line) for line in why.splitlines())
    click.echo(f"sluicegate: {lines}", err=True)
    sys.exit(COULD_NOT_RUN)


def echo(text: str, *, color: bool | None = None) -> None:
    """Print text; with ``color`` its colours stay in.

    When the reader has closed the pipe, as ``head`` does, discard the text and everything that follows.
    """
    try:
        click.echo(text, color=color)
    except BrokenPipeError:
        # What is still buffered goes there as well, or the interpreter would complain about it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _errors_in_one_line() -> Iterator[None]:
    try:
        yield
    except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
        raise
    except KeyboardInterrupt:
        stop("stopped before the end")
    except Exception as error:  # noqa: BLE001 - the outermost place
        stop(f"{type(error).__name__}: {error}")
