"""The token bucket: units flow out of it evenly, and what does not fit is denied. Twin of ``token_bucket.lua``.

Everything is whole: the level is kept in units times the window in nanoseconds, so that ``limit`` of it flow out in
one nanosecond and no unit is ever rounded away, also at 59 a minute. The bucket holds burst times window. (The twin
counts microseconds: a thousandth of all of it.) The limit is not in the state, so it may change at any time: what is in
the bucket then flows out at the new pace.

Source: ITU-T I.371 (2004), Annex A.1, the continuous-state leaky bucket; generalised to a cost.

In any window at most burst + limit - 1 units are allowed: at its first nanosecond the bucket has room for a whole
burst, and in the window less one nanosecond less than ``limit`` units flow out.

Nothing here reads a clock. When it steps back, nothing flows until it is where it was: units are held longer, and
never too many allowed.
"""

from __future__ import annotations

from sluicegate._algorithms import Allow, Bench, States
from sluicegate._core.decision import NEVER, Verdict, verdict_of
from sluicegate._core.policy import TokenBucket

NAME = TokenBucket.algorithm
CALENDAR_TIME = False


class Bucket:
    """The bucket of one key.

    Attributes:
        at: When it had this level, nanoseconds.
        level: What was in it, units times window in nanoseconds.
        empty_after: When it would be empty, nanoseconds from then, at the lowest limit that asked for it since.
    """

    __slots__ = ("at", "empty_after", "level")

    def __init__(self, at: int, level: int, empty_after: int) -> None:
        self.at = at
        self.level = level
        self.empty_after = empty_after


def arguments(policy: TokenBucket, cost: int, _: int) -> tuple[int, ...]:
    """Return what the Lua twin lists under ARGV, in its order."""
    return cost, policy.limit, policy.window_us, policy.burst


def idle_at(bucket: Bucket, policy: TokenBucket) -> int:
    """Return the time, ns, from which it is empty; but a window after its last charge at least.

    For if the limit is lowered, it is emptied more slowly than was thought, and nobody may have asked yet.
    """
    return bucket.at + max(bucket.empty_after, policy.window_us * 1000)


def mend(bucket: Bucket, policy: TokenBucket, now_ns: int) -> bool:
    """Bring a bucket that a clock step left more than one window ahead back to now (G8).

    And keep it for as long as it takes to empty it under this policy, if that is longer than was thought.

    Returns:
        Whether it had to be brought back.
    """
    bucket.empty_after = max(bucket.empty_after, -(-bucket.level // policy.limit))
    if bucket.at - now_ns <= policy.window_us * 1000:
        return False
    bucket.at = now_ns
    return True


def trim(bucket: Bucket, policy: TokenBucket, now_ns: int) -> None:
    """Do nothing: a bucket is of one size."""


def look(bucket: Bucket | None, policy: TokenBucket, now_ns: int, cost: int) -> Verdict:
    """Judge a charge of ``cost`` units, 1 or more, and change nothing."""
    limit, window_ns = policy.limit, policy.window_us * 1000
    level, ahead = (0, 0) if bucket is None else _flown(bucket, policy, now_ns)
    room = policy.burst * window_ns - level
    remaining = max(room // window_ns, 0)
    reset_after_us = -((-level // limit - ahead) // 1000)
    excess = cost * window_ns - room
    if excess <= 0:
        return verdict_of((True, remaining, 0, reset_after_us))
    if cost > policy.burst:
        return verdict_of((False, remaining, NEVER, reset_after_us))
    # Rounded up: a microsecond early, the same request would be denied again.
    return verdict_of((False, remaining, -((-excess // limit - ahead) // 1000), reset_after_us))


def charge(bucket: Bucket | None, policy: TokenBucket, now_ns: int, cost: int) -> tuple[Bucket, int]:
    """Pour in ``cost`` units that `look` allowed at ``now_ns``. Returns the bucket and its ``reset_after_us``."""
    level, ahead = (0, 0) if bucket is None else _flown(bucket, policy, now_ns)
    level += cost * policy.window_us * 1000
    empty_after = -(-level // policy.limit)
    if bucket is None:
        bucket = Bucket(now_ns, level, empty_after)
    else:
        bucket.at, bucket.level, bucket.empty_after = now_ns + ahead, level, empty_after
    return bucket, -((-ahead - empty_after) // 1000)


def _flown(bucket: Bucket, policy: TokenBucket, now_ns: int) -> tuple[int, int]:
    """Return the level now, and how far the bucket is ahead of a clock that stepped back, ns."""
    passed = now_ns - bucket.at
    if passed >= 0:
        return max(bucket.level - policy.limit * passed, 0), 0
    return bucket.level, -passed if -passed <= policy.window_us * 1000 else 0  # as if repaired


def step(bucket: Bucket | None, policy: TokenBucket, now_ns: int, cost: int, enter: bool) -> Verdict | None:
    """Return what `mend`, `look` and, if ``enter``, `charge` come to; None where it takes all three.

    Speed alone is its reason: it serves what is allowed, where the clock moves on.
    """
    if type(bucket) is not Bucket or now_ns < bucket.at:
        return None
    limit, window_ns = policy.limit, policy.window_us * 1000
    level, poured = max(bucket.level - limit * (now_ns - bucket.at), 0), cost * window_ns
    room = policy.burst * window_ns - level - poured
    if room < 0:
        return None
    if not enter:
        if bucket.level > limit * bucket.empty_after:  # it would be kept for longer, by `mend`
            return None
        return verdict_of((True, (room + poured) // window_ns, 0, -((-level // limit) // 1000)))
    level += poured
    empty_after = -(-level // limit)
    bucket.at, bucket.level, bucket.empty_after = now_ns, level, empty_after
    return verdict_of((True, room // window_ns, 0, -(-empty_after // 1000)))


def quick(policy: TokenBucket, buckets: States, bench: Bench, slow: Allow) -> Allow | None:
    """Return None: it has no quicker way."""
