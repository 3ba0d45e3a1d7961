"""What the target made, in words of ours: bounded in length, and whatever its own methods do."""

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
    """The target is not what can be graded. The text is a whole sentence without its subject."""


class Raised(NamedTuple):
    """An exception: its type, its text, and where it came from, ``limiter.py, line 12``; empty where nobody knows."""

    type: str
    message: str
    where: str


def shown(value: object) -> str:
    """Write a value as Python does, after its type."""
    return f"{type(value).__name__[:100]} {_tried(lambda: repr(value))}"


def raised(error: BaseException) -> Raised:
    """Say what was raised."""
    name = type(error).__name__[:100]
    if isinstance(error, SyntaxError):  # the line that raised it is the import, and its text repeats the place
        place = f"{_name(error.filename or '')}, line {error.lineno}"
        return Raised(name, _tried(lambda: str(error.msg)), place)
    return Raised(name, _tried(lambda: str(error)), _where(error.__traceback__))


def _where(trace: TracebackType | None) -> str:
    # The innermost line of the target's; that of an installed library, where there is none; never Python's own. The
    # module traceback would read the source of each of a thousand frames.
    place, in_library = "", True
    while trace is not None:
        path = trace.tb_frame.f_code.co_filename
        of_library = not _INSTALLED.isdisjoint(path.split(os.sep))  # noqa: PTH206 - as below
        python_s_own = path.startswith(_STANDARD) and not of_library
        if not python_s_own and not path.startswith(_OURS) and (in_library or not of_library):
            place, in_library = f"{_name(path)}, line {trace.tb_lineno}", of_library
        trace = trace.tb_next
    return place


def _name(path: str) -> str:
    # A Path would intern its parts for good: that would be counted as memory that the target holds.
    return os.path.basename(path)  # noqa: PTH119


def _tried(write: Callable[[], str]) -> str:
    try:
        return write()[:_LONGEST]
    except MemoryError:
        raise
    except BaseException as error:  # noqa: BLE001 - the target's own method: whatever it raises
        return f"(its text cannot be had: {type(error).__name__[:100]})"


def parameters(function: object) -> dict[str, inspect.Parameter]:
    """Return what a function takes, as far as Python can tell."""
    try:
        return dict(inspect.signature(function).parameters)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return {}


def takes_a_key(function: object) -> bool:
    """Tell whether it can be called with a key alone, as far as Python can tell."""
    if not callable(function):
        return False
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return True
    try:
        signature.bind("key")
    except TypeError:
        return False
    return True
