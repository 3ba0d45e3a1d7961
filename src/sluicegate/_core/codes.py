"""Warnings with a stable code each: `docs/reference/warnings.md` has a section for every code.

What a program does wrong is a Python warning, at the program's own line. What is wrong with a server is a record of the
logger ``sluicegate``: the program could not avoid it, its operator can, and a log never turns into an exception in the
middle of a request.
"""

from __future__ import annotations

import sys
import warnings
from typing import Literal, get_args

Code = Literal["evicting-server", "limiter-per-request", "limits-without-lifespan", "shared-by-chance", "unknown-fleet"]

CODES: tuple[str, ...] = get_args(Code)

_PAGE = "docs/reference/warnings.md"
_PACKAGE = __name__.partition(".")[0]


class SluicegateWarning(UserWarning):
    """Code that runs but probably does not do what you want.

    The text begins with the code, so that a filter can name it:
    ``warnings.filterwarnings("ignore", "limiter-per-request")``.

    Attributes:
        code: Stable over versions; the heading of its section in ``docs/reference/warnings.md``.
    """

    def __init__(self, text: str, code: str = "") -> None:
        super().__init__(text)
        self.code = code or text.partition(":")[0]


def warn(code: Code, message: str) -> None:
    """Warn at the line outside of this package that led here. A filter may turn this into an exception."""
    warnings.warn(SluicegateWarning(_text(code, message), code), stacklevel=_stack_level())


def log(code: Code, message: str) -> None:
    """Log a warning for the operator."""
    import logging  # takes milliseconds to import, which a program that never needs it is spared

    logging.getLogger(_PACKAGE).warning("%s", _text(code, message), extra={"code": code})


def _text(code: Code, message: str) -> str:
    return f"{code}: {message} ({_PAGE}#{code})"


def _stack_level() -> int:
    """Return the level of the first frame outside of this package, as `warn` sees it."""
    level, frame = 1, sys._getframe(1)  # noqa: SLF001 - as the standard library does it
    while frame.f_back is not None and _is_own(frame.f_globals.get("__name__", "")):
        level, frame = level + 1, frame.f_back
    return level


def _is_own(module: str) -> bool:
    return module == _PACKAGE or module.startswith(f"{_PACKAGE}.")
