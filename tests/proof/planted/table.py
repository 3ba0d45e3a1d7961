"""What the kit is tried on: limiters with one classic fault each, correct ones, and ones that harm who runs them.

A target is ``file.py:Name`` in this folder. One without a name is a service, to be started as
``python file.py PORT LIMIT WINDOW_SECONDS``; it prints "ready", and answers ``/ping?user_id=alice``.
"""

from __future__ import annotations

from typing import NamedTuple


class Planted(NamedTuple):
    """A limiter with one fault.

    Attributes:
        target: The file, and the name in it.
        caught_by: The id of the case that has to fail on it.
        limit: Units per window that it is graded with.
        window: Seconds, likewise.
        strict: Whether that case is a recommendation, which is run only when asked for.
        also: What else the same fault may break: the beginnings of ids of cases. Every other case has to pass.
    """

    target: str
    caught_by: str
    limit: int = 5
    window: float = 1.0
    strict: bool = False
    also: tuple[str, ...] = ()


_OVER = ("correctness/edge", "correctness/window", "concurrency", "resilience/clock")
"""Where a limiter shows that forgets requests before their time."""

_STRICT = ("resilience/clock/server-glitch",)
"""A recommendation that a plain sorted set does not keep, whatever else is planted in it."""

PLANTED = [
    # What is answered, and how much is allowed
    Planted("answers_number.py:AnswersNumber", "correctness/answer/bool"),
    Planted("answers_nothing.py:AnswersNothing", "correctness/answer/bool"),
    Planted("one_too_many.py:OneTooMany", "correctness/limit/exact", also=("correctness", "concurrency")),
    Planted("one_too_few.py:OneTooFew", "correctness/limit/exact", also=("correctness", "concurrency")),
    Planted("at_least_two.py:AtLeastTwo", "correctness/limit/one"),
    Planted("bounded_log.py:BoundedLog", "correctness/limit/large", also=("concurrency", "performance")),
    Planted("spacing.py:Spacing", "correctness/limit/exact", also=("correctness", "concurrency", "performance")),
    # Windows and their edges
    Planted("fixed_window.py:FixedWindow", "correctness/window/any-phase", also=_OVER),
    Planted("window_from_first.py:WindowFromFirst", "correctness/window/late-burst", also=_OVER),
    Planted("two_counters.py:TwoCounters", "correctness/window/any-phase", also=(*_OVER, "correctness")),
    Planted("token_bucket.py:TokenBucket", "correctness/window/any-phase", also=(*_OVER, "correctness")),
    Planted("redis_fixed_window.py:FixedWindow", "correctness/window/late-burst", also=(*_OVER, "resilience/ttl")),
    Planted(
        "closed_edge.py:ClosedEdge", "correctness/edge/at", also=("correctness/window/model", "correctness/window/long")
    ),
    Planted("coarse_steps.py:CoarseSteps", "correctness/edge/at", also=("correctness", "honesty")),
    Planted("whole_seconds.py:WholeSeconds", "correctness/edge/before", also=(*_OVER, "correctness/rate")),
    Planted(
        "hard_coded.py:HardCoded", "correctness/edge/after", also=("correctness", "concurrency", "performance/memory")
    ),
    Planted("window_cut.py:WindowCut", "correctness/window/fractional"),
    Planted("forgets_after_minute.py:ForgetsAfterMinute", "correctness/window/long"),
    # Denials, keys, costs
    Planted("denied_counted.py:DeniedCounted", "correctness/denied/free", also=("correctness", "concurrency")),
    Planted(
        "redis_denied_counted.py:DeniedCounted",
        "correctness/denied/free",
        also=("correctness", "concurrency", "performance", "resilience"),
    ),
    Planted("key_split.py:KeySplit", "correctness/keys/apart"),
    Planted("key_cut.py:KeyCut", "correctness/keys/apart"),
    Planted("key_lowered.py:KeyLowered", "correctness/keys/apart"),
    Planted("key_stripped.py:KeyStripped", "correctness/keys/apart"),
    Planted("newest_users_only.py:NewestUsersOnly", "correctness/keys/sprayed", also=("performance/time/keys",)),
    Planted("redis_key_stripped.py:KeyStripped", "correctness/keys/apart"),
    Planted("cost_ignored.py:CostIgnored", "correctness/cost/counted", also=("correctness/cost",)),
    Planted("cost_drains.py:CostDrains", "correctness/cost/denied-free", also=("correctness/cost/counted",)),
    Planted("cost_clipped.py:CostClipped", "correctness/cost/above-limit"),
    Planted("cost_negative.py:CostNegative", "correctness/cost/invalid"),
    # Several at once
    Planted("two_locked_steps.py:TwoLockedSteps", "concurrency/threads/one-key", also=("concurrency/threads",)),
    Planted("lock_too_short.py:LockTooShort", "concurrency/threads/interleaved", also=("concurrency/threads",)),
    Planted("race_on_new_user.py:RaceOnNewUser", "concurrency/threads/new-keys", also=("concurrency/threads",)),
    Planted("await_between.py:AwaitBetween", "concurrency/tasks/one-key", also=("concurrency",)),
    Planted(
        "redis_race.py:Race", "concurrency/processes/one-key", 100, also=("concurrency", "resilience/clock/clients")
    ),
    Planted(
        "redis_same_member.py:SameMember",
        "concurrency/processes/one-key",
        100,
        also=("correctness", "concurrency", "resilience/clock/clients"),
    ),
    Planted("redis_counts_here.py:CountsHere", "concurrency/processes/one-key", also=("concurrency", "resilience")),
    Planted("redis_lock_held.py:LockHeld", "concurrency/keys/apart", also=("resilience/outage/paused",)),
    Planted("redis_blocks_loop.py:BlocksLoop", "concurrency/loop/free", also=("concurrency/keys/apart",)),
    Planted("wait_locked.py:WaitLocked", "concurrency/wait/apart"),
    # What a decision costs, and what stays behind
    Planted("linear_filter.py:LinearFilter", "performance/time/limit", also=("performance/time/requests",)),
    Planted("sweep_in_each_call.py:SweepInEachCall", "performance/time/keys"),
    Planted(
        "scans_history.py:ScansHistory",
        "performance/time/requests",
        also=("performance/time/limit", "performance/memory/requests"),
    ),
    Planted("log_in_each_entry.py:LogInEachEntry", "performance/memory/limit", also=("performance",)),
    Planted("denied_stored.py:DeniedStored", "performance/memory/denied"),
    Planted("never_trimmed.py:NeverTrimmed", "performance/memory/requests"),
    Planted("idle_users_kept.py:IdleUsersKept", "performance/memory/idle-keys"),
    Planted("redis_pings_first.py:PingsFirst", "performance/redis/round-trips", strict=True, also=_STRICT),
    Planted(
        "redis_reconnects.py:Reconnects", "performance/redis/connections", strict=True, also=("performance", *_STRICT)
    ),
    # When something fails
    Planted("redis_no_ttl.py:NoTtl", "resilience/ttl/set", also=("performance/memory",)),
    Planted("redis_ttl_half.py:TtlHalf", "resilience/ttl/long-enough", also=_OVER),
    Planted("redis_ttl_of_first.py:TtlOfFirst", "correctness/window/late-burst", also=(*_OVER, "resilience/ttl")),
    Planted("redis_ttl_cut.py:TtlCut", "correctness/window/fractional", also=("resilience/ttl",)),
    Planted("redis_hash_only.py:HashOnly", "resilience/script/flush", also=("resilience/restart", "resilience/outage")),
    Planted("redis_gives_up.py:GivesUp", "resilience/restart/recovers", also=("resilience/outage",)),
    Planted("redis_raises.py:Raises", "resilience/outage/killed", also=("resilience/outage", "resilience/restart")),
    Planted("redis_no_timeout.py:NoTimeout", "resilience/outage/paused"),
    Planted("redis_retries.py:Retries", "resilience/reply/lost", strict=True, also=_STRICT),
    Planted("redis_client_clock.py:ClientClock", "resilience/clock/clients", also=("resilience/clock",)),
    Planted("redis_drops_future.py:DropsFuture", "resilience/clock/server-back"),
    Planted("redis_waits_for_future.py:WaitsForFuture", "resilience/clock/server-glitch", strict=True),
    Planted("wall_clock.py:WallClock", "resilience/clock/wall", strict=True),
    # What a caller is told
    Planted("wait_cut.py:WaitCut", "honesty/wait/enough", also=("honesty/wait",)),
    Planted("wait_window.py:WaitWindow", "honesty/wait/exact", also=("honesty/wait/not-too-long",)),
    Planted("wait_newest.py:WaitNewest", "honesty/wait/exact", also=("honesty/wait/not-too-long",)),
    Planted("wait_of_one.py:WaitOfOne", "honesty/wait/cost"),
    Planted("remaining_before.py:RemainingBefore", "honesty/remaining/true"),
    Planted("peek_charges.py:PeekCharges", "honesty/peek/free"),
    # Services
    Planted("http_fixed_window.py", "correctness/window/any-phase", also=(*_OVER, "honesty/wait")),
    Planted("http_no_retry_after.py", "honesty/wait/header"),
    Planted("http_retry_after_cut.py", "honesty/wait/enough", also=("honesty/wait/header",)),
]

CORRECT = [
    "correct_minimal.py:SlidingWindow",
    "correct_memory.py:SlidingWindow",
    "correct_async.py:SlidingWindow",
    "correct_redis.py:SlidingWindow",
    "correct_redis_async.py:SlidingWindow",
    "http_correct.py",
]

HOSTILE = [
    "hostile_import_hangs.py:SlidingWindow",
    "hostile_import_raises.py:SlidingWindow",
    "hostile_import_exits.py:SlidingWindow",
    "hostile_syntax.py:SlidingWindow",
    "hostile_calls.py:NoSuchClass",
    "hostile_calls.py:NoAllow",
    "hostile_calls.py:OneArgument",
    "hostile_calls.py:HangsAtInit",
    "hostile_calls.py:RaisesAtInit",
    "hostile_calls.py:Hangs",
    "hostile_calls.py:Spins",
    "hostile_calls.py:Exits",
    "hostile_calls.py:ExitsPolitely",
    "hostile_calls.py:Segfaults",
    "hostile_calls.py:Raises",
    "hostile_calls.py:RaisesUnprintable",
    "hostile_calls.py:Recurses",
    "hostile_calls.py:Prints",
    "hostile_calls.py:Allocates",
    "hostile_calls.py:AnswersText",
    "hostile_calls.py:AnswersNothing",
    "hostile_calls.py:AnswersRaiser",
    "hostile_calls.py:LeavesThread",
    "hostile_calls.py:LeavesChild",
    "hostile_calls.py:BreaksTime",
    "hostile_calls.py:WritesToPipes",
    "hostile_calls.py:ClosesPipes",
]
