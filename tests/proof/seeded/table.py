"""The limiters that the kit is tested on: with one classic fault each, correct, or hostile to the process they run in.

A target is ``file.py:Name`` in this folder. A file without a name is a service, started as
``python file.py PORT LIMIT WINDOW_SECONDS``; it prints "ready", and serves ``/ping?user_id=alice``. One on Redis takes
a URL as well, and the kit starts it.
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
    # After a fault
    *(
        SeededFault(f"after_fault.py:{name}", f"resilience/{case}", also=("resilience", "concurrency"))
        for name, case in (
            ("OpenForEver", "outage/thawed"),
            ("LocalForEver", "restart/limits"),
            ("ProbeLost", "restart/limits"),
            ("WatchDies", "outage/thawed"),
            ("FallbackProlonged", "restart/limits"),
            ("ScriptLost", "restart/limits"),
            ("SocketLost", "outage/thawed"),
        )
    ),
    *(
        SeededFault(f"kept_connection.py:{name}", "resilience/outage/thawed", also=("resilience",))
        for name in (
            "SocketKept",
            "SentAgain",
            "DriverConnectionKept",
            "StreamKept",
            "GoesBackToPool",
            "LeavesItsReply",
        )
    ),
    # Where windows end
    *(
        SeededFault(f"window_end_races.py:{name}", "concurrency/threads/window-end", also=("concurrency",))
        for name in ("TrimsOutsideLock", "PurgesUserInUse", "LockGoesWithUser", "SweepThread", "ReplacesOldest")
    ),
    # Clocks of hosts
    *(
        SeededFault(f"monotonic_clock.py:{name}", "resilience/clock/clients", also=("resilience/clock", "concurrency"))
        for name in ("MonotonicScores", "PerfCounterList", "EpochAtStart", "LoopTime", "SharedDenial")
    ),
    # Lengths of windows
    *(
        SeededFault(f"ttl_fractions.py:{name}", case, also=("correctness", "resilience", "concurrency"))
        for name, case in (
            ("AtLeastASecond", "correctness/window/odd"),
            ("Rounded", "correctness/window/odd"),
            ("RoundedUp", "correctness/window/odd"),
            ("FreedTooEarly", "correctness/window/odd"),
            ("SecondsOfTimedelta", "correctness/window/days"),
            ("Milliseconds32", "correctness/window/days"),
            ("WholeMinutes", "resilience/ttl/long"),
        )
    ),
    # Costs that come back
    *(
        SeededFault(f"costs_come_back.py:{name}", f"correctness/cost/{case}", also=("correctness/cost",))
        for name, case in (
            ("OneEntryForCost", "counted"),
            ("OneUnitComesBack", "model"),
            ("EntryForEachUnit", "model"),
            ("NewestComesBack", "model"),
            ("AllComeBack", "model"),
            ("SameMember", "random"),
            ("CountsWhatLeaves", "random"),
            ("TwoAtATime", "random"),
        )
    ),
    # Punishments and numbers
    *(
        SeededFault(f"long_bans.py:{name}", case, also=("correctness", "performance", "honesty"))
        for name, case in (
            ("Float32", "correctness/window/model"),
            ("CostInByte", "correctness/cost/counted"),
            ("CountInByte", "correctness/limit/large"),
            ("ZeroWaitForNever", "honesty/wait/never"),
            ("NegativeWaitForNever", "honesty/wait/never"),
            ("LockedOut", "correctness/denied/free"),
            ("DenialsCount", "correctness/denied/free"),
            ("BanDoubles", "correctness/denied/free"),
        )
    ),
    # Waiting
    *(
        SeededFault(f"waits_wrong.py:{name}", f"concurrency/wait/{case}", strict=strict, also=("concurrency/wait",))
        for name, case, strict in (
            ("WaitTakesNothing", "takes", False),
            ("WaitAllGo", "limit", False),
            ("WaitDatedByCall", "limit", False),
            ("WaitWholeWindow", "soon", False),
            ("AsyncWaitAllGo", "limit", False),
            ("RedisWaitAllGo", "limit", False),
            ("WaitTimeoutLate", "timeout", False),
            ("WaitTimeoutTakes", "timeout", False),
            ("AsyncWaitTakesForGone", "timeout", False),
            ("RedisWaitTimeoutTakes", "timeout", False),
            ("WaitNewestFirst", "order", True),
            ("WaitNeverReturns", "never", True),
        )
    ),
    # Peeks
    *(
        SeededFault(f"peek_wrong.py:{name}", case, also=("honesty",))
        for name, case in (
            ("PeekNeverTrims", "honesty/peek/true"),
            ("PeekAllowsFull", "honesty/peek/true"),
            ("PeekIgnoresCost", "honesty/peek/true"),
            ("PeekBelowZero", "honesty/peek/true"),
            ("PeekRemembers", "honesty/peek/true"),
            ("RedisPeekCountsExpired", "honesty/peek/true"),
            ("PeekStoresUsers", "performance/memory/idle-keys"),
            ("RedisPeekRenews", "resilience/ttl/peeked"),
            ("RetryAfterWindowEnd", "honesty/wait/asked"),
        )
    ),
    # Keys that fall together
    *(
        SeededFault(f"keys_together.py:{name}", f"correctness/{case}", also=("correctness/keys",))
        for name, case in (
            ("KeySpacesRemoved", "keys/apart"),
            ("KeyNumber", "keys/apart"),
            ("KeyFloat", "keys/apart"),
            ("KeyCut250", "keys/apart"),
            ("KeyCaseFolded", "keys/apart"),
            ("KeyComposed", "keys/apart"),
            ("KeyCompatible", "keys/apart"),
            ("KeyDecoded", "keys/apart"),
            ("KeyAscii", "keys/apart"),
            ("RedisCompanionKey", "keys/apart"),
            ("RedisKeyHashTag", "keys/apart"),
            ("KeyHash16", "keys/many"),
            ("KeySlots", "keys/many"),
            ("LogsOfTheClass", "limiters/apart"),
        )
    ),
    # Stores that are full
    *(
        SeededFault(
            f"bounded_frees.py:{name}", f"correctness/{case}", also=("correctness", "concurrency", "performance")
        )
        for name, case in (
            ("LruCacheOfLogs", "keys/sprayed"),
            ("ClearsWhenFull", "keys/sprayed"),
            ("EvictsSample", "keys/sprayed"),
            ("RotatesTooSoon", "edge/before"),
            ("FreesByFirstSeen", "window/late-burst"),
            ("RedisMostUsers", "keys/sprayed"),
        )
    ),
    SeededFault("bounded_frees.py:FreesByWallClock", "resilience/clock/wall", strict=True),
    # Calls that are slow now and then
    *(
        SeededFault(f"slow_sometimes.py:{name}", f"performance/time/{case}", also=("performance",))
        for name, case in (
            ("SweepsEachSecond", "worst"),
            ("SweepsEveryThousand", "worst"),
            ("CollectsGarbage", "worst"),
            ("RedisKeysScan", "worst"),
            ("SortsOnExpiry", "expiry"),
            ("RedisRebuilds", "expiry"),
            ("PopsFront", "ends"),
            ("RedisRemovesOneByOne", "ends"),
        )
    ),
    SeededFault("slow_sometimes.py:RedisUnpacks", "correctness/window/ends", also=("correctness", "performance")),
    # Settling
    *(
        SeededFault(f"settle_wrong.py:{name}", f"correctness/settle/{case}", also=("correctness/settle",))
        for name, case in (
            ("SettleGivesNothing", "gives-back"),
            ("SettleTwice", "once"),
            ("SettleMoreFree", "above"),
            ("SettleAfterWindow", "late"),
            ("CancelLeavesCharge", "late"),
            ("CancelPopsNewest", "own"),
            ("CancelDenied", "cancelled"),
            ("SettledNow", "moment"),
        )
    ),
    # Leases
    *(
        SeededFault(f"leases_wrong.py:{name}", f"concurrency/lease/{case}", also=("concurrency/lease",))
        for name, case in (
            ("ReleaseTwice", "limit"),
            ("LeaseNeverEnds", "ends"),
            ("RedisOneTtlForAll", "ends"),
            ("RenewAdds", "renewed"),
            ("ReleaseAfterEnd", "late"),
            ("RenewRevives", "late"),
            ("CountsThenLends", "threads"),
        )
    ),
    # Services
    SeededFault("http_fixed_window.py", "correctness/window/any-phase", also=(*_OVER, "honesty/wait")),
    SeededFault("http_no_retry_after.py", "honesty/wait/header"),
    SeededFault("http_retry_after_cut.py", "honesty/wait/enough", also=("honesty/wait/header",)),
    SeededFault("http_redis_open.py", "resilience/restart/limits", also=("resilience",)),
    SeededFault("http_redis_no_timeout.py", "resilience/outage/paused", also=("resilience",)),
]

IN_EVERY_RUN = list({seeded.caught_by: seeded for seeded in reversed(SEEDED_FAULTS)}.values())
"""The first fault of each case, which the tests grade. ``make soak`` grades all of them, which takes long."""

CORRECT = [
    "correct_async.py:SlidingWindow",
    "correct_redis.py:SlidingWindow",
    "http_correct.py",
]

CORRECT_AS_WELL = [
    "correct_minimal.py:SlidingWindow",
    "correct_memory.py:SlidingWindow",
    "correct_redis_async.py:SlidingWindow",
    "http_redis.py",
]
"""Graded by ``make soak`` alone: the others have the same methods, and other callers."""

UNUSUAL = {
    "correct_chunks.py:SlidingWindow": ("performance/time",),
    "correct_cost_strict.py:SlidingWindow": ("correctness/cost",),
    "correct_deadline.py:Deadline": ("resilience/clock/clients",),
    "correct_denial_cache.py:DenialCache": ("correctness/denied", "honesty/wait"),
    "correct_fails_closed.py:FailsClosed": ("correctness/limit", "resilience/outage"),
    "correct_file_lock.py:FileWindow": ("correctness/limiters", "performance/memory"),
    "correct_full_denies.py:SlidingWindow": ("correctness/keys",),
    "correct_key_digest.py:SlidingWindow": ("correctness/keys",),
    "correct_key_refuses.py:SlidingWindow": ("correctness/keys",),
    "correct_late_replies.py:LateReplies": ("resilience/outage/thawed",),
    "correct_leases_heap.py:Leases": ("concurrency/lease",),
    "correct_local_fallback.py:LocalFallback": ("resilience/restart", "resilience/outage"),
    "correct_own_client.py:OwnClient": ("resilience/outage/thawed",),
    "correct_peek_snapshot.py:SlidingWindow": ("honesty",),
    "correct_ring.py:RingWindow": ("concurrency/threads",),
    "correct_runs.py:RunWindow": ("correctness/cost",),
    "correct_settle_numbers.py:SlidingWindow": ("correctness/settle",),
    "correct_sqlite.py:SqliteWindow": ("correctness/limiters", "performance/time/keys"),
    "correct_stream.py:StreamWindow": ("correctness/window/odd", "resilience/ttl"),
    "correct_wait_futures.py:SlidingWindow": ("concurrency/wait",),
    "correct_wait_rounded.py:SlidingWindow": ("honesty/wait",),
    "correct_wait_tickets.py:SlidingWindow": ("concurrency/wait",),
}
"""Correct limiters of a design that a careless case would accuse, and the beginnings of the ids of these cases."""

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
