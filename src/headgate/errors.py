"""Everything Headgate raises. A denial is not among it: it is a value, the product working.

    HeadgateError
      InvalidPolicy(ValueError)    a limit of 0, a negative window, a name with a space
      InvalidKey(ValueError)       .policy .attribute; the key is no text, or what the policy counts by is missing
      InvalidCost(ValueError)      .cost; 0, negative, or not a whole number
      InvalidStore(ValueError)     .store; neither a store nor the URL of one
      StoreError                   __cause__ is the driver's own error; open or closed is the caller's choice
        StoreUnavailable           nothing was taken
        StoreTimeout               outcome unknown: the cost may have been taken

Each message says what came, what was expected and, where it helps, what to do.
"""

from __future__ import annotations

from reprlib import Repr

__all__ = [
    "HeadgateError",
    "InvalidCost",
    "InvalidKey",
    "InvalidPolicy",
    "InvalidStore",
    "StoreError",
    "StoreTimeout",
    "StoreUnavailable",
]


# What came may be a megabyte of hostile text: a message quotes its head and tail, never all of it.
class _Brief(Repr):
    def repr_int(self, x: int, _level: int) -> str:
        return repr(x) if x.bit_length() < 128 else f"a whole number of {x.bit_length()} bits"


_brief = _Brief()
_brief.maxstring = _brief.maxother = 60


def shown(value: object) -> str:
    """Return a short, escaped form of what came, for a message."""
    return _brief.repr(value)


class HeadgateError(Exception):
    """The root of all errors of Headgate. All can be pickled, so that they come through from other processes."""

    def __reduce__(self) -> tuple[object, ...]:
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[HeadgateError], args: tuple[object, ...], attributes: dict[str, object]) -> HeadgateError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(attributes)
    return error


class InvalidPolicy(HeadgateError, ValueError):
    """A policy cannot be built from what was given, or does not fit beside another one."""


class InvalidKey(HeadgateError, ValueError):
    """A key is not text that can be stored, or lacks what a policy counts by. Nothing was taken.

    Attributes:
        policy: The name of the policy that needed it; None when any policy would refuse the key.
        attribute: The attribute that is missing; None when the key itself is at fault.
    """

    def __init__(self, message: str, *, policy: str | None = None, attribute: str | None = None) -> None:
        super().__init__(message)
        self.policy = policy
        self.attribute = attribute


class InvalidCost(HeadgateError, ValueError):
    """A cost is not a whole number from 1 to 10^11. Nothing was taken.

    Attributes:
        cost: What came.
    """

    def __init__(self, cost: object) -> None:
        super().__init__(f"cost must be a whole number from 1 to 100000000000, got {shown(cost)}")
        self.cost = cost


class InvalidStore(HeadgateError, ValueError):
    """What was given as a store is neither a store nor the URL of one.

    Attributes:
        store: What came. A URL's password is not in the message.
    """

    def __init__(self, message: str, *, store: object) -> None:
        super().__init__(message)
        self.store = store


class StoreError(HeadgateError):
    """The store gave no decision. ``__cause__`` is the driver's own error, where there is one."""


class StoreUnavailable(StoreError):
    """The store could not be asked, or refused: nothing was taken."""


class StoreTimeout(StoreError):
    """The question was sent and its answer was lost: the cost may have been taken, or not."""
