"""Who is banned, and how a key is freed: for people who look after an app."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sluicegate._core.errors import InvalidKey, InvalidStore
from sluicegate._core.keys import Key
from sluicegate._core.policy import Policy
from sluicegate._limiter.async_limiter import AsyncLimiter
from sluicegate.web.ban import policies_of
from sluicegate.web.budget import Asked, Budget, joined
from sluicegate.web.limiters import Limiters

_DIGEST = re.compile("~[0-9a-f]{64}")
_AT_ONCE = 100  # keys that are asked for together


@dataclass(frozen=True, slots=True)
class Banned:
    """A key that a limit has banned.

    Attributes:
        limit: The name of the limit.
        key: The key: text, or its attributes. One that is stored as a digest is a ``~`` and 64 hexadecimal digits.
        seconds: For how long it is still banned; None where only a digest is known.
    """

    limit: str
    key: str | Mapping[str, str]
    seconds: float | None


class Records:
    """What is kept of the keys of one limit.

    Args:
        limiters: The limiters of the app.
        budget: The limit's budget.
        policies: The sets of policies that it may have.
    """

    def __init__(self, limiters: Limiters, budget: Budget, policies: Sequence[tuple[Policy, ...]]) -> None:
        self._limiters = limiters
        self._budget = budget
        self._policies = [own for own in policies if own]
        self._per = self._policies[0][0].per if self._policies else ()

    async def banned(self) -> list[Banned]:
        """Return the keys that the limit has banned, those that are banned for longest first; none if it bans nobody.

        Raises:
            InvalidStore: The store cannot say which keys it holds.
            StoreError: It could not be reached, refused, or did not answer in time.
        """
        ban, store = self._budget.terms.ban, self._limiters.store
        if ban is None:
            return []
        if not hasattr(store, "keys"):
            kind = type(store).__name__
            raise InvalidStore(
                f"store must say which keys it holds, to list bans, and {kind} has no keys()", store=store
            )
        _, bans = policies_of(ban, self._budget.name, tuple(map(self._budget.attribute, self._per)))
        limiter = self._limiters.of(bans[:1]).limiter
        keys = [values for values in await store.keys(bans[0]) if len(values) == max(len(self._per), 1)]
        found: list[Banned] = []
        for start in range(0, len(keys), _AT_ONCE):
            found += await asyncio.gather(*[self._one(limiter, each) for each in keys[start : start + _AT_ONCE]])
        held = [each for each in found if each.seconds != 0]
        return sorted(held, key=lambda each: -math.inf if each.seconds is None else -each.seconds)

    async def _one(self, limiter: AsyncLimiter, values: tuple[str, ...]) -> Banned:
        shown = dict(zip(self._per, values, strict=True)) if self._per else values[0]
        if any(map(_DIGEST.fullmatch, values)):
            return Banned(self._budget.name, shown, None)
        decision = await limiter.peek(self._counted(shown))
        return Banned(self._budget.name, shown, 0.0 if decision.allowed else decision.retry_after)

    def _counted(self, key: Key) -> Key:
        if isinstance(key, str):
            return key
        return {self._budget.attribute(name): value for name, value in key.items()}

    async def forget(self, key: Key) -> None:
        """Forget what was counted of a key, and lift its bans and blocks.

        Raises:
            InvalidKey: The limit does not count by such a key.
            StoreError: The store could not be reached, refused, or did not answer in time.
        """
        names = () if isinstance(key, str) else tuple(key)
        if self._policies and set(names) != set(self._per):
            expected = f"a mapping with {' and '.join(self._per)}" if self._per else "text"
            raise InvalidKey(f"limit {self._budget.name} counts by {expected}, got {' and '.join(names) or 'text'}")
        for own in self._policies:
            policies, counted, _ = joined((Asked(self._budget, own, key, 1),))
            await self._limiters.of(policies).limiter.forget(counted)
        ban = self._budget.terms.ban
        if ban is not None:
            per = tuple(map(self._budget.attribute, self._per or names))
            for policies in policies_of(ban, self._budget.name, per):
                await self._limiters.of(policies).limiter.forget(self._counted(key))
