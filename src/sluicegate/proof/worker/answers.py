"""An answer of the target: what it says, read from whatever was returned."""

import datetime as dt
import math
from typing import Any, NamedTuple

_LARGEST = 1 << 63


class Told(NamedTuple):
    """What one answer said.

    Attributes:
        allowed: The answer; None where it cannot be told from what came.
        retry_after: Seconds to wait; infinite: for ever; None where it was not told.
        remaining: Units left; None where it was not told.
    """

    allowed: bool | None
    retry_after: float | None = None
    remaining: int | None = None


def read(answer: Any, *, plain: bool) -> Told:
    """Read an answer: a plain yes or no, or something with ``allowed``, ``retry_after`` and ``remaining``.

    Args:
        answer: What came. What is no bool where a bool is due is taken for what it is worth.
        plain: Whether there is nothing more to it than yes or no.
    """
    if plain or answer is None or isinstance(answer, int):
        return Told(bool(answer))
    return Told(
        bool(getattr(answer, "allowed", answer)),
        seconds(getattr(answer, "retry_after", None)),
        _whole(getattr(answer, "remaining", None)),
    )


def seconds(value: object) -> float | None:
    """Read a span: None where it is none."""
    if isinstance(value, dt.timedelta):
        value = value.total_seconds()
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    try:
        span = float(value)
    except OverflowError:
        span = math.inf if value > 0 else -math.inf
    return None if math.isnan(span) or span == -math.inf else span


def _whole(value: object) -> int | None:
    return value if type(value) is int and abs(value) < _LARGEST else None
