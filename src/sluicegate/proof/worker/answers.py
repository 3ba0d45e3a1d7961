"""`Answer`: what the target answered, read from any value that its methods may return."""

import datetime as dt
import math
from typing import Any, NamedTuple

_LARGEST = 1 << 63


class Answer(NamedTuple):
    """One answer.

    Attributes:
        allowed: Whether the request was allowed; None if the returned value does not say.
        retry_after: Seconds to wait, infinite for ever; None if not reported.
        remaining: Units left; None if not reported.
    """

    allowed: bool | None
    retry_after: float | None = None
    remaining: int | None = None


def read(answer: Any, *, plain: bool) -> Answer:
    """Read a returned value: true or false, or an object with ``allowed``, ``retry_after`` and ``remaining``.

    Args:
        answer: The returned value. If it is not a bool where one is expected, its truth value counts.
        plain: Whether only true or false is expected.
    """
    if plain or answer is None or isinstance(answer, int):
        return Answer(bool(answer))
    return Answer(
        bool(getattr(answer, "allowed", answer)),
        seconds(getattr(answer, "retry_after", None)),
        _whole(getattr(answer, "remaining", None)),
    )


def seconds(value: object) -> float | None:
    """Read a span in seconds; None if the value is not one."""
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
