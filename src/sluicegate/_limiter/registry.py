"""The policies in use, by where they count: rejects policies that would silently share a counter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from threading import RLock
from weakref import ref

from sluicegate._core.errors import InvalidPolicy
from sluicegate._core.policy import Policy
from sluicegate._stores.process_local import renew_after_fork


class _InUse:
    """The policies of all open limiters, by where they count."""

    def __init__(self) -> None:
        # By identity: a user's own store may be unhashable, or equal to another one.
        self.by_place: dict[int, tuple[ref[object], Counter[Policy]]] = {}
        # Reentrant: a signal handler or a finalizer may close a limiter while this thread holds it.
        self.lock = RLock()
        renew_after_fork(self)

    def at(self, where: object) -> Counter[Policy]:
        """Return the policies in use at a place, which are forgotten with it."""
        place = id(where)
        if place not in self.by_place:
            self.by_place[place] = ref(where, lambda _: self.by_place.pop(place, None)), Counter()
        return self.by_place[place][1]

    def after_fork(self) -> None:
        self.lock._at_fork_reinit()  # type: ignore[attr-defined] # noqa: SLF001 - as the standard library does it


_in_use = _InUse()


def register(policies: Sequence[Policy], where: object) -> None:
    """Register policies as in use.

    Raises:
        InvalidPolicy: One of them would share a counter with another one by accident. None is registered.
    """
    if not _has_weak_references(where):
        return
    with _in_use.lock:
        there = _in_use.at(where)
        for policy in policies:
            for other in there:
                if other.namespace == policy.namespace:
                    _check_pair(other, policy)
        there.update(policies)


def unregister(policies: Sequence[Policy], where: object) -> None:
    """Remove policies that are not in use any more."""
    if not _has_weak_references(where):
        return
    with _in_use.lock:
        there = _in_use.at(where)
        there.subtract(policies)
        for policy in [policy for policy, uses in there.items() if uses <= 0]:
            del there[policy]


def _has_weak_references(where: object) -> bool:
    """Return whether it can be referred to weakly: a user's own store may not."""
    try:
        ref(where)
    except TypeError:
        return False
    return True


def _parts(policy: Policy) -> int:
    """Return how many texts name one of its counters: a plain key is one, and so is the value of one attribute."""
    return 0 if policy.shared else len(policy.per) or 1


def _counts_by(policy: Policy) -> str:
    return "nothing (it is shared)" if policy.shared else ", ".join(policy.per) or "a plain key"


def _check_pair(one: Policy, other: Policy) -> None:
    """Raise `InvalidPolicy` if two policies of one namespace are not meant to share their counters."""
    if one.per and other.per and one.per != other.per:
        raise InvalidPolicy(
            f"two policies on one store are both named {one.name} and count by different attributes, "
            f"{', '.join(one.per)} and {', '.join(other.per)}: equal values would share one counter; give each a "
            f"name= of its own"
        )
    if _parts(one) != _parts(other):
        raise InvalidPolicy(
            f"two policies on one store are both named {one.name}, and one counts by {_counts_by(one)}, the other by "
            f"{_counts_by(other)}: nobody could tell them apart; give each a name= of its own"
        )
    if not one.named and (one.limit, one.burst) != (other.limit, other.burst):
        what, units, others = ("limits", one.limit, other.limit)
        if units == others:
            what, units, others = ("bursts", one.burst, other.burst)
        raise InvalidPolicy(
            f"two policies without a name on one store, both {one.name}, with {what} {units} and {others}: they would "
            f"share one counter; give each a name=, or both the same one if that is what you want; or close the other "
            f"limiter if you are done with it"
        )
