"""A ban: when a limit shuts a key out, for how long, and the policies behind it. Values only; `bans` has the rest.

Up to three counters belong to a limit with a ban, in its store and by its key:

- *strikes* counts denials. When it is full, the key is to be banned.
- *ban* is a unit that one instance takes of those that find the strikes full: that one bans.
- *bans* counts how often the key was banned, if each ban is longer than the one before.
"""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta
from typing import Any

from sluicegate._core.errors import InvalidPolicy, short_repr
from sluicegate._core.policies import Policies
from sluicegate._core.policy import MAX_WINDOW_US, Policy, SlidingWindow, TokenBucket
from sluicegate.web.budget import fitted

LONGEST = 86400.0
"""Seconds that a growing ban lasts at most, by default."""

_COUNTERS = ("strikes", "ban", "bans")
_MOST_SECONDS = MAX_WINDOW_US / 1_000_000
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


def policies_of(ban: Ban, name: str, per: tuple[str, ...]) -> tuple[tuple[Policy, ...], tuple[Policy, ...]]:
    """Return the policies of the strikes, and those of the bans, of a limit with this name."""
    strikes = replace(ban.policy, name=fitted(f"{name}.strikes"), per=per)
    claim = SlidingWindow(1, window=min(_CLAIM_SECONDS, ban.seconds), name=fitted(f"{name}.ban"), per=per)
    if ban.growth == 1:
        return (strikes,), (claim,)
    counted = TokenBucket(1, window=ban.forgotten_in, burst=ban.steps + 1, name=fitted(f"{name}.bans"), per=per)
    return (strikes,), (claim, counted)


def _checked_seconds(what: str, given: Any) -> float:
    seconds = given.total_seconds() if isinstance(given, timedelta) else given
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 1 <= seconds <= _MOST_SECONDS:
        raise InvalidPolicy(
            f"{what} must be a number of seconds (or a timedelta) from 1 to {_MOST_SECONDS:.0f} (ten years), got "
            f"{short_repr(given)}"
        )
    return float(seconds)
