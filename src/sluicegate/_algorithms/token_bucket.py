"""The token bucket: units drain from it evenly, and what does not fit is denied. The same rule as ``token_bucket.lua``.

All numbers are whole. The level is kept in units times the window in nanoseconds, so that exactly ``limit`` of it drain
in one nanosecond and no unit is ever rounded away, at 59 a minute either. The bucket holds burst times window. (The Lua
file counts microseconds: a thousandth of all of these.) The limit is not part of the state and may change at any time:
what is in the bucket then drains at the new pace.

Source: ITU-T I.371 (2004), Annex A.1, the continuous-state leaky bucket; generalised to a cost.

In any window at most burst + limit - 1 units are allowed: at its first nanosecond the bucket has room for a whole
burst, and in the window less one nanosecond fewer than ``limit`` units drain.

Settling gives back at most what has not drained since the charge: cost - actual - limit x elapsed / window. Of several
reservations each counts the whole drain as its own; or reserving and giving back in turn would let bursts through.

When the clock steps back, nothing drains until it is back where it was: units are held longer, and never too many are
allowed.
"""

from __future__ import annotations

from sluicegate._core.decision import NEVER, Verdict, verdict_of
from sluicegate._core.policy import TokenBucket, most_level
from sluicegate._core.request import Mark

NAME = TokenBucket.algorithm
CALENDAR_TIME = False


class Bucket:
    """The bucket of one key.

    Attributes:
        at_ns: When it had this level.
        level: What was in it, units times window in nanoseconds.
        empty_after_ns: The span from then until it is empty, at the lowest limit that was used on it since.
        generation: New each time that it was empty or repaired, once a charge was marked: an older mark fits no more.
    """

    __slots__ = ("at_ns", "empty_after_ns", "generation", "level")

    def __init__(self, at_ns: int, level: int, empty_after_ns: int) -> None:
        self.at_ns = at_ns
        self.level = level
        self.empty_after_ns = empty_after_ns
        self.generation: object | None = None


def decide(
    bucket: Bucket | None, policy: TokenBucket, now_ns: int, cost: int, commit: bool
) -> tuple[Bucket | None, Verdict]:
    """Allow or deny ``cost`` units at ``now_ns``."""
    limit, window_ns = policy.limit, policy.window_ns
    level, ahead_ns = (0, 0) if bucket is None else _drained(bucket, policy, now_ns)
    room, poured = policy.burst * window_ns - level, cost * window_ns
    if poured > room or not commit:
        remaining = max(room // window_ns, 0)
        reset_after_us = -((-level // limit - ahead_ns) // 1000) if level else 0
        if poured <= room:
            return bucket, verdict_of((True, remaining, 0, reset_after_us))
        # Rounded up: a microsecond early, the same request would be denied again.
        wait_us = NEVER if cost > policy.burst else -(((room - poured) // limit - ahead_ns) // 1000)
        return bucket, verdict_of((False, remaining, wait_us, reset_after_us))
    if not level and bucket is not None:
        bucket.generation = None  # all that was marked has drained
    level += poured
    at_ns, empty_after_ns = now_ns + ahead_ns, -(-level // limit)
    if bucket is None:
        bucket = Bucket(at_ns, level, empty_after_ns)
    else:
        bucket.at_ns, bucket.level, bucket.empty_after_ns = at_ns, level, empty_after_ns
    return bucket, verdict_of((True, (room - poured) // window_ns, 0, -((-ahead_ns - empty_after_ns) // 1000)))


def _drained(bucket: Bucket, policy: TokenBucket, now_ns: int) -> tuple[int, int]:
    """Return the level now, and how far the bucket is ahead of a clock that stepped back, ns."""
    passed_ns = now_ns - bucket.at_ns
    if passed_ns >= 0:
        return max(bucket.level - policy.limit * passed_ns, 0), 0
    return bucket.level, -passed_ns if -passed_ns <= policy.window_ns else 0  # as if repaired


def mark(bucket: Bucket) -> tuple[Bucket, Mark]:
    """Return the bucket, its generation, and when the charge was poured into it."""
    if bucket.generation is None:
        bucket.generation = object()
    return bucket, (bucket.generation, bucket.at_ns)


def settle(bucket: Bucket, policy: TokenBucket, now_ns: int, cost: int, mark: Mark, actual: int) -> tuple[Bucket, bool]:
    """Pour in what was used more than expected, or take out what was not used and has not drained meanwhile."""
    generation, poured_at_ns = mark
    if bucket.generation is not generation or bucket.at_ns - now_ns > policy.window_ns:
        return bucket, False
    level, ahead_ns = _drained(bucket, policy, now_ns)
    if not level and now_ns - bucket.at_ns >= policy.window_ns:  # a store may have dropped it
        return bucket, False
    at_ns = now_ns + ahead_ns
    if actual > cost:
        level = max(level, min(level + (actual - cost) * policy.window_ns, most_level(policy) * 1000))
    else:
        unused = (cost - actual) * policy.window_ns - policy.limit * (at_ns - poured_at_ns)
        level = max(level - max(unused, 0), 0)
    bucket.at_ns, bucket.level, bucket.empty_after_ns = at_ns, level, -(-level // policy.limit)
    return bucket, True


def repair(bucket: Bucket, policy: TokenBucket, now_ns: int) -> bool:
    """Move a bucket that a clock step left more than a window ahead back to now (G8).

    And keep it for as long as it takes to empty under this policy, whose limit may be lower than the last one.
    """
    bucket.empty_after_ns = max(bucket.empty_after_ns, -(-bucket.level // policy.limit))
    if bucket.at_ns - now_ns <= policy.window_ns:
        return False
    bucket.at_ns = now_ns
    bucket.generation = None
    return True


def trim(bucket: Bucket, policy: TokenBucket, now_ns: int) -> None:
    """Do nothing: a bucket has one size."""


def expires_at_ns(bucket: Bucket, policy: TokenBucket) -> int:
    """Return when it is empty, but a window after its last charge at the earliest.

    If the limit is lowered it empties more slowly than expected, and perhaps no request has come since.
    """
    return bucket.at_ns + max(bucket.empty_after_ns, policy.window_ns)


def arguments(policy: TokenBucket, cost: int, _: int) -> tuple[int, ...]:
    """Return the ARGV of ``token_bucket.lua``."""
    return cost, policy.limit, policy.window_us, policy.burst
