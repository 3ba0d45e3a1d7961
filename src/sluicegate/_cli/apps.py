"""From the name of an app on the command line to the app and its limits; and what such commands print."""

from __future__ import annotations

import importlib
import os
import sys
import tomllib
import traceback
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from sluicegate._cli.main import COULD_NOT_RUN
from sluicegate.web.fastapi import RateLimits, rate_limits_of

APP_HELP = "The app, such as app.main:app. By default what pyproject.toml names as entrypoint under [tool.fastapi]."


class Limited(NamedTuple):
    """An app with its limits, and how it was named."""

    name: str
    app: Any
    limits: RateLimits


def limited(name: str | None) -> Limited:
    """Import an app, that of pyproject.toml by default, and find its limits. Exits if there are none."""
    name = name or _entrypoint()
    app = _imported(name)
    try:
        limits = rate_limits_of(app)
        if limits is not None:
            limits.routes(app)  # it says what is wrong with them
    except ValueError as error:  # InvalidPolicy and its like
        stop(f"the limits of {name} are invalid: {error}")
    if limits is None:
        stop(
            f"{name} has no RateLimits: its lifespan, its middleware and the dependencies of its routes belong to none"
        )
    return Limited(name, app, limits)


def _entrypoint() -> str:
    """Return the app that pyproject.toml names."""
    expected = 'name the app, as in app.main:app, or write entrypoint = "app.main:app" under [tool.fastapi] in it'
    try:
        project = tomllib.loads(Path("pyproject.toml").read_text("utf-8"))
    except FileNotFoundError:
        stop("there is no pyproject.toml here: name the app, as in app.main:app")
    except (OSError, ValueError) as error:
        stop(f"pyproject.toml cannot be read: {error}")
    name: Any = project
    for part in ("tool", "fastapi", "entrypoint"):
        name = name.get(part) if isinstance(name, dict) else None
    if not isinstance(name, str):
        stop(f"pyproject.toml names no app: {expected}")
    return name


def _imported(name: str) -> Any:
    module, colon, attributes = name.partition(":")
    if not (module and colon and attributes):
        stop(f"the app must be named as in app.main:app, got {name!r}")
    sys.path.insert(0, str(Path.cwd()))
    try:
        with redirect_stdout(sys.stderr):  # what the app prints is not part of the list
            found: Any = importlib.import_module(module)
    except SystemExit as stopped:
        stop(f"{module} ended the program with {stopped.code!r} while it was imported")
    except Exception as error:  # noqa: BLE001 - the app may raise anything
        stop(f"{module} cannot be imported: {type(error).__name__}: {error}{_where(error)}")
    for attribute in attributes.split("."):
        try:
            found = getattr(found, attribute)
        except AttributeError:
            stop(f"{module} has no {attributes}")
    if not hasattr(found, "routes"):
        stop(f"{name} must be a FastAPI or Starlette app, got one of type {type(found).__name__}")
    return found


def _where(error: Exception) -> str:
    """Return the line of the app's that raised an error, if it was one of its own."""
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if Path.cwd() in Path(frame.filename).parents
    ]
    return f" ({Path(frames[-1].filename).relative_to(Path.cwd())}, line {frames[-1].lineno})" if frames else ""


def write(text: str) -> None:
    """Print text. When the reader has closed the pipe, as ``head`` does, discard the text and what follows."""
    try:
        print(text, flush=True)  # noqa: T201 - click belongs to another extra
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def complain(why: str) -> None:
    """Say on the standard error what is wrong."""
    print(f"sluicegate: {why}", file=sys.stderr)  # noqa: T201


def stop(why: str) -> NoReturn:
    """Exit with the code of a command that could not run, and say why."""
    complain(why)
    sys.exit(COULD_NOT_RUN)
