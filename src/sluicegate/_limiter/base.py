"""What both limiters share: a plan, a store, what waits and what is renewed, and the checks of their arguments.

The verbs are in `limiter`, for threads, and in `async_limiter`, for tasks. The two classes have the same body, one call
of the store apart: the `Plan` makes the request, the store answers it, and the plan makes the decision.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sluicegate._core.decision import Verdict
from sluicegate._core.errors import InvalidPolicy, InvalidSpan, InvalidStore, LimiterClosed, short_repr
from sluicegate._core.keys import Key
from sluicegate._core.policies import Cost
from sluicegate._core.policy import MAX_WINDOW_US, Policy
from sluicegate._core.request import Request
from sluicegate._limiter import registry
from sluicegate._limiter.plan import Plan
from sluicegate._limiter.renewing import AsyncRenewing, Renewing
from sluicegate._limiter.statistics import Statistics
from sluicegate._limiter.waiting import AsyncWaiting, Waiting
from sluicegate._stores.base import AsyncStore, Store
from sluicegate._stores.memory.awaited import AwaitedMemoryStore
from sluicegate._stores.memory.fast_sliding_window import FastAllow
from sluicegate._stores.memory.fast_take import FastTake, fast_take
from sluicegate._stores.memory.store import MemoryStore
from sluicegate._stores.process_local import ProcessLocal, renew_after_fork
from sluicegate._stores.resolve import Resolved

if TYPE_CHECKING:
    from sluicegate._limiter.limits import Limits

MAX_WAITING = 10_000
"""Callers that may wait at once by default."""

MAX_TIMEOUT = 10 * 366 * 86400

LIMITS_TTL = 10.0
"""Seconds for which an answer of ``limits`` is kept by default."""

_Store = TypeVar("_Store", Store, AsyncStore)
_Waiting = TypeVar("_Waiting", Waiting, AsyncWaiting)
_Renewing = TypeVar("_Renewing", Renewing, AsyncRenewing)
Outcome = TypeVar("Outcome")
Finish = Callable[[Request, list[Verdict]], Outcome]


class Base(ProcessLocal, Generic[_Store, _Waiting, _Renewing]):
    """What both limiters share."""

    def __init__(self, resolved: Resolved[_Store], plan: Plan, waiting: _Waiting, renewing: _Renewing) -> None:
        policies = plan.policies
        self._waiting: _Waiting = waiting
        self._renewing: _Renewing = renewing
        self._store: _Store = resolved.store
        self._owned = resolved.owned
        self._plan = plan
        self._fast = _fast_path(plan, resolved.store)
        self._memory_take = _fast_take(plan, resolved.store)
        self._denial_check = _denial_check(plan, resolved.store)
        self._choose_path()
        self._where = resolved.where
        self._unregister = registry.register(self, policies.all, resolved.where, alone=resolved.owned)

    @property
    def policies(self) -> tuple[Policy, ...]:
        """The policies that a request has to pass."""
        return self._plan.policies.all

    @property
    def enabled(self) -> bool:
        """Whether requests are limited. While False, every request is allowed and nothing is counted by any policy."""
        return self._plan.enabled

    @enabled.setter
    def enabled(self, enabled: bool) -> None:
        self._plan.enabled = enabled
        self._choose_path()

    def statistics(self) -> Statistics:
        """Return what this limiter has decided since it was made: a frozen snapshot of its counters."""
        fast = (0, 0) if self._fast is None else self._fast.counts()
        return replace(self._plan.statistics(fast), waiting=self._waiting.lines.waiting)

    def _choose_path(self) -> None:
        """Let ``allow`` and ``take`` go a shorter way if there is one and the plan has nothing else to do."""
        is_direct = self._plan.is_direct
        self._fast_allow = self._fast.allow if self._fast is not None and is_direct else None
        self._fast_take = self._memory_take if is_direct else None
        self._is_denied = self._denial_check if is_direct else None

    def _open(self) -> None:
        """Open the limiter again, if it is closed. Raises `InvalidPolicy` as making it would."""
        if not self._plan.is_open:
            self._unregister = registry.register(self, self._plan.policies.all, self._where)
            self._plan.is_open = True
            self._choose_path()

    def _end(self) -> None:
        """Let every verb raise `LimiterClosed` from now on."""
        self._unregister()
        self._plan.is_open = False
        self._waiting.lines.fail_all(LimiterClosed("this limiter was closed while a caller waited: nothing was taken"))
        self._choose_path()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.policies))})"

    def _check_reserves(self) -> None:
        """Raise `InvalidStore` if the store cannot settle."""
        if not hasattr(self._store, "settle"):
            kind = "AsyncReservingStore" if isinstance(self._waiting, AsyncWaiting) else "ReservingStore"
            raise InvalidStore(
                f"store must be a sluicegate.stores.{kind} to reserve, got {type(self._store).__name__}",
                store=self._store,
            )


def overrides_take_alone(cls: type, base: type) -> bool:
    """Return whether a subclass has a ``take`` of its own and the ``allow`` of ``base``, which would bypass it."""

    def owner(verb: str) -> type:
        return next(each for each in cls.__mro__ if verb in vars(each))

    return owner("take") is not base and owner("allow") is base


def limits_by_key(function: Any, names: tuple[str, ...], ttl: float, *, asynchronous: bool) -> Limits | None:
    if function is None:
        return None
    from sluicegate._limiter.limits import Limits  # it needs asyncio: a third of the time to import this package

    limits = Limits(function, names=names, ttl=ttl, asynchronous=asynchronous)
    renew_after_fork(limits)
    return limits


def _memory_of(store: Store | AsyncStore) -> MemoryStore | None:
    """Return the memory store that a fast path may go around the methods of."""
    memory = store.store if isinstance(store, AwaitedMemoryStore) else store
    # A subclass of the store may decide in its own way, which the fast path would pass by.
    return memory if type(memory) is MemoryStore else None


def _fast_path(plan: Plan, store: Store | AsyncStore) -> FastAllow | None:
    """Return the fast path of ``allow`` for a plan that is direct, where there is one."""
    policy, memory = plan.policies.only_plain, _memory_of(store)
    if policy is None or memory is None:
        return None

    def ordinary(key: Key, cost: Cost) -> bool:
        request = plan.request(key, cost, True)
        return plan.outcome(request, memory.decide(request))

    return FastAllow.of(policy, memory, ordinary)


def _fast_take(plan: Plan, store: Store | AsyncStore) -> FastTake | None:
    """Return the fast path of ``take`` for a plan that is direct, where there is one."""
    policy, memory = plan.policies.only_plain, _memory_of(store)
    return None if policy is None or memory is None else fast_take(policy, memory)


def _denial_check(plan: Plan, store: Store | AsyncStore) -> Callable[[Any, Any], bool] | None:
    """Return what tells ``allow`` that a request is remembered to be denied, and counts it, for a plan that is direct.

    A flood of requests that are denied is when a limiter must cost least. Without this, each takes five times as long.
    """
    policy = plan.policies.only_plain
    # The method of the store's own class: a subclass may decide in its own way, which this would pass by.
    denies = vars(type(store)).get("denies")
    if policy is None or denies is None:
        return None
    count = plan.tally.count

    def is_denied(key: Any, cost: Any) -> bool:
        if not denies(store, policy, key, cost):
            return False
        count("denial-cache", False)
        return True

    return is_denied


def checked_max_waiting(most: int) -> int:
    """Return how many callers may wait. Raises `InvalidPolicy`."""
    if isinstance(most, bool) or not isinstance(most, int) or most < 1:
        raise InvalidPolicy(f"max_waiting must be a whole number of 1 or more, got {short_repr(most)}")
    return most


def checked_timeout(timeout: float | timedelta | None) -> float | None:
    """Return a time-out in seconds; None for none. Raises `InvalidSpan`."""
    seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
    if seconds is None:
        return None
    # NaN fails the comparison, and an int too large for a float is no matter.
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds <= MAX_TIMEOUT:
        raise InvalidSpan(
            f"timeout must be None or a number of seconds (or a timedelta) from 0 to {MAX_TIMEOUT} (ten years), got "
            f"{short_repr(timeout)}",
            span=timeout,
        )
    return float(seconds)


def checked_span_us(seconds: float | timedelta) -> int:
    span = seconds.total_seconds() if isinstance(seconds, timedelta) else seconds
    # Compared before it is multiplied: NaN fails the comparison, and an int too large for a float does no harm.
    if isinstance(span, bool) or not isinstance(span, (int, float)) or not 0 <= span <= MAX_WINDOW_US // 1_000_000:
        raise InvalidSpan(
            f"seconds must be a number (or a timedelta) from 0 to {MAX_WINDOW_US // 1_000_000} (ten years), got "
            f"{short_repr(seconds)}",
            span=seconds,
        )
    return max(round(span * 1_000_000), 1) if span else 0
