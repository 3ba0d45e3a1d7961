"""The policies in use, by where they count: rejects policies that would silently share a counter, and warns of others.

Also counts the limiters that were made, to warn of one that is made for each request.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from threading import RLock
from weakref import finalize, ref

from sluicegate._core.codes import warn
from sluicegate._core.errors import InvalidPolicy
from sluicegate._core.policy import Policy
from sluicegate._stores.process_local import renew_after_fork

MANY = 20
"""The limiters with the same policies, each with counters of its own, of which the last is warned of."""

_MOST_COUNTED = 1000  # sets of policies


class _Place:
    """Where policies count: those in use there, and the namespaces that a warning named."""

    def __init__(self) -> None:
        self.policies: Counter[Policy] = Counter()
        self.warned: set[str] = set()


class _InUse:
    """The policies of all open limiters, by where they count, and how often limiters with the same ones were made."""

    def __init__(self) -> None:
        # By identity: a user's own store may be unhashable, or equal to another one.
        self.by_place: dict[int, tuple[ref[object], _Place]] = {}
        self.made: Counter[tuple[Policy, ...]] = Counter()
        # What closed and collected limiters leave is only noted here, and removed by the next one that is registered: a
        # collection may be at any moment, also in the middle of what is done under the lock.
        self.left: deque[tuple[tuple[Policy, ...], _Place]] = deque()
        # Reentrant: a signal handler may make a limiter while this thread holds it.
        self.lock = RLock()
        renew_after_fork(self)

    def at(self, where: object) -> _Place:
        """Return the policies in use at a place, which are forgotten with it."""
        place = id(where)
        if place not in self.by_place:
            self.by_place[place] = ref(where, lambda _: self.by_place.pop(place, None)), _Place()
        return self.by_place[place][1]

    def remove_left(self) -> None:
        """Remove the policies of limiters that were closed or collected."""
        while self.left:
            policies, place = self.left.popleft()
            place.policies.subtract(policies)
            for policy in [policy for policy, uses in place.policies.items() if uses <= 0]:
                del place.policies[policy]

    def is_new(self, where: object) -> bool:
        return id(where) not in self.by_place

    def after_fork(self) -> None:
        self.lock._at_fork_reinit()  # type: ignore[attr-defined] # noqa: SLF001 - as the standard library does it


_in_use = _InUse()


def register(
    limiter: object, policies: tuple[Policy, ...], where: object, *, alone: bool = False
) -> Callable[[], object]:
    """Register the policies of a limiter as in use, until it is closed or collected.

    Args:
        limiter: The limiter.
        policies: Its policies.
        where: Where they count.
        alone: Whether the limiter made its store, which no other one uses.

    Returns:
        A function that removes them. Safe to call twice.

    Raises:
        InvalidPolicy: One of them would share a counter with another one by accident. None is registered.
        SluicegateWarning: If the program's filters make it an exception. None is registered.
    """
    if not _has_weak_references(where):
        return lambda: None
    with _in_use.lock:
        _in_use.remove_left()
        made = _count(policies) if alone or _in_use.is_new(where) else 0
        place = _in_use.at(where)
        shared = []
        for policy in policies:
            for other in tuple(place.policies):
                if other.namespace == policy.namespace:
                    _check_pair(other, policy)
                    if not (other.named and policy.named) and policy.namespace not in place.warned:
                        shared.append(policy)
        place.warned.update(policy.namespace for policy in shared)
        place.policies.update(policies)
    # With the place and not the store: a store may refer to the limiter, and would keep it alive for ever.
    remove = finalize(limiter, _in_use.left.append, (policies, place))
    remove.atexit = False
    try:
        _warn(policies, shared, made)
    except Warning:
        remove()
        place.warned.difference_update(policy.namespace for policy in shared)
        raise
    return remove


def _count(policies: tuple[Policy, ...]) -> int:
    """Return how many limiters with these policies were made so far, this one included."""
    if len(_in_use.made) >= _MOST_COUNTED:
        _in_use.made.clear()
    _in_use.made[policies] += 1
    return _in_use.made[policies]


def _warn(policies: tuple[Policy, ...], shared: Sequence[Policy], made: int) -> None:
    for policy in shared:
        warn(
            "shared-by-chance",
            f"two limiters on one store both count by {policy.name}, which has no name= of its own: what is taken from "
            f"one is missing in the other; give each policy a name=, or both the same one if that is what you want",
        )
    if made == MANY:
        warn(
            "limiter-per-request",
            f"this is limiter number {MANY} of this process with {', '.join(policy.name for policy in policies)} and a "
            f"store of its own: each begins with a new count or a new connection; make one limiter when the program "
            f"starts, and use it for all requests",
        )


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
    if not (one.named and other.named) and (one.limit, one.burst) != (other.limit, other.burst):
        what, units, others = ("limits", one.limit, other.limit)
        if units == others:
            what, units, others = ("bursts", one.burst, other.burst)
        raise InvalidPolicy(
            f"two policies without a name on one store, both {one.name}, with {what} {units} and {others}: they would "
            f"share one counter; give each a name=, or both the same one if that is what you want; or close the other "
            f"limiter if you are done with it"
        )
