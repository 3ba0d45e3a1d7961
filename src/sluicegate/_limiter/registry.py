"""Policies that would share a counter unseen, and are refused: known by where they count, while they are in use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from threading import RLock
from weakref import WeakKeyDictionary, ref

from sluicegate._core.errors import InvalidPolicy
from sluicegate._core.policy import Policy
from sluicegate._stores.process_local import renew_after_fork


class _InUse:
    """The policies of the limiters that are not closed, by where they count: what was counted outlives a limiter."""

    def __init__(self) -> None:
        self.by_place: WeakKeyDictionary[object, Counter[Policy]] = WeakKeyDictionary()
        # Reentrant: a signal's handler or a finalizer may close a limiter while this thread is in here.
        self.lock = RLock()
        renew_after_fork(self)

    def after_fork(self) -> None:
        self.lock._at_fork_reinit()  # type: ignore[attr-defined] # noqa: SLF001 - as the standard library does it


_in_use = _InUse()


def enter(policies: Sequence[Policy], where: object) -> None:
    """Note that policies are in use.

    Raises:
        InvalidPolicy: One of them would share a counter with another one in a way that nobody asked for. None is noted.
    """
    if not _can_be_known(where):
        return
    with _in_use.lock:
        there = _in_use.by_place.setdefault(where, Counter())
        for policy in policies:
            for other in there:
                if other.namespace == policy.namespace:
                    _refuse(other, policy)
        there.update(policies)


def leave(policies: Sequence[Policy], where: object) -> None:
    """Note that policies are not in use any more."""
    if not _can_be_known(where):
        return
    with _in_use.lock:
        there = _in_use.by_place.get(where, Counter())
        there.subtract(policies)
        for gone in [policy for policy, times in there.items() if times <= 0]:
            del there[gone]


def _can_be_known(where: object) -> bool:
    """Tell whether it can be referred to weakly: a store of the user's own may not."""
    try:
        ref(where)
    except TypeError:
        return False
    return True


def _parts(policy: Policy) -> int:
    """Return how many texts name one of its counters. A plain key is one, as the value of a single attribute is."""
    return 0 if policy.shared else len(policy.per) or 1


def _by(policy: Policy) -> str:
    return "nothing (it is shared)" if policy.shared else ", ".join(policy.per) or "a plain key"


def _refuse(one: Policy, other: Policy) -> None:
    """Raise `InvalidPolicy` if two policies of one namespace are not meant to be one counter."""
    if one.per and other.per and one.per != other.per:
        raise InvalidPolicy(
            f"two policies on one store are both named {one.name} and count by different attributes, "
            f"{', '.join(one.per)} and {', '.join(other.per)}: equal values would share one counter; give each a name= "
            f"of its own"
        )
    if _parts(one) != _parts(other):
        raise InvalidPolicy(
            f"two policies on one store are both named {one.name}, and one counts by {_by(one)}, the other by "
            f"{_by(other)}: nobody could tell which of them is meant; give each a name= of its own"
        )
    if not one.named and (one.limit, one.burst) != (other.limit, other.burst):
        what, units, others = ("limits", one.limit, other.limit)
        if units == others:
            what, units, others = ("bursts", one.burst, other.burst)
        raise InvalidPolicy(
            f"two policies without a name on one store, both {one.name}, with {what} {units} and {others}: they would "
            f"share one counter; give each a name=, or both the same one if that is what you want; or close the other "
            f"limiter if it is done with"
        )
