"""The limiter for threads: its verbs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from sluicegate._core.decision import Decision, Verdict
from sluicegate._core.errors import InvalidSpan, StoreError, short_repr
from sluicegate._core.event import StoreEvent
from sluicegate._core.instead import explained
from sluicegate._core.keys import NO_KEY, Key
from sluicegate._core.policies import Cost, Policies
from sluicegate._core.policy import Policy
from sluicegate._core.request import Request, Settlement
from sluicegate._limiter.base import (
    LIMITS_TTL,
    MAX_WAITING,
    Base,
    Finish,
    Outcome,
    checked_max_waiting,
    checked_span_us,
    checked_timeout,
    limits_by_key,
    overrides_take_alone,
)
from sluicegate._limiter.exempt import Exempt
from sluicegate._limiter.limited import Limited
from sluicegate._limiter.lines import is_allowed
from sluicegate._limiter.outages import DEADLINE, OnOutage, Outages, checked_deadline
from sluicegate._limiter.plan import Plan
from sluicegate._limiter.renewing import Renewing
from sluicegate._limiter.reservation import Answered, ChargeWhen, Reservation
from sluicegate._limiter.waiting import Waiting
from sluicegate._stores.base import TIMEOUT, Store
from sluicegate._stores.resolve import resolve

if TYPE_CHECKING:
    from sluicegate._limiter.limits import Limit


class Limiter(Base[Store, Waiting, Renewing]):
    """Limits the requests of threads, counted in memory or in a store that a fleet shares.

    Args:
        policies: What is allowed: one policy or several, which are then decided together, all or nothing. Rate strings
            work, too: ``"100/hour;3/minute"`` is two `SlidingWindow`.
        store: A store; the URL of one (``redis://``, ``rediss://``, ``unix://``, ``valkey://``, ``memory://``); or None
            for a `MemoryStore` of its own. The limiter closes only a store that it made.
        limits: A function of a key, as the caller gave it, that returns the key's limit, or for several policies a
            mapping from policy names to limits; None keeps the policies' own. Answers may change at any time: what was
            counted stays.
        limits_ttl: Seconds for which an answer of ``limits`` is kept, 0 to 86 400, for at most 10 000 keys.
        exempt: Keys that are never limited: a collection of keys; for keys with attributes a mapping from an attribute
            to a collection of its values; or a function of a key. It is looked into at every call.
        enabled: False allows every request and counts nothing, in tests for example. See the attribute.
        on_outage: What to answer while the store is down or slow: ``"local"`` decides in memory, on this instance's
            share of the limit; ``"open"`` allows everything; ``"closed"`` denies everything; ``"raise"`` raises the
            `StoreError`. Errors of configuration, such as a wrong password, are raised in any case until the store has
            answered once.
        deadline: Seconds within which every decision is made, above 0, at most 3600: waiting in the queue, connecting,
            and the call. A store of your own waits for no longer than its own time-out, either. What ``limits`` takes
            is not part of it.
        share: For ``"local"``: a fixed share of every limit, above 0, at most 1, in place of one by the number of
            instances that the store last saw.
        on_event: Called with a `StoreEvent` when the store goes down, is up again, or has lost counters. It runs in the
            middle of a decision or a probe, so it must be quick and synchronous. Exceptions that it raises are logged.
        max_waiting: Callers that may wait in ``wait`` and the like at once, 1 or more. Another one is denied.

    Raises:
        InvalidPolicy: No policy; two with one name; one that would share a counter by accident with another one on this
            store; or another argument is invalid.
        InvalidRate: A rate string does not parse.
        InvalidStore: Neither a store nor the URL of one, or an async store.
    """

    @explained
    def __init__(
        self,
        *policies: Policy | str,
        store: Store | str | None = None,
        limits: Callable[[Any], Limit] | None = None,
        limits_ttl: float = LIMITS_TTL,
        exempt: Exempt | None = None,
        enabled: bool = True,
        on_outage: OnOutage = "local",
        deadline: float = DEADLINE,
        share: float | None = None,
        on_event: Callable[[StoreEvent], object] | None = None,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        checked = Policies(policies)
        by_key = limits_by_key(limits, checked.names, limits_ttl, asynchronous=False)
        within = checked_deadline(deadline)
        resolved = resolve(store, max(within, TIMEOUT))
        outages = Outages(on_outage, share, on_event, resolved.store)
        plan = Plan(checked, by_key, exempt, enabled, outages, within)
        waiting = Waiting(plan, resolved.store, checked_max_waiting(max_waiting))
        super().__init__(resolved, plan, waiting, Renewing(plan, resolved.store, waiting.timing))

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if overrides_take_alone(cls, Limiter):

            def allow(self: Limiter, key: Key = NO_KEY, cost: Cost = 1) -> bool:
                return self.take(key, cost).allowed

            cls.allow = allow  # type: ignore[method-assign]

    def allow(self, key: Key = NO_KEY, cost: Cost = 1) -> bool:
        """Take ``cost`` units for ``key`` if there is room. Returns True if they were taken; a denial takes nothing.

        Args:
            key: What to count under: any text; for policies with ``per`` a mapping with exactly their attributes.
            cost: Units to take, a whole number from 1 to 10^11; or a mapping from policy names to such numbers, where a
                policy that is not in it takes 1. A cost above a policy's burst (usually its limit) is always denied.

        Raises:
            InvalidKey: The key is not text, has a lone surrogate, or has an attribute too few or too many. Nothing was
                taken.
            InvalidCost: The cost is not a whole number from 1 to 10^11, or is for an unknown policy. Nothing was taken.
            InvalidPolicy: ``limits`` returned an invalid limit. Nothing was taken. (Whatever ``limits`` and ``exempt``
                raise propagates.)
            StoreError: Only with ``on_outage="raise"``, or where the store is not set up right and has never answered:
                `StoreUnavailable` if nothing was taken, `StoreTimeout` if the cost may have been taken.
        """
        fast_allow = self._fast_allow
        if fast_allow is not None:
            return fast_allow(key, cost)
        is_denied = self._is_denied
        if is_denied is not None and is_denied(key, cost):
            return False
        return self._ask(key, cost, True, self._plan.outcome)

    def take(self, key: Key = NO_KEY, cost: Cost = 1) -> Decision:
        """Take ``cost`` units for ``key`` if there is room, and return the whole decision; it is true if allowed.

        Args:
            key: What to count under: any text; for policies with ``per`` a mapping with exactly their attributes.
            cost: Units to take, a whole number from 1 to 10^11, or a mapping from policy names to such numbers.

        Raises:
            InvalidKey: The key is not text, has a lone surrogate, or has an attribute too few or too many. Nothing was
                taken.
            InvalidCost: The cost is not a whole number from 1 to 10^11, or is for an unknown policy. Nothing was taken.
            InvalidPolicy: ``limits`` returned an invalid limit. Nothing was taken. (Whatever ``limits`` and ``exempt``
                raise propagates.)
            StoreError: Only with ``on_outage="raise"``, or where the store is not set up right and has never answered:
                `StoreUnavailable` if nothing was taken, `StoreTimeout` if the cost may have been taken.
        """
        fast_take = self._fast_take
        if fast_take is not None and (verdict := fast_take(key, cost)) is not None:
            return self._plan.decision_of_one(verdict)
        return self._ask(key, cost, True, self._plan.decision)

    def peek(self, key: Key = NO_KEY, cost: Cost = 1) -> Decision:
        """Return what `take` would decide now, and take nothing.

        ``remaining`` and ``reset_after`` are those of now: nothing has been taken from them.

        Args:
            key: What to count under: any text; for policies with ``per`` a mapping with exactly their attributes.
            cost: Units to ask for, a whole number from 1 to 10^11, or a mapping from policy names to such numbers.

        Raises:
            InvalidKey: The key is not text, has a lone surrogate, or has an attribute too few or too many.
            InvalidCost: The cost is not a whole number from 1 to 10^11, or is for an unknown policy.
            InvalidPolicy: ``limits`` returned an invalid limit. (What ``limits`` and ``exempt`` raise propagates.)
            StoreError: As for `take`.
        """
        return self._ask(key, cost, False, self._plan.decision)

    def wait(
        self,
        key: Key = NO_KEY,
        cost: Cost = 1,
        *,
        timeout: float | timedelta | None = None,
        overtake: bool = False,
    ) -> Decision:
        """Wait until ``cost`` units can be taken for ``key``, take them, and return the decision.

        Callers that wait for the same counters are served in order, whatever their cost: a cheap one never overtakes a
        dear one. (`take`, and other processes, may.) There is no polling: the first in line sleeps for as long as its
        denial says. A thread waits for no counter but its own.

        A wait that cannot be met is not begun: if the cost never fits, or if what the store says is longer than
        ``timeout``, the denial is returned at once. It does not count how many wait in front. An exception that
        interrupts it (of a signal handler) may leave the cost taken.

        Args:
            key: What to count under: any text; for policies with ``per`` a mapping with exactly their attributes.
            cost: Units to take, a whole number from 1 to 10^11, or a mapping from policy names to such numbers.
            timeout: Seconds (or a ``timedelta``) to wait at most, 0 or more; None for as long as it takes. By the clock
                of a `MemoryStore` that has a `ManualClock`. A call of the store that has begun by then is completed.
            overtake: Wait beside the line and not in it, so that a cheap request need not wait behind a dear one.

        Returns:
            The decision. It is denied, and nothing was taken, if the time is over, or if ``max_waiting`` others wait.

        Raises:
            InvalidKey: As for `take`. Nothing was taken.
            InvalidCost: As for `take`. Nothing was taken.
            InvalidSpan: ``timeout`` is negative or not a number. Nothing was taken.
            InvalidPolicy: ``limits`` returned an invalid limit; or a policy lends permits, which `reserve` does.
            LimiterClosed: The limiter was closed. Nothing was taken.
            StoreError: As for `take`, for everybody whose turn it would have been.
        """
        plan = self._plan
        waiting = self._waiting
        if not plan.is_direct:
            return plan.decision(*self._take_in_turn(key, cost, timeout, overtake, "wait"))
        seconds = None if timeout is None else checked_timeout(timeout)
        if waiting.is_instant:  # a shorter way to the same
            request = plan.request(key, cost, True)
            answer = self._store.decide(request)
            if is_allowed(answer):
                return plan.decision(request, answer)
        request = plan.request(key, cost, True, reserves=True)
        return plan.decision(request, waiting.wait(request, seconds, overtake=overtake))

    def reserve(
        self,
        key: Key = NO_KEY,
        cost: Cost = 1,
        *,
        wait: bool = False,
        timeout: float | timedelta | None = None,
        charge_when: ChargeWhen = "always",
        on_lost: Callable[[], object] | None = None,
    ) -> Reservation:
        """Charge an estimate while a block runs, and what was used when it ends.

        As in ``with limiter.reserve(key, 1200) as r: r.settle(call_model())``.

        If the estimate is denied, the block runs all the same, and ``r`` is false. Inside, ``r.settle(actual)`` notes
        what was used, more or less than the estimate, and ``r.cancel()`` that nothing was. It is sent once, when the
        block ends. Without it the estimate stands, also if the block raises or the process dies.

        Permits of a `Concurrency` are held for as long as the block runs, and renewed meanwhile.

        Args:
            key: What to count under: any text; for policies with ``per`` a mapping with exactly their attributes.
            cost: The estimate, a whole number from 1 to 10^11, or a mapping from policy names to such numbers.
            wait: Whether to wait for one's turn, as `wait` does.
            timeout: Seconds to wait at most, with ``wait=True``; None for as long as it takes.
            charge_when: When an estimate stands for which nothing was noted: ``"always"``; ``"success"`` gives it back
                if the block raises; ``"failure"`` gives it back unless the block raises, to count failures only.
            on_lost: Called without arguments, in a thread of its own, if permits have come back before the end of the
                block, as they could not be renewed in time. See `Reservation.lost`.

        Raises:
            InvalidPolicy: A policy has ``buckets``, which cannot be settled; or an argument is invalid.
            InvalidSpan: ``timeout`` is negative or not a number, or is given without ``wait=True``.
            InvalidStore: The store is your own, and is not a `sluicegate.stores.ReservingStore`.

        Entering the block raises what `take` does. Leaving it raises a `StoreError` only with ``on_outage="raise"``,
        and only if the block did not raise itself; otherwise what could not be sent is counted in ``statistics()``.
        """
        self._plan.check_can_reserve()
        if timeout is not None and not wait:
            raise InvalidSpan(f"timeout={short_repr(timeout)} is for a wait: write wait=True as well", span=timeout)
        checked_timeout(timeout)
        if wait:
            return self._turn(key, cost, timeout, charge_when, on_lost)
        begin = partial(self._take_at_once, key, cost)
        return self._reservation(begin, charge_when, on_lost)

    def limited(
        self,
        key: Key | Callable[..., Key] = NO_KEY,
        cost: Cost | Callable[..., Cost] = 1,
        *,
        timeout: float | timedelta | None = None,
    ) -> Limited:
        """Let a function, or a block, wait its turn before it runs: for outgoing calls, and jobs.

        ``@limiter.limited("api")`` above a function, or ``with limiter.limited("api", timeout=5):``. Permits of a
        `Concurrency` are held while it runs.

        Args:
            key: The key; or for a function, a function of its arguments that returns the key.
            cost: Units to take, likewise.
            timeout: Seconds to wait at most; None for as long as it takes.

        Raises:
            InvalidSpan: ``timeout`` is negative or not a number.

        Calling the function, or entering the block, raises `NotAllowed`, with the denial as its ``decision``, if its
        turn does not come in time; `InvalidStore` as `reserve` does; and what `wait` raises.
        """
        checked_timeout(timeout)
        return Limited(lambda key, cost: self._turn(key, cost, timeout), key, cost)

    def _turn(
        self,
        key: Key,
        cost: Cost,
        timeout: float | timedelta | None,
        charge_when: ChargeWhen = "always",
        on_lost: Callable[[], object] | None = None,
    ) -> Reservation:
        """Return a reservation that waits its turn."""
        begin = partial(self._take_in_turn, key, cost, timeout, False, "reserve")
        return self._reservation(begin, charge_when, on_lost)

    def _reservation(
        self, begin: Callable[[], Answered], charge_when: ChargeWhen, on_lost: Callable[[], object] | None
    ) -> Reservation:
        self._check_reserves()
        now, end, keep = self._waiting.timing.now, self._send_settlements, self._renewing.add
        return Reservation(self._plan, charge_when, on_lost, now, begin, end, keep)

    def charge(self, key: Key = NO_KEY, cost: Cost = 1) -> None:
        """Charge what has happened already, whatever the limit. Later requests wait until it has left.

        For what a provider says afterwards that was used. A key that is in debt has 0 remaining. A log or a count holds
        10^12 units at most, a bucket 2^53 unit microseconds; what is above that is left out, and counted as
        ``saturated`` in `statistics`.

        Args:
            key: What to count under: any text; for policies with ``per`` a mapping with exactly their attributes.
            cost: Units to charge, a whole number from 1 to 10^11, or a mapping from policy names to such numbers.

        Raises:
            InvalidKey: As for `take`. Nothing was charged.
            InvalidCost: As for `take`. Nothing was charged.
            InvalidPolicy: A policy lends permits, which `reserve` does. Nothing was charged.
            StoreError: Only with ``on_outage="raise"``. With ``"local"`` it is charged here, and sent to the store
                later; otherwise it is lost, and counted as ``unsettled`` in `statistics`.
        """
        plan = self._plan
        plan.check_lends_nothing("charge")
        request = plan.request(key, cost, True)
        plan.check_open()
        if plan.is_bypassed(key):
            return
        if plan.limits is not None:
            request = plan.with_limits(request, plan.limits.of(key))
        request = plan.debt(request)
        if not self._is_charged(request):  # some counter is full: charge the others
            charged = [self._is_charged(each) for each in plan.one_by_one(request)]
            plan.tally.saturated += charged.count(False)

    def _is_charged(self, request: Request) -> bool:
        try:
            return is_allowed(self._store.decide(request))
        except StoreError as error:
            return is_allowed(self._plan.charge_without_store(request, error))

    def forget(self, key: Key) -> None:
        """Drop what was counted for ``key``, and any block on it: its whole limit is free again, on all instances.

        Every counter that the key names is dropped: with the mapping that `take` was given, the tenant's as well as the
        user's. To drop fewer, name a part of the attributes, ``{"user": "alice"}``. Shared policies are never dropped.

        Args:
            key: A key, or a part of its attributes.

        Raises:
            InvalidKey: The key is not text, or no policy counts by its attributes alone.
            StoreError: The store could not be reached, refused, or did not answer in time; whatever ``on_outage`` says.
                What this instance counts in outages is dropped all the same.
        """
        counters = self._plan.forget(key)
        self._store.forget(counters)
        self._plan.forget(key)  # again: replies that were on their way may have said how much was used
        self._waiting.look_again_in_all()

    def block(self, key: Key, seconds: float | timedelta) -> None:
        """Deny every request of ``key`` for a while, on all instances. What was counted stays.

        Every counter that the key names is blocked: with the mapping that `take` was given, the tenant's as well, and
        so all of its users. To block fewer, name a part of the attributes: ``{"user": "mallory"}`` is denied wherever a
        policy counts by the user. A shared policy is never blocked.

        Args:
            key: A key, or a part of its attributes.
            seconds: From now, by the store's clock, in place of any block before; up to ten years. 0 lifts a block.

        Raises:
            InvalidSpan: ``seconds`` is not from 0 to ten years. Nothing was changed.
            InvalidKey: The key is not text, or no policy counts by its attributes alone. Nothing was changed.
            StoreUnavailable: The store could not be reached, or refused: nothing was changed there, whatever
                ``on_outage`` says. Or a counter's key holds something else on the server: the other counters are
                blocked. What this instance decides in outages is blocked all the same.
            StoreTimeout: The store did not answer in time. The block may be in force.
        """
        span_us = checked_span_us(seconds)
        counters = self._plan.block(key, span_us)
        self._store.block(counters, span_us)
        self._waiting.look_again_in_all()

    def close(self) -> None:
        """Close the store, if this limiter made it. Every verb raises `LimiterClosed` until the limiter is entered."""
        self._end()
        if self._owned:
            self._store.close()

    def _ask(self, key: Key, cost: Cost, commit: bool, finish: Finish[Outcome]) -> Outcome:
        plan = self._plan
        request = plan.request(key, cost, commit)
        if not plan.is_direct:
            if commit:
                plan.check_lends_nothing("take")
            request, answer = self._looked_up(key, request)
            if answer is not None:
                return finish(request, answer)
        try:
            verdicts = self._store.decide(request)
        except StoreError as error:
            verdicts = plan.without_store(request, error)
        return finish(request, verdicts)

    def _looked_up(self, key: Key, request: Request) -> tuple[Request, list[Verdict] | None]:
        """Return the request under the limits of its key, and its answer if that needs no store."""
        plan = self._plan
        plan.check_open()
        if plan.is_bypassed(key):
            return request, plan.bypass(request)
        if plan.limits is not None:
            request = plan.with_limits(request, plan.limits.of(key))
            if plan.is_suspended(request):
                return request, plan.suspension(request)
        return request, None

    def _decide(self, request: Request) -> list[Verdict]:
        try:
            return self._store.decide(request)
        except StoreError as error:
            return self._plan.without_store(request, error)

    def _take_in_turn(
        self, key: Key, cost: Cost, timeout: float | timedelta | None, overtake: bool, verb: str
    ) -> Answered:
        plan, seconds = self._plan, checked_timeout(timeout)
        if verb == "wait":
            plan.check_lends_nothing(verb)
        request = plan.request(key, cost, True, reserves=True)
        if not plan.is_direct:
            request, answer = self._looked_up(key, request)
            if answer is not None:
                return request, answer
        return request, self._waiting.wait(request, seconds, overtake=overtake)

    def _take_at_once(self, key: Key, cost: Cost) -> Answered:
        plan = self._plan
        request = plan.request(key, cost, True, reserves=True)
        if not plan.is_direct:
            request, answer = self._looked_up(key, request)
            if answer is not None:
                return request, answer
        return request, self._decide(request)

    def _send_settlements(self, reservation: Reservation, settlements: list[Settlement], failed: bool) -> None:
        self._renewing.remove(reservation)
        request, answer = reservation.answered
        if not settlements or request is None:
            return
        try:
            if self._plan.settle_here(answer, settlements) is None:
                self._store.settle(settlements, request.within)  # type: ignore[attr-defined]
        except StoreError as error:
            self._plan.not_recorded(error, raises=not failed)
        self._waiting.look_again(request)

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
