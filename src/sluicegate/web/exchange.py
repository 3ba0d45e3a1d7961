"""An exchange: one request on its way through an app, with what was decided of it, and what is still to be settled.

It is decided in up to two steps, each of them all or nothing. The first has what the request alone says; the last has
the rest, once the app knows who makes the request. What the first step charged is given back if the last one denies.
Nothing here reads a header or knows a framework.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from sluicegate._core.decision import Decision, Verdict, decision_of
from sluicegate._core.errors import InvalidCost, InvalidKey, StoreError, short_repr
from sluicegate._core.policies import Cost
from sluicegate._core.policy import MAX_UNITS
from sluicegate._limiter.reservation import AsyncReservation
from sluicegate.web.answers import Message, Receive, Refusal, Scope, Send
from sluicegate.web.budget import Asked, Terms, joined
from sluicegate.web.identity import InvalidIdentity
from sluicegate.web.limiters import LimiterOfSet, SuspendedSet, field_list, rounds
from sluicegate.web.turns import ClientLeft, turn_of, while_connected

if TYPE_CHECKING:
    from sluicegate.web.engine import Engine
    from sluicegate.web.gate import Inlet

logger = logging.getLogger("sluicegate")

ERRORS = (StoreError, InvalidIdentity, InvalidKey, InvalidCost, ClientLeft)
"""What a step may raise that refuses its request alone."""

_AT_ONCE: Final = (0.0, None)

_EXPOSE = b"access-control-expose-headers"


class Started:
    """A response that has started: its status and its headers, by lower-case name."""

    __slots__ = ("_raw", "status_code")

    def __init__(self, message: Message) -> None:
        self.status_code: int = message["status"]
        self._raw = message.get("headers", ())

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers; of a repeated one the last."""
        return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in self._raw}


class Exchange:
    """One request.

    Args:
        engine: Decides it.
        scope: Its ASGI scope.

    Attributes:
        decision: The decision of the last step so far; None before the first one.
        refusal: Why it is refused; None if it is not.
        pending: What is asked and was not decided yet; an integration may put there what it asks only then.
        held: What is to be settled or released when it ends.
        is_over: Whether what is noted has been sent.
        is_guarded: Whether a `Gate` sees its response: adds the fields, settles, and decides what is pending.
        inlet: Where a request that waits hears its client; None where nobody listens.
    """

    __slots__ = (
        "_answers",
        "_engine",
        "_settled",
        "decision",
        "held",
        "inlet",
        "is_guarded",
        "is_over",
        "pending",
        "refusal",
        "scope",
    )

    def __init__(self, engine: Engine, scope: Scope) -> None:
        self.scope = scope
        self.decision: Decision | None = None
        self.refusal: Refusal | None = None
        self.pending: list[Any] = []
        self.is_guarded = False
        self.inlet: Inlet | None = None
        self._engine = engine
        self._answers: list[tuple[LimiterOfSet | SuspendedSet, Decision]] = []
        self.held: list[tuple[AsyncReservation, Sequence[Asked]]] = []
        self._settled: dict[str, int] = {}
        self.is_over = False

    async def decide(self, asked: Sequence[Asked], *, is_last: bool) -> Refusal | None:
        """Decide a step. Returns why the request is refused, or None.

        Args:
            asked: What it asks; at least one.
            is_last: Whether no other step follows, so that nothing is given back.
        """
        stands = is_last and _stand(asked)
        if not stands:
            apart, rest = _divided(asked)
            if apart and rest:
                if await self.decide(apart, is_last=True) is None:
                    await self.decide(rest, is_last=is_last)
                return self.refusal
        try:
            decision = await self._decide(asked, stands)
        except ERRORS as error:
            self.refuse_for(self._engine.refusal_of(error))
        else:
            self.decision = decision
            bans = self._engine.bans
            if decision.allowed:
                if bans.watched:
                    bans.allowed(asked)
            else:
                refusal = self._engine.refusal(decision, _message(asked, decision))
                if refusal.decision is not None and await bans.note(asked, decision):
                    refusal = self._engine.refusal(decision, _message(asked, decision), is_banned=True)
                self.refuse_for(refusal)
            if self.refusal is not None and self.refusal.decision is None:
                self._answers.pop()  # nobody decided, so the fields have nothing to say
        return self.refusal

    def suspend(self, limit: str) -> None:
        """Deny the request, as its plan under a limit is suspended, unless limits are off. Nothing is counted."""
        if not self._engine.limiters.is_on:
            return
        began_at = time.perf_counter()
        decision = Decision(False, limit, 0, 0, math.inf, 0.0, "fallback")
        self.decision = decision
        self._answers.append((SuspendedSet(limit), decision))
        self.refuse_for(self._engine.refusal(decision, None))
        self._engine.note(decision, began_at)

    def refuse_for(self, refusal: Refusal) -> None:
        """Refuse the request. After a denial, give back what earlier steps charged, which the answer does not wait for.

        Without a decision, or without a valid key, the first charge stands: else it would be a way past it.
        """
        self.refusal = refusal
        if refusal.decision is None:
            return
        held, self.held = self.held, []
        for reservation, asked in held:
            self._show_given_back(reservation.decision, asked)
            self._give_back(reservation)

    def _show_given_back(self, decision: Decision, asked: Sequence[Asked]) -> None:
        """Let the fields say what remains once a charge has been given back."""
        _, _, cost = joined(asked)
        for number, (each, answer) in enumerate(self._answers):
            if answer is decision:
                self._answers[number] = each, _without(answer, cost)

    async def _decide(self, asked: Sequence[Asked], stands: bool) -> Decision:
        on_decision = self._engine.on_decision
        began_at = 0.0 if on_decision is None else time.perf_counter()
        policies, key, cost = joined(asked)
        seconds, most = _AT_ONCE if stands else turn_of(asked)
        limiter_of_set = self._engine.limiters.of(policies, most)
        limiter = limiter_of_set.limiter
        if stands or not limiter_of_set.can_reserve:
            decision = await limiter.take(key, cost)
        else:
            reservation = limiter.reserve(key, cost, wait=seconds > 0, timeout=seconds or None)
            await self._enter(reservation, waits=seconds > 0)
            decision = reservation.decision
            if decision.allowed:
                self.held.append((reservation, asked))
        self._answers.append((limiter_of_set, decision))
        if on_decision is not None:
            self._engine.note(decision, began_at)
        return decision

    async def _enter(self, reservation: AsyncReservation, *, waits: bool) -> None:
        """Enter a reservation, which may wait for its turn. If that is cut short, nothing stays taken."""
        if not waits or self.inlet is None:
            await reservation.__aenter__()
            return
        entering = asyncio.ensure_future(reservation.__aenter__())
        try:
            await while_connected(entering, self.inlet.closed)
        except BaseException:
            # Its turn may have come in the moment in which its client left, or the request was cancelled.
            entering.add_done_callback(self._give_back_if_entered)
            raise

    def _give_back_if_entered(self, entering: asyncio.Future[AsyncReservation]) -> None:
        if not entering.cancelled() and entering.exception() is None:
            self._give_back(entering.result())

    def _give_back(self, reservation: AsyncReservation) -> None:
        """Give back what a reservation has taken; no answer waits for that."""
        reservation.cancel()
        self._engine.later(reservation.__aexit__(None, None, None))

    @property
    def may_wait(self) -> bool:
        """Whether it may have to wait for its turn."""
        return self._engine.waits

    async def decide_pending(self) -> Refusal | None:
        """Decide what was asked before the app answered without asking the rest, so that nobody gets past it."""
        asked, self.pending = self.pending, []
        return await self.decide(asked, is_last=True) if asked else None

    def fields(self) -> list[tuple[bytes, bytes]]:
        """Return the fields of the response. Scripts of other origins may read them where they may read it at all."""
        fields = field_list(self._answers, self._engine.fields)
        if fields:
            for name, _ in self.scope["headers"]:
                if name == b"origin":
                    # The request tells, not the response: what allows origins mostly stands further out.
                    fields.append((_EXPOSE, b", ".join([*[name for name, _ in fields], b"retry-after"])))
                    break
        return fields

    def settle(self, policy: str, units: int) -> None:
        """Note what a policy's charge turned out to be, until the exchange ends."""
        self._settled[policy] = units

    def started(self, message: Message) -> None:
        """Note what follows from the response, if it has a status, for what was charged."""
        if "status" not in message:
            return
        for _, asked in self.held:
            for each in asked:
                if each.budget.settles:
                    self._note_outcome(each, Started(message))

    def _note_outcome(self, asked: Asked, started: Started) -> None:
        terms: Terms = asked.budget.terms
        units: int | None = None
        try:
            if terms.actual is not None:
                units = terms.actual(started)
            if terms.charge_when is not None and not terms.charge_when(started):
                units = 0
        except Exception:
            logger.exception("charge_when or actual raised for %s, so the charge stands", asked.budget.name)
        if units is None:
            return
        if isinstance(units, bool) or not isinstance(units, int) or not 0 <= units <= MAX_UNITS:
            logger.error(
                "actual must return a whole number from 0 to %d, got %s for %s, so the charge stands",
                MAX_UNITS,
                short_repr(units),
                asked.budget.name,
            )
            return
        for policy in asked.policies:
            self._settled.setdefault(str(policy.name), units)

    async def end(self) -> None:
        """Settle what was charged, and release what was lent. Safe to call again."""
        self.is_over = True
        held, self.held = self.held, []
        if len(held) > 1:  # a task that is cancelled at the first one must end the others, too
            await asyncio.shield(asyncio.ensure_future(self._end(held)))
        else:
            await self._end(held)

    async def _end(self, held: Sequence[tuple[AsyncReservation, Sequence[Asked]]]) -> None:
        for reservation, asked in held:
            self._hand_on(reservation, asked)
            with suppress(StoreError):  # the response has begun: what could not be sent is counted in the statistics
                await reservation.__aexit__(None, None, None)

    def close(self) -> None:
        """Note that the request is over."""
        self.is_over = True

    def _hand_on(self, reservation: AsyncReservation, asked: Sequence[Asked]) -> None:
        own = {str(policy.name) for each in asked for policy in each.policies if not policy.lends}
        units = {name: self._settled[name] for name in own & self._settled.keys()}
        if units:
            reservation.settle(units)

    async def refuse(self, receive: Receive, send: Send) -> None:
        """Answer a request that is refused."""
        assert self.refusal is not None  # noqa: S101 - the caller has looked
        app = await self._engine.answer(self.refusal, self.scope)
        await app(self.scope, receive, send)


def _without(decision: Decision, cost: Cost) -> Decision:
    """Return a decision as it would read without its charge."""
    names, limits, verdicts = [], [], []
    for part in decision.decisions:
        units = cost.get(part.policy, 1) if isinstance(cost, Mapping) else cost
        names.append(part.policy)
        limits.append(part.limit)
        verdicts.append(Verdict(part.allowed, part.remaining + units, 0, round(part.reset_after * 1_000_000)))
    return decision_of(names, limits, verdicts, decision.source)


def _stand(asked: Sequence[Asked]) -> bool:
    """Return whether all charges are final once made: without waits, settling or leases."""
    for each in asked:
        budget = each.budget
        if not budget.stands and (budget.settles or budget.terms.wait or any(policy.lends for policy in each.policies)):
            return False
    return True


def _divided(asked: Sequence[Asked]) -> tuple[Sequence[Asked], Sequence[Asked]]:
    """Return what must be decided by itself, and the rest, of what may be given back.

    A policy with ``buckets`` cannot be reserved, so it is separated from a limit whose charge may be settled.
    """
    apart = [each for each in asked if any(map(rounds, each.policies))]
    return apart, [each for each in asked if each not in apart]


def _message(asked: Sequence[Asked], decision: Decision) -> str | None:
    """Return the message of the limit that denies."""
    for each in asked:
        if any(policy.name == decision.policy for policy in each.policies):
            return each.budget.terms.message
    return None


def with_fields(message: Message, fields: list[tuple[bytes, bytes]]) -> None:
    """Add fields to a response that starts."""
    if fields:
        message["headers"] = [*(message.get("headers") or ()), *fields]
