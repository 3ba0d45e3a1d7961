"""Everything Sluicegate raises. A denial is not among it: it is a value, the product working.

    SluicegateError
      InvalidPolicy(ValueError)    a limit of 0, a negative window, a name with a space
      InvalidRate(ValueError)      .text .position; a rate string that does not parse
      InvalidKey(ValueError)       .policy .attribute; the key is no text, or what the policy counts by is missing
      InvalidCost(ValueError)      .cost .policy; 0, negative, not a whole number, or for a policy that is not there
      InvalidSpan(ValueError)      .span; a negative number of seconds to block a key for
      InvalidStore(ValueError)     .store; neither a store nor the URL of one
      StoreError                   __cause__ is the driver's own error; open or closed is the caller's choice
        StoreUnavailable           nothing was taken
        StoreTimeout               outcome unknown: the cost may have been taken

Each message says what came, what was expected and, where it helps, what to do.
"""

from __future__ import annotations

from collections.abc import Iterable
from reprlib import Repr

__all__ = [
    "InvalidCost",
    "InvalidKey",
    "InvalidPolicy",
    "InvalidRate",
    "InvalidSpan",
    "InvalidStore",
    "SluicegateError",
    "StoreError",
    "StoreTimeout",
    "StoreUnavailable",
]


# What came may be a megabyte of hostile text: a message quotes its head and tail, never all of it.
class _Brief(Repr):
    def repr_int(self, x: int, _level: int) -> str:
        return repr(x) if x.bit_length() < 128 else f"a whole number of {x.bit_length()} bits"


_LONGEST_WORD = 64

_brief = _Brief()
_brief.maxstring = _brief.maxother = 60


def short_repr(value: object) -> str:
    """Return a short, escaped form of what came, for a message."""
    return _brief.repr(value)


def nearest(came: object, known: Iterable[str], *, likeness: float = 0.75) -> str | None:
    """Return the one of the known words that what came nearly is, whatever its case; None where there is none."""
    from difflib import get_close_matches  # takes milliseconds to import, and is for messages alone

    if not isinstance(came, str) or len(came) > _LONGEST_WORD:  # a long one takes long to compare
        return None
    return next(iter(get_close_matches(came.lower(), list(known), n=1, cutoff=likeness)), None)


def meant(came: object, known: Iterable[str]) -> str:
    """Return a question to end a message with, if what came is nearly one of the known words; else nothing."""
    word = nearest(came, known)
    return "" if word is None else f"; did you mean {word}?"


class SluicegateError(Exception):
    """The root of all errors of Sluicegate. All can be pickled, so that they come through from other processes."""

    def __reduce__(self) -> tuple[object, ...]:
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[SluicegateError], args: tuple[object, ...], attributes: dict[str, object]) -> SluicegateError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(attributes)
    return error


class InvalidPolicy(SluicegateError, ValueError):
    """A policy cannot be built from what was given, or does not fit beside another one."""


class InvalidRate(SluicegateError, ValueError):
    """A rate string does not parse, or a number in it is outside its range.

    The message counts characters from 1, as people do, and shows the text around the place, escaped and cut, with a
    caret below it.

    Attributes:
        text: All that came; a short form of it when it was no text.
        position: Where the first character is that is wrong, counted from 0; ``len(text)`` when something is missing
            at the end.
    """

    def __init__(self, message: str, *, text: str, position: int) -> None:
        super().__init__(message)
        self.text = text
        self.position = position


class InvalidKey(SluicegateError, ValueError):
    """A key is not text that can be stored, or lacks what a policy counts by. Nothing was taken.

    Attributes:
        policy: The name of the policy that needed it; None when any policy would refuse the key.
        attribute: The attribute that is missing; None when the key itself is at fault.
    """

    def __init__(self, message: str, *, policy: str | None = None, attribute: str | None = None) -> None:
        super().__init__(message)
        self.policy = policy
        self.attribute = attribute


class InvalidCost(SluicegateError, ValueError):
    """A cost is not a whole number from 1 to 10^11, or is for a policy that is not there. Nothing was taken.

    Attributes:
        cost: What came.
        policy: The name that it came for; None when it came for all policies.
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
        span: What came.
    """

    def __init__(self, message: str, *, span: object) -> None:
        super().__init__(message)
        self.span = span


class InvalidStore(SluicegateError, ValueError):
    """What was given as a store is neither a store nor the URL of one.

    Attributes:
        store: What came. A URL's password is not in the message.
    """

    def __init__(self, message: str, *, store: object) -> None:
        super().__init__(message)
        self.store = store


class StoreError(SluicegateError):
    """The store gave no decision. ``__cause__`` is the driver's own error, where there is one."""


class StoreUnavailable(StoreError):
    """The store could not be asked, or refused: nothing was taken."""


class StoreTimeout(StoreError):
    """The question was sent and its answer was lost: the cost may have been taken, or not."""
