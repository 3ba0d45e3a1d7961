"""Every exception that Sluicegate raises. A denial is not one: it is a value, the product working.

    SluicegateError
      InvalidPolicy(ValueError)    a limit of 0, a negative window, a call that does not fit
      InvalidRate(ValueError)      .text .position; a rate string that does not parse
      InvalidKey(ValueError)       .policy .attribute; not text, or an attribute is missing
      InvalidCost(ValueError)      .cost .policy; 0, negative, not a whole number, or for an unknown policy
      InvalidSpan(ValueError)      .span; a negative number of seconds to block a key for
      InvalidStore(ValueError)     .store; neither a store nor the URL of one
      LimiterClosed(RuntimeError)  a verb after close() or aclose()
      ReservationError(RuntimeError)  settled after its block, or by another thread
      NotAllowed                   .decision; a block under ``limited`` whose turn did not come in time
      StoreError                   .reason .lasts; __cause__ is the driver's error; on_outage= chooses another answer
        StoreUnavailable           nothing was taken
        StoreTimeout               outcome unknown: the cost may have been taken

Every message names the parameter, what is valid and what it got and, where it helps, what to do.
"""

from __future__ import annotations

from collections.abc import Iterable
from reprlib import Repr
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sluicegate._core.decision import Decision

__all__ = [
    "InvalidCost",
    "InvalidKey",
    "InvalidPolicy",
    "InvalidRate",
    "InvalidSpan",
    "InvalidStore",
    "LimiterClosed",
    "NotAllowed",
    "ReservationError",
    "SluicegateError",
    "StoreError",
    "StoreTimeout",
    "StoreUnavailable",
]


# A value may be a megabyte of hostile text: a message quotes its head and tail, never all of it.
class _Brief(Repr):
    def repr_int(self, x: int, _level: int) -> str:
        return repr(x) if x.bit_length() < 128 else f"a whole number of {x.bit_length()} bits"


_LONGEST_WORD = 64

_brief = _Brief()
_brief.maxstring = _brief.maxother = 60


def short_repr(value: object) -> str:
    """Return a short, escaped form of a value, for a message."""
    return _brief.repr(value)


def type_repr(value: object) -> str:
    """Return a form of a value that may be secret, such as a key, for a message: a number or None, or else its type."""
    plain = value is None or type(value) in (int, float, bool)
    return short_repr(value) if plain else f"one of type {type(value).__name__}"


def nearest(value: object, known: Iterable[str], *, likeness: float = 0.75) -> str | None:
    """Return the known word that ``value`` nearly is, whatever its case; None if there is none."""
    from difflib import get_close_matches  # takes milliseconds to import, and is for messages alone

    if not isinstance(value, str) or len(value) > _LONGEST_WORD:  # a long one takes long to compare
        return None
    return next(iter(get_close_matches(value.lower(), list(known), n=1, cutoff=likeness)), None)


def meant(value: object, known: Iterable[str]) -> str:
    """Return a question to end a message with, if ``value`` is nearly a known word; else an empty string."""
    word = nearest(value, known)
    return "" if word is None else f"; did you mean {word}?"


class SluicegateError(Exception):
    """The base of all exceptions of Sluicegate. All can be pickled, so they cross process boundaries."""

    def __reduce__(self) -> tuple[object, ...]:
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[SluicegateError], args: tuple[object, ...], attributes: dict[str, object]) -> SluicegateError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(attributes)
    return error


class InvalidPolicy(SluicegateError, ValueError):
    """A policy or a limiter cannot be built from its arguments, or a policy conflicts with another one."""


class InvalidRate(SluicegateError, ValueError):
    """A rate string does not parse, or a number in it is outside its range.

    The message counts characters from 1, as people do, and shows the text around the place, escaped and shortened, with
    a caret below it.

    Attributes:
        text: The whole text; a short form of the value if it was not text.
        position: The index of the first wrong character, from 0; ``len(text)`` if something is missing at the end.
    """

    def __init__(self, message: str, *, text: str, position: int) -> None:
        super().__init__(message)
        self.text = text
        self.position = position


class InvalidKey(SluicegateError, ValueError):
    """A key is not valid text, or lacks an attribute that a policy counts by. Nothing was taken.

    Attributes:
        policy: The name of the policy that needed the attribute; None if any policy would refuse the key.
        attribute: The attribute that is missing or invalid; None if the key itself is.
    """

    def __init__(self, message: str, *, policy: str | None = None, attribute: str | None = None) -> None:
        super().__init__(message)
        self.policy = policy
        self.attribute = attribute


class InvalidCost(SluicegateError, ValueError):
    """A cost is not a whole number from 1 to 10^11, or is for an unknown policy. Nothing was taken.

    Attributes:
        cost: The invalid cost.
        policy: The policy name that it was for; None if it was for all policies.
    """

    def __init__(self, cost: object, *, policy: str | None = None, message: str | None = None) -> None:
        where = "" if policy is None else f" of policy {policy}"
        super().__init__(
            message or f"cost{where} must be a whole number from 1 to 100000000000, got {short_repr(cost)}"
        )
        self.cost = cost
        self.policy = policy


class InvalidSpan(SluicegateError, ValueError):
    """A span of time is not a number of seconds in its range. Nothing was changed.

    Attributes:
        span: The invalid span.
    """

    def __init__(self, message: str, *, span: object) -> None:
        super().__init__(message)
        self.span = span


class InvalidStore(SluicegateError, ValueError):
    """A store is invalid, its URL cannot be read, or it is bound to another event loop.

    Attributes:
        store: The invalid value. A URL's password is not in the message.
    """

    def __init__(self, message: str, *, store: object) -> None:
        super().__init__(message)
        self.store = store


class LimiterClosed(SluicegateError, RuntimeError):
    """A limiter was used after it was closed. Nothing was taken; enter it (``with limiter:``) to open it again."""


class ReservationError(SluicegateError, RuntimeError):
    """A reservation was used outside of its block, twice, or by another thread. Nothing was changed."""


class NotAllowed(SluicegateError):
    """A function or a block under ``limited`` was not run: its turn did not come in time. Nothing was taken.

    Attributes:
        decision: The denial.
    """

    def __init__(self, message: str, *, decision: Decision) -> None:
        super().__init__(message)
        self.decision = decision


class StoreError(SluicegateError):
    """The store made no decision. ``__cause__`` is the driver's own error, if there is one.

    Attributes:
        reason: A short code for what is wrong, such as ``no-password`` or ``timeout``, for logs and metrics. Stable
            over versions; docs/reference/stores.md lists those of the Redis stores.
        lasts: Whether it stays until somebody changes a setting, as a wrong password does. Such an error is raised
            whatever ``on_outage`` says, until the store has answered once.
    """

    def __init__(self, message: str = "", *, reason: str = "unknown", lasts: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.lasts = lasts


class StoreUnavailable(StoreError):
    """The store could not be reached, or refused: nothing was taken."""


class StoreTimeout(StoreError):
    """The request was sent and its answer was lost: the cost may have been taken, or not."""
