"""Reservations: a charge whose amount is known only afterwards, and permits that are held while a block runs.

A reservation charges its estimate when its block begins. While it is open, all that it notes stays here; leaving the
block sends it, in one call. Both classes share what is not I/O.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from os import getpid
from threading import get_ident
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self, get_args

from sluicegate._core.decision import Decision, Verdict
from sluicegate._core.errors import InvalidCost, InvalidPolicy, ReservationError, meant, short_repr
from sluicegate._core.policies import Cost
from sluicegate._core.policy import MAX_UNITS
from sluicegate._core.request import Request, Settlement
from sluicegate._limiter.callbacks import is_async
from sluicegate._limiter.plan import Plan
from sluicegate._stores.base import Fallback

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

ChargeWhen = Literal["always", "success", "failure"]
"""When an estimate stands that nothing was noted for: always; only if the block succeeds; or only if it raises."""

_CHARGE_WHEN: tuple[str, ...] = get_args(ChargeWhen)

Answered = tuple[Request, list[Verdict]]


class Held:
    """The permits that a reservation holds.

    Attributes:
        leases: The leases on them, as they are renewed.
        ttl: Seconds for which a lease is renewed.
        is_here: Whether they were lent in an outage, in memory.
        until: When they may be lent to others, if they are not renewed.
        renew_at: When they are to be renewed.
        loop: The event loop that their block runs in; None in a thread.
    """

    def __init__(self, leases: list[Settlement], ttl: float, is_here: bool, sent_at: float) -> None:
        self.leases = leases
        self.ttl = ttl
        self.is_here = is_here
        self.loop: AbstractEventLoop | None = None
        self.renewed(sent_at)

    def renewed(self, sent_at: float) -> None:
        """Take note of a renewal that was sent at a time."""
        self.until = sent_at + self.ttl
        self.renew_at = sent_at + self.ttl / 3


class _Reservation:
    """What both kinds share: the state of one reservation, and what is to be sent when it ends."""

    def __init__(
        self, plan: Plan, charge_when: ChargeWhen, on_lost: Callable[[], object] | None, now: Callable[[], float]
    ) -> None:
        if charge_when not in _CHARGE_WHEN:
            expected = ", ".join(map(repr, _CHARGE_WHEN))
            raise InvalidPolicy(f"charge_when must be one of {expected}, got {short_repr(charge_when)}")
        if on_lost is not None and (not callable(on_lost) or is_async(on_lost)):
            raise InvalidPolicy(f"on_lost must be a synchronous function without arguments, got {short_repr(on_lost)}")
        self._plan = plan
        self._charge_when = charge_when
        self._on_lost = on_lost
        self._decision: Decision | None = None
        self._request: Request | None = None
        self._answer: list[Verdict] = []
        self._actual: Cost | None = None
        self._state: Literal["new", "open", "ended"] = "new"
        self._owner: object = None
        self._process = 0
        self._is_lost = False
        self._held: Held | None = None
        self._now: Callable[[], float] = now

    @property
    def decision(self) -> Decision:
        """The decision on the estimate. Raises `ReservationError` before the block has begun."""
        if self._decision is None:
            raise ReservationError(
                "this reservation has not begun, nothing was taken: enter it, with limiter.reserve(...)"
            )
        return self._decision

    @property
    def allowed(self) -> bool:
        """Whether the estimate was allowed; the reservation itself is true if it was."""
        return self.decision.allowed

    def __bool__(self) -> bool:
        return self.allowed

    @property
    def lost(self) -> bool:
        """Whether permits of this reservation have come back before its end: somebody else may hold them.

        True from the moment that they may be lent to others: ``ttl`` after the last renewal that was sent and answered,
        by this process's clock; so a process that was paused sees it as soon as it runs again. After `forget`, or if
        the store lost its data, it is true with the next renewal, a third of the ``ttl`` later at most. False without
        permits.
        """
        return self._is_lost or (self._held is not None and self._now() >= self._held.until)

    def settle(self, actual: Cost) -> None:
        """Note what was used: it becomes the charge when the block ends. The last call counts.

        Args:
            actual: Units, a whole number from 0 to 10^11, for all policies; or a mapping from policy names to such
                numbers, where the estimate of a policy that is not in it stays. Permits are not settled.

        Raises:
            InvalidCost: Not such a number, or for an unknown policy, or for one that lends permits. Nothing was noted.
            ReservationError: The block has not begun or has ended, or another thread runs it. Nothing was noted.
        """
        self._check_owner()
        self._actual = _checked_actual(actual, self._plan)

    def cancel(self) -> None:
        """Give the whole estimate back when the block ends, as ``settle(0)`` does."""
        self.settle(0)

    def _check_owner(self) -> None:
        if self._state != "open":
            what = "has not begun" if self._state == "new" else "has ended"
            raise ReservationError(f"this reservation {what}, nothing was noted: settle it inside its block")
        if self._owner != get_ident():
            raise ReservationError(
                "this reservation belongs to another thread, nothing was noted: settle it there; where a framework "
                "changes threads in the middle, use an AsyncLimiter"
            )

    @property
    def answered(self) -> tuple[Request | None, list[Verdict]]:
        """The request, and the answer to it; not for users."""
        return self._request, self._answer

    def _begin(self) -> None:
        if self._state != "new":
            raise ReservationError("this reservation was entered before, nothing was taken: make one for each block")
        self._state = "open"
        self._owner = get_ident()
        self._process = getpid()
        self._began_at = self._now()

    def _begun(self, answered: Answered, decision: Decision) -> None:
        self._request, self._answer = answered
        self._decision = decision

    def _end(self, failed: bool) -> list[Settlement]:
        """Return what is to be sent, now that the block has ended."""
        self._state = "ended"
        if self._decision is None or self._request is None or not self._decision.allowed:
            return []
        if self._process != getpid():  # a forked child leaves the block as well, and the parent still runs it
            return []
        actual = self._actual
        if actual is None and self._charge_when == ("success" if failed else "failure"):
            actual = 0
        charges = self._request.charges
        units = [0 if charge.policy.lends else _units(actual, charge.policy.name, charge.cost) for charge in charges]
        settlements = self._plan.settlements(self._request, self._answer, units)
        if self.lost and not self._is_lost:  # nobody has noticed yet
            self._is_lost = True
            self._plan.tally.leases_lost += 1
        self._held = None
        return settlements

    def _end_unused(self) -> list[Settlement]:
        """Return what gives everything back, now that the block cannot run."""
        self._actual = 0
        return self._end(failed=True)

    def hold(self) -> Held | None:
        """Return the leases on its permits; None if it holds none."""
        leases = self._leases()
        if leases:
            ttl = min(lease.policy.window for lease in leases)
            asked_at: float | None = getattr(self._answer, "asked_at", None)
            sent_at = self._began_at if asked_at is None else asked_at  # a wait may be longer than the ttl
            self._held = Held(leases, ttl, isinstance(self._answer, Fallback), sent_at)
        return self._held

    def _leases(self) -> list[Settlement]:
        """Return the leases on its permits, as they are renewed."""
        marks = getattr(self._answer, "marks", None)
        if marks is None or self._request is None:
            return []
        return [
            Settlement(*charge, mark, charge.cost)
            for charge, mark in zip(self._request.charges, marks, strict=True)
            if charge.policy.lends
        ]

    def lose(self) -> Callable[[], object] | None:
        """Take note that its permits have come back. Returns the user's function, if it is to be called: once."""
        if self._is_lost or self._state != "open":
            return None
        self._is_lost = True
        self._plan.tally.leases_lost += 1
        return self._on_lost

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._state}, {self._decision!r})"


class Reservation(_Reservation):
    """What ``Limiter.reserve`` returns: a context manager for one block, which is true inside if it was allowed."""

    def __init__(
        self,
        plan: Plan,
        charge_when: ChargeWhen,
        on_lost: Callable[[], object] | None,
        now: Callable[[], float],
        begin: Callable[[], Answered],
        end: Callable[[Reservation, list[Settlement], bool], None],
        keep: Callable[[Reservation], None],
    ) -> None:
        super().__init__(plan, charge_when, on_lost, now)
        self._ask, self._send, self._keep = begin, end, keep

    def __enter__(self) -> Self:
        self._begin()
        try:
            answered = self._ask()
            self._begun(answered, self._plan.decision(*answered))
        except BaseException:
            self._state = "ended"
            raise
        try:
            self._keep(self)
        except BaseException:  # no thread could be started to renew its permits: the block does not run
            self._send(self, self._end_unused(), True)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._send(self, self._end(failed=error is not None), error is not None)


class AsyncReservation(_Reservation):
    """What ``AsyncLimiter.reserve`` returns; the twin of `Reservation`, for ``async with``."""

    def __init__(
        self,
        plan: Plan,
        charge_when: ChargeWhen,
        on_lost: Callable[[], object] | None,
        now: Callable[[], float],
        begin: Callable[[], Awaitable[Answered]],
        end: Callable[[AsyncReservation, list[Settlement], bool], Awaitable[None]],
        keep: Callable[[AsyncReservation], None],
    ) -> None:
        super().__init__(plan, charge_when, on_lost, now)
        self._ask, self._send, self._keep = begin, end, keep

    async def __aenter__(self) -> Self:
        self._begin()
        try:
            answered = await self._ask()
            self._begun(answered, self._plan.decision(*answered))
        except BaseException:
            self._state = "ended"
            raise
        try:
            self._keep(self)
        except BaseException:  # no task could be started, likewise
            await self._send(self, self._end_unused(), True)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._send(self, self._end(failed=error is not None), error is not None)


def _units(actual: Cost | None, policy: str, cost: int) -> int:
    if actual is None:
        return cost
    return actual if isinstance(actual, int) else actual.get(policy, cost)


def _checked_actual(actual: Cost, plan: Plan) -> Cost:
    if not isinstance(actual, Mapping):
        return _checked_units(actual, None)
    settled = {policy.name for policy in plan.policies.all if not policy.lends}
    for name in actual:
        if name not in settled:
            raise InvalidCost(
                actual,
                policy=name if isinstance(name, str) else None,
                message=f"no policy that can be settled is named {short_repr(name)}: there is "
                f"{', '.join(sorted(settled)) or 'none'}{meant(name, settled)}",
            )
    return {name: _checked_units(units, name) for name, units in actual.items()}


def _checked_units(units: object, policy: str | None) -> int:
    if isinstance(units, bool) or not isinstance(units, int) or not 0 <= units <= MAX_UNITS:
        where = "" if policy is None else f" of policy {policy}"
        raise InvalidCost(
            units,
            policy=policy,
            message=f"what was used{where} must be a whole number from 0 to {MAX_UNITS}, got {short_repr(units)}",
        )
    return int(units)
