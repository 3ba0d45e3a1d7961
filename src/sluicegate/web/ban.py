"""Bans: a key that was denied too often is shut out for a while, on all instances.

Up to three counters belong to a limit with a ban, in its store and by its key:

- *strikes* counts denials. When it is full, the key is to be banned.
- *ban* is a unit that one instance takes of those that find the strikes full: that one bans.
- *bans* counts how often the key was banned, if each ban is longer than the one before.

To ban a key is to block its counters: the limit's own, so that it is denied, and these three, so that a ban under way
is told from a new one: while it lasts nobody can take the unit of *ban*.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from sluicegate._core.decision import Decision
from sluicegate._core.errors import InvalidPolicy, StoreError, short_repr
from sluicegate._core.keys import CounterKey, Digest, Key, memory_key
from sluicegate._core.policies import Policies
from sluicegate._core.policy import MAX_WINDOW_US, Policy, SlidingWindow, TokenBucket
from sluicegate._stores.memory.awaited import AwaitedMemoryStore
from sluicegate.web.budget import Asked, Budget, fitted, joined
from sluicegate.web.limiters import Limiters

logger = logging.getLogger("sluicegate")

LONGEST = 86400.0
"""Seconds that a growing ban lasts at most, by default."""

INTERVAL = 1.0
"""Seconds within which the denials of one key are sent together to a server."""

_COUNTERS = ("strikes", "ban", "bans")
_MOST_SECONDS = MAX_WINDOW_US / 1_000_000
_MOST_WATCHED = 4096  # keys with a denial not long ago, in one process
_MOST_GROWTH = 100
_CLAIM_SECONDS = 10.0  # for which no other instance bans a key: until the block of the first is in force


class Ban:
    """When a limit bans a key, and for how long.

    Args:
        after: How many denials ban a key: a rate such as ``"20/hour"``, or a policy. Denials during a ban do not count,
            and after it they are counted anew.
        seconds: How long a ban lasts, from 1 s to ten years; seconds or a ``timedelta``.
        growth: By what factor each further ban is longer, from 1 to 100. In every two ``longest`` one ban is forgotten.
        longest: How long a ban lasts at most; by default a day, or ``seconds`` if these are more.

    Raises:
        InvalidPolicy: An argument is invalid.
        InvalidRate: ``after`` does not parse.

    Attributes:
        policy: How many denials ban a key.
        seconds: As given.
        growth: As given.
        longest: As given, or the default.
    """

    def __init__(
        self,
        after: Policy | str,
        seconds: float | timedelta,
        *,
        growth: float = 1.0,
        longest: float | timedelta | None = None,
    ) -> None:
        policies = Policies((after,)).all
        if len(policies) != 1 or policies[0].shared or policies[0].per or policies[0].lends:
            raise InvalidPolicy(
                f'after must be one rate such as "20/hour", or one policy without shared= and per= that lends nothing, '
                f"got {short_repr(after)}"
            )
        if isinstance(growth, bool) or not isinstance(growth, (int, float)) or not 1 <= growth <= _MOST_GROWTH:
            raise InvalidPolicy(f"growth must be a number from 1 to {_MOST_GROWTH}, got {short_repr(growth)}")
        self.policy = policies[0]
        self.seconds = _checked_seconds("seconds", seconds)
        self.growth = float(growth)
        self.longest = max(LONGEST, self.seconds) if longest is None else _checked_seconds("longest", longest)
        if self.longest < self.seconds:
            raise InvalidPolicy(f"longest must be {self.seconds:g} s (seconds=) or more, got {self.longest:g}")

    @property
    def steps(self) -> int:
        """How many bans it takes until one is the longest."""
        return math.ceil(math.log(self.longest / self.seconds, self.growth)) if self.growth > 1 else 0

    @property
    def forgotten_in(self) -> float:
        """Seconds in which one ban is forgotten."""
        return min(2 * self.longest, _MOST_SECONDS)

    def lasts(self, number: int) -> float:
        """Return for how many seconds a key is banned for the ``number``-th time."""
        return min(self.seconds * self.growth ** min(number - 1, self.steps), self.longest)

    def __repr__(self) -> str:
        return f"Ban({self.policy!r}, {self.seconds:g}, growth={self.growth:g}, longest={self.longest:g})"


def ban_of(given: Any) -> Ban | None:
    """Return what a user gives as ``ban=``: a `Ban`, a pair of a rate and seconds, or None. Raises `InvalidPolicy`."""
    if given is None or isinstance(given, Ban):
        return given
    if isinstance(given, tuple) and len(given) == 2:
        return Ban(*given)
    raise InvalidPolicy(f'ban must be a pair such as ("20/hour", 3600), or a Ban, got {short_repr(given)}')


def check_can_ban(policies: tuple[Policy, ...]) -> None:
    """Raise `InvalidPolicy` unless all policies count by the same key: else a ban would hit others, too."""
    if any(policy.shared for policy in policies):
        raise InvalidPolicy("a shared policy cannot ban anybody, as all use its one counter: make a limit for each")
    for policy in policies:
        if str(policy.name) in _COUNTERS:
            raise InvalidPolicy(
                f"a policy named {policy.name} would share a counter with the bans of its limit: name it otherwise"
            )
    if len({policy.per for policy in policies}) > 1:
        raise InvalidPolicy(
            "a limit that bans must count by one key: make a limit for each of its policies' keys, and give that a ban="
        )


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
        denied = {part.policy for part in decision.decisions if not part.allowed}
        is_banned = False
        for each in asked:
            if each.budget.terms.ban is not None and any(policy.name in denied for policy in each.policies):
                is_banned |= await self._note(each, decision.retry_after)
        return is_banned

    async def _note(self, asked: Asked, wait: float) -> bool:
        watched = self._watch(asked)
        if isinstance(self._limiters.store, AwaitedMemoryStore):
            if not (await watched.counters.claim.peek(watched.key)).allowed:
                return True
            watched.denials += 1
            await self._send(watched)
            return False
        left = watched.banned_until - time.monotonic()
        if left > 0 and wait > left - INTERVAL:
            return True
        watched.banned_until = -math.inf  # it waits for less than that: somebody has lifted the ban
        watched.denials += 1
        if not watched.is_sending:
            watched.is_sending = True
            self._later(self._send_in_time(watched))
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
        """Count the denials of a key, and ban it if they are enough. A store that is down counts none of them."""
        denials, watched.denials = watched.denials, 0
        try:
            strikes = await watched.counters.strikes.take(watched.key, denials)
            if not strikes.allowed or not strikes.remaining:
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
    """The counters of a limit's bans.

    Attributes:
        strikes: Decides whether there have been too many denials.
        bans: Decides who bans a key, and counts it.
        claim: Decides who bans a key.
    """

    def __init__(self, limiters: Limiters, budget: Budget, per: tuple[str, ...]) -> None:
        assert budget.terms.ban is not None  # noqa: S101 - the caller has looked
        self._ban = budget.terms.ban
        strikes, bans = policies_of(self._ban, budget.name, per)
        self.strikes = limiters.of(strikes).limiter
        self.bans = limiters.of(bans).limiter
        self.claim = limiters.of(bans[:1]).limiter

    def is_full(self, denied: Decision) -> bool:
        """Return whether a unit of ``bans`` was denied as no more are counted, and not as a key is banned."""
        return len(self.bans.policies) > 1 and denied.decisions[0].allowed

    def seconds(self, claimed: Decision) -> float:
        """Return for how long to ban a key for which a unit was taken."""
        counted = claimed.decisions[1:]  # none without growth; nor if it was full
        if not counted:
            return self._ban.longest if self._ban.growth > 1 else self._ban.seconds
        return self._ban.lasts(self.bans.policies[1].burst - counted[0].remaining)


def policies_of(ban: Ban, name: str, per: tuple[str, ...]) -> tuple[tuple[Policy, ...], tuple[Policy, ...]]:
    """Return the policies of the strikes, and those of the bans, of a limit with this name."""
    strikes = replace(ban.policy, name=fitted(f"{name}.strikes"), per=per)
    claim = SlidingWindow(1, window=min(_CLAIM_SECONDS, ban.seconds), name=fitted(f"{name}.ban"), per=per)
    if ban.growth == 1:
        return (strikes,), (claim,)
    counted = TokenBucket(1, window=ban.forgotten_in, burst=ban.steps + 1, name=fitted(f"{name}.bans"), per=per)
    return (strikes,), (claim, counted)


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


def _checked_seconds(what: str, given: Any) -> float:
    seconds = given.total_seconds() if isinstance(given, timedelta) else given
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 1 <= seconds <= _MOST_SECONDS:
        raise InvalidPolicy(
            f"{what} must be a number of seconds (or a timedelta) from 1 to {_MOST_SECONDS:.0f} (ten years), got "
            f"{short_repr(given)}"
        )
    return float(seconds)
