"""The limiters that the kit is tested on: with one classic fault each, correct, or hostile to the process they run in.

A target is ``file.py:Name`` in this folder. A file without a name is a service, started as
``python file.py PORT LIMIT WINDOW_SECONDS``; it prints "ready", and serves ``/ping?user_id=alice``.
"""

from __future__ import annotations

from typing import NamedTuple


class SeededFault(NamedTuple):
    """A limiter with one fault.

    Attributes:
        target: The file, and the name in it.
        caught_by: The id of the case that must fail on it.
        limit: The units per window that it is graded with.
        window: The window in seconds that it is graded with.
        strict: Whether that case is a recommendation, which only runs with ``--strict``.
        also: Further cases that the fault may break, by the beginnings of their ids. Every other case must pass.
    """

    target: str
    caught_by: str
    limit: int = 5
    window: float = 1.0
    strict: bool = False
    also: tuple[str, ...] = ()


_OVER = ("correctness/edge", "correctness/window", "concurrency", "resilience/clock")
"""The cases that fail on a limiter that forgets requests too early."""

_STRICT = ("resilience/clock/server-glitch",)
"""A recommendation that a plain sorted set never keeps, with or without another fault."""

SEEDED_FAULTS = [
    # Answers and limits
    SeededFault("answers_number.py:AnswersNumber", "correctness/answer/bool"),
    SeededFault("answers_nothing.py:AnswersNothing", "correctness/answer/bool"),
    SeededFault("one_too_many.py:OneTooMany", "correctness/limit/exact", also=("correctness", "concurrency")),
    SeededFault("one_too_few.py:OneTooFew", "correctness/limit/exact", also=("correctness", "concurrency")),
    SeededFault("at_least_two.py:AtLeastTwo", "correctness/limit/one"),
    SeededFault("bounded_log.py:BoundedLog", "correctness/limit/large", also=("concurrency", "performance")),
    SeededFault("spacing.py:Spacing", "correctness/limit/exact", also=("correctness", "concurrency", "performance")),
    # Windows and their edges
    SeededFault("fixed_window.py:FixedWindow", "correctness/window/any-phase", also=_OVER),
    SeededFault("window_from_first.py:WindowFromFirst", "correctness/window/late-burst", also=_OVER),
    SeededFault("two_counters.py:TwoCounters", "correctness/window/any-phase", also=(*_OVER, "correctness")),
    SeededFault("token_bucket.py:TokenBucket", "correctness/window/any-phase", also=(*_OVER, "correctness")),
    SeededFault("redis_fixed_window.py:FixedWindow", "correctness/window/late-burst", also=(*_OVER, "resilience/ttl")),
    SeededFault(
        "closed_edge.py:ClosedEdge", "correctness/edge/at", also=("correctness/window/model", "correctness/window/long")
    ),
    SeededFault("coarse_steps.py:CoarseSteps", "correctness/edge/at", also=("correctness", "honesty")),
    SeededFault("whole_seconds.py:WholeSeconds", "correctness/edge/before", also=(*_OVER, "correctness/rate")),
    SeededFault(
        "hard_coded.py:HardCoded", "correctness/edge/after", also=("correctness", "concurrency", "performance/memory")
    ),
    SeededFault("window_cut.py:WindowCut", "correctness/window/fractional"),
    SeededFault("forgets_after_minute.py:ForgetsAfterMinute", "correctness/window/long"),
    # Denials, keys, costs
    SeededFault("denied_counted.py:DeniedCounted", "correctness/denied/free", also=("correctness", "concurrency")),
    SeededFault(
        "redis_denied_counted.py:DeniedCounted",
        "correctness/denied/free",
        also=("correctness", "concurrency", "performance", "resilience"),
    ),
    SeededFault("key_split.py:KeySplit", "correctness/keys/apart"),
    SeededFault("key_cut.py:KeyCut", "correctness/keys/apart"),
    SeededFault("key_lowered.py:KeyLowered", "correctness/keys/apart"),
    SeededFault("key_stripped.py:KeyStripped", "correctness/keys/apart"),
    SeededFault("newest_users_only.py:NewestUsersOnly", "correctness/keys/sprayed", also=("performance/time/keys",)),
    SeededFault("redis_key_stripped.py:KeyStripped", "correctness/keys/apart"),
    SeededFault("cost_ignored.py:CostIgnored", "correctness/cost/counted", also=("correctness/cost",)),
    SeededFault("cost_drains.py:CostDrains", "correctness/cost/denied-free", also=("correctness/cost/counted",)),
    SeededFault("cost_clipped.py:CostClipped", "correctness/cost/above-limit"),
    SeededFault("cost_negative.py:CostNegative", "correctness/cost/invalid"),
    # Concurrency
    SeededFault("two_locked_steps.py:TwoLockedSteps", "concurrency/threads/one-key", also=("concurrency/threads",)),
    SeededFault("lock_too_short.py:LockTooShort", "concurrency/threads/interleaved", also=("concurrency/threads",)),
    SeededFault("race_on_new_user.py:RaceOnNewUser", "concurrency/threads/new-keys", also=("concurrency/threads",)),
    SeededFault("await_between.py:AwaitBetween", "concurrency/tasks/one-key", also=("concurrency",)),
    SeededFault(
        "redis_race.py:Race", "concurrency/processes/one-key", 100, also=("concurrency", "resilience/clock/clients")
    ),
    SeededFault(
        "redis_same_member.py:SameMember",
        "concurrency/processes/one-key",
        100,
        also=("correctness", "concurrency", "resilience/clock/clients"),
    ),
    SeededFault("redis_counts_here.py:CountsHere", "concurrency/processes/one-key", also=("concurrency", "resilience")),
    SeededFault("redis_lock_held.py:LockHeld", "concurrency/keys/apart", also=("resilience/outage/paused",)),
    SeededFault("redis_blocks_loop.py:BlocksLoop", "concurrency/loop/free", also=("concurrency/keys/apart",)),
    SeededFault("wait_locked.py:WaitLocked", "concurrency/wait/apart"),
    # Time and memory
    SeededFault("linear_filter.py:LinearFilter", "performance/time/limit", also=("performance/time/requests",)),
    SeededFault("sweep_in_each_call.py:SweepInEachCall", "performance/time/keys"),
    SeededFault(
        "scans_history.py:ScansHistory",
        "performance/time/requests",
        also=("performance/time/limit", "performance/memory/requests"),
    ),
    SeededFault("log_in_each_entry.py:LogInEachEntry", "performance/memory/limit", also=("performance",)),
    SeededFault("denied_stored.py:DeniedStored", "performance/memory/denied"),
    SeededFault("never_trimmed.py:NeverTrimmed", "performance/memory/requests"),
    SeededFault("idle_users_kept.py:IdleUsersKept", "performance/memory/idle-keys"),
    SeededFault("redis_pings_first.py:PingsFirst", "performance/redis/round-trips", strict=True, also=_STRICT),
    SeededFault(
        "redis_reconnects.py:Reconnects", "performance/redis/connections", strict=True, also=("performance", *_STRICT)
    ),
    # Resilience
    SeededFault("redis_no_ttl.py:NoTtl", "resilience/ttl/set", also=("performance/memory",)),
    SeededFault("redis_ttl_half.py:TtlHalf", "resilience/ttl/long-enough", also=_OVER),
    SeededFault("redis_ttl_of_first.py:TtlOfFirst", "correctness/window/late-burst", also=(*_OVER, "resilience/ttl")),
    SeededFault("redis_ttl_cut.py:TtlCut", "correctness/window/fractional", also=("resilience/ttl",)),
    SeededFault(
        "redis_hash_only.py:HashOnly", "resilience/script/flush", also=("resilience/restart", "resilience/outage")
    ),
    SeededFault("redis_gives_up.py:GivesUp", "resilience/restart/recovers", also=("resilience/outage",)),
    SeededFault("redis_raises.py:Raises", "resilience/outage/killed", also=("resilience/outage", "resilience/restart")),
    SeededFault("redis_no_timeout.py:NoTimeout", "resilience/outage/paused"),
    SeededFault("redis_retries.py:Retries", "resilience/reply/lost", strict=True, also=_STRICT),
    SeededFault("redis_client_clock.py:ClientClock", "resilience/clock/clients", also=("resilience/clock",)),
    SeededFault("redis_drops_future.py:DropsFuture", "resilience/clock/server-back"),
    SeededFault("redis_waits_for_future.py:WaitsForFuture", "resilience/clock/server-glitch", strict=True),
    SeededFault("wall_clock.py:WallClock", "resilience/clock/wall", strict=True),
    # Reported waits and remaining units
    SeededFault("wait_cut.py:WaitCut", "honesty/wait/enough", also=("honesty/wait",)),
    SeededFault("wait_window.py:WaitWindow", "honesty/wait/exact", also=("honesty/wait/not-too-long",)),
    SeededFault("wait_newest.py:WaitNewest", "honesty/wait/exact", also=("honesty/wait/not-too-long",)),
    SeededFault("wait_of_one.py:WaitOfOne", "honesty/wait/cost"),
    SeededFault("wait_remembered.py:WaitRemembered", "honesty/wait/not-too-long"),
    SeededFault("remaining_before.py:RemainingBefore", "honesty/remaining/true"),
    SeededFault("peek_charges.py:PeekCharges", "honesty/peek/free"),
    # Services
    SeededFault("http_fixed_window.py", "correctness/window/any-phase", also=(*_OVER, "honesty/wait")),
    SeededFault("http_no_retry_after.py", "honesty/wait/header"),
    SeededFault("http_retry_after_cut.py", "honesty/wait/enough", also=("honesty/wait/header",)),
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
