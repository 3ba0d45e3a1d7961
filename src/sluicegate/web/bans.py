"""Bans at work: an app's denials are counted, and a key that was denied too often is banned by one of its instances.

To ban a key is to block its counters: the limit's own, so that its requests are denied, and those of the ban (see
`ban`). An instance that is then denied the unit of *ban* knows that the key is banned already, and for how long.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any

from sluicegate._core.decision import Decision
from sluicegate._core.errors import StoreError
from sluicegate._core.keys import CounterKey, Digest, Key, memory_key
from sluicegate._core.policy import Policy
from sluicegate._limiter.async_limiter import AsyncLimiter
from sluicegate._stores.memory.awaited import AwaitedMemoryStore
from sluicegate.web.ban import policies_of
from sluicegate.web.budget import Asked, Budget, joined
from sluicegate.web.limiters import Limiters

logger = logging.getLogger("sluicegate")

INTERVAL = 1.0
"""Seconds within which the denials of one key are sent together to a server."""

_MOST_WATCHED = 4096  # keys with a denial not long ago, in one process


class Bans:
    """The bans of an app's limits, as one process sees them.

    Args:
        limiters: The limiters of the app.
        later: Runs what no answer waits for.

    Attributes:
        watched: The keys that were denied not long ago.
    """

    def __init__(self, limiters: Limiters, later: Callable[[Coroutine[Any, Any, None]], None]) -> None:
        self._limiters = limiters
        self._later = later
        self._counters: dict[tuple[Budget, tuple[str, ...]], _Counters] = {}
        self._store = limiters.store
        self.watched: OrderedDict[tuple[str, CounterKey | Digest], _Watched] = OrderedDict()

    def allowed(self, asked: Sequence[Asked]) -> None:
        """Take note that a request was allowed: a ban of its key is over, or was lifted."""
        for each in asked:
            if each.budget.terms.ban is not None and (watched := self.watched.get(_name(each))) is not None:
                watched.banned_until = -math.inf

    async def note(self, asked: Sequence[Asked], decision: Decision) -> bool:
        """Take note of a denial. Returns whether the key is banned, as far as this process knows.

        In memory it counts at once; on a server within a second, together with others of the key, and the answer to the
        request does not wait for that.
        """
        if self._store is not self._limiters.store:  # in a test, or after it
            self._store = self._limiters.store
            self.watched.clear()
        denied = {part.policy for part in decision.decisions if not part.allowed}
        is_banned = False
        for each in asked:
            if each.budget.terms.ban is not None and any(policy.name in denied for policy in each.policies):
                is_banned |= await self._note(each, decision.retry_after)
        return is_banned

    async def _note(self, asked: Asked, wait: float) -> bool:
        watched = self._watch(asked)
        if isinstance(self._limiters.store, AwaitedMemoryStore):
            return await self._note_at_once(watched)
        left = watched.banned_until - time.monotonic()
        if left > 0 and wait > left - INTERVAL:
            return True
        watched.banned_until = -math.inf  # it waits for less than that: somebody has lifted the ban
        watched.denials += 1
        if not watched.is_sending:
            watched.is_sending = True
            self._later(self._send_in_time(watched))
        return False

    async def _note_at_once(self, watched: _Watched) -> bool:
        with suppress(StoreError):  # of a store in memory that a test lets fail
            if not (await watched.counters.claim.peek(watched.key)).allowed:
                return True
        watched.denials += 1
        await self._send(watched)
        return False

    def _watch(self, asked: Asked) -> _Watched:
        """Return what is known of a key's denials, as the latest of those that are watched."""
        name = _name(asked)
        watched = self.watched.pop(name, None)
        policies, key, _ = joined((asked,))
        if watched is None or watched.policies is not policies:  # under a plan that changed
            watched = _Watched(asked.budget.name, policies, key, self._counters_of(asked.budget, policies[0].per))
        self.watched[name] = watched
        if len(self.watched) > _MOST_WATCHED:
            self.watched.popitem(last=False)  # what it has not sent yet, its task sends
        return watched

    async def _send_in_time(self, watched: _Watched) -> None:
        await asyncio.sleep(max(watched.sends_at - time.monotonic(), 0))
        watched.sends_at = time.monotonic() + INTERVAL
        watched.is_sending = False
        await self._send(watched)

    async def _send(self, watched: _Watched) -> None:
        """Count the denials of a key, and ban it if they are enough. While its store is down nobody is banned."""
        denials, watched.denials = watched.denials, 0
        try:
            strikes = await watched.counters.strikes.take(watched.key, denials)
            is_enough = not strikes.allowed or not strikes.remaining
            if is_enough and strikes.source != "fallback":
                watched.banned_until = time.monotonic() + await self._ban(watched)
        except StoreError as error:
            logger.debug("denials of limit %s could not be counted: %s", watched.limit, error)

    async def _ban(self, watched: _Watched) -> float:
        """Ban a key, unless it is banned already. Returns for how many seconds it is."""
        counters, key = watched.counters, watched.key
        claimed = await counters.bans.take(key)
        if not claimed.allowed and counters.is_full(claimed):
            claimed = await counters.claim.take(key)
        if not claimed.allowed:
            return claimed.retry_after
        seconds = counters.seconds(claimed)
        await counters.bans.block(key, seconds)
        await self._limiters.of(watched.policies).limiter.block(key, seconds)
        await counters.strikes.forget(key)
        await counters.strikes.block(key, seconds)
        logger.warning("limit %s bans a key for %g s, as it was denied too often", watched.limit, seconds)
        return seconds

    def _counters_of(self, budget: Budget, per: tuple[str, ...]) -> _Counters:
        known = self._counters.get((budget, per))
        if known is None:
            known = self._counters[budget, per] = _Counters(self._limiters, budget, per)
        return known


class _Counters:
    """The counters of a limit's bans. Their limiters are looked up each time: a test may change the store."""

    def __init__(self, limiters: Limiters, budget: Budget, per: tuple[str, ...]) -> None:
        assert budget.terms.ban is not None  # noqa: S101 - the caller has looked
        self._limiters = limiters
        self._ban = budget.terms.ban
        self._strikes, self._bans = policies_of(self._ban, budget.name, per)
        self._claim = self._bans[:1]

    @property
    def strikes(self) -> AsyncLimiter:
        """Decides whether there have been too many denials."""
        return self._limiters.of(self._strikes).limiter

    @property
    def bans(self) -> AsyncLimiter:
        """Decides who bans a key, and counts it."""
        return self._limiters.of(self._bans).limiter

    @property
    def claim(self) -> AsyncLimiter:
        """Decides who bans a key."""
        return self._limiters.of(self._claim).limiter

    def is_full(self, denied: Decision) -> bool:
        """Return whether a unit of ``bans`` was denied as no more are counted, and not as a key is banned."""
        return len(self._bans) > 1 and denied.decisions[0].allowed

    def seconds(self, claimed: Decision) -> float:
        """Return for how long to ban a key for which a unit was taken."""
        counted = claimed.decisions[1:]  # none without growth; nor if it was full
        if not counted:
            return self._ban.longest if self._ban.growth > 1 else self._ban.seconds
        return self._ban.lasts(self._bans[1].burst - counted[0].remaining)


def _name(asked: Asked) -> tuple[str, CounterKey | Digest]:
    key = asked.key if isinstance(asked.key, str) else tuple(asked.key.values())
    return asked.budget.name, memory_key(key)


class _Watched:
    """A key that was denied.

    Attributes:
        limit: The name of the limit that denied it.
        policies: Those of the limit.
        key: The key, as they count by it.
        counters: Those of the limit's bans.
        denials: How many denials were not counted yet.
        sends_at: Before which time no more are sent, by the monotonic clock.
        banned_until: Until when it is banned, by that clock, as far as this process knows.
        is_sending: Whether a task is about to send its denials.
    """

    __slots__ = ("banned_until", "counters", "denials", "is_sending", "key", "limit", "policies", "sends_at")

    def __init__(self, limit: str, policies: tuple[Policy, ...], key: Key, counters: _Counters) -> None:
        self.limit = limit
        self.policies = policies
        self.key = key
        self.counters = counters
        self.denials = 0
        self.sends_at = self.banned_until = -math.inf
        self.is_sending = False
