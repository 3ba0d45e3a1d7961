"""Describe the target's values, errors and signatures in short text, however its own methods misbehave."""

import inspect
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

_LONGEST = 500
_OURS = (f"{Path(__file__).resolve().parent}{os.sep}", "<frozen ")
_STANDARD = os.path.dirname(os.__file__) + os.sep  # noqa: PTH120 - as it stands in the paths of frames
_INSTALLED = {"site-packages", "dist-packages"}


class Unusable(Exception):
    """The target cannot be graded. The text is a sentence without its subject."""


class ErrorDescription(NamedTuple):
    """An exception: its type, its message, and where it was raised (``limiter.py, line 12``; empty if unknown)."""

    type: str
    message: str
    where: str


def describe_value(value: object) -> str:
    """Return the type of a value and its repr."""
    return f"{type(value).__name__[:100]} {_text_of(lambda: repr(value))}"


def describe_error(error: BaseException) -> ErrorDescription:
    """Return the type, the message and the place of an exception."""
    name = type(error).__name__[:100]
    if isinstance(error, SyntaxError):  # its traceback ends at the import, and its text repeats the place
        place = f"{_file_name(error.filename or '')}, line {error.lineno}"
        return ErrorDescription(name, _text_of(lambda: str(error.msg)), place)
    return ErrorDescription(name, _text_of(lambda: str(error)), _where(error.__traceback__))


def _where(trace: TracebackType | None) -> str:
    # The innermost line of the target's own code; without one, that of an installed library; never of the standard
    # library. The module `traceback` is too slow here: it reads the source of every frame, and there may be a thousand.
    place, replaceable = "", True
    while trace is not None:
        path = trace.tb_frame.f_code.co_filename
        is_installed = not _INSTALLED.isdisjoint(path.split(os.sep))  # noqa: PTH206 - as below
        in_standard_library = path.startswith(_STANDARD) and not is_installed
        if not in_standard_library and not path.startswith(_OURS) and (replaceable or not is_installed):
            place, replaceable = f"{_file_name(path)}, line {trace.tb_lineno}", is_installed
        trace = trace.tb_next
    return place


def _file_name(path: str) -> str:
    # A Path interns its parts for good, and that would be counted as memory of the target.
    return os.path.basename(path)  # noqa: PTH119


def _text_of(write: Callable[[], str]) -> str:
    try:
        return write()[:_LONGEST]
    except MemoryError:
        raise
    except BaseException as error:  # noqa: BLE001 - the target's own method may raise anything
        return f"(its text cannot be read: {type(error).__name__[:100]})"


def parameters(function: object) -> dict[str, inspect.Parameter]:
    """Return the parameters of a function, as far as Python can tell."""
    try:
        return dict(inspect.signature(function).parameters)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return {}


def takes(function: object, arguments: int) -> bool:
    """Tell whether a function can be called with so many arguments, as far as Python can tell."""
    if not callable(function):
        return False
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return True
    try:
        signature.bind(*range(arguments))
    except TypeError:
        return False
    return True
