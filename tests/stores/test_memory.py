"""The store in memory: threads, the bound on keys, and idle keys that are given back."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import itertools
import logging
import signal
import subprocess
import sys
import threading
from collections import Counter
from copy import deepcopy
from random import Random

import pytest

from sluicegate import CalendarWindow, FixedWindow, InvalidKey, Limiter, MemoryStore, SlidingWindow, TokenBucket
from sluicegate._algorithms import BY_NAME, sliding_window
from sluicegate._core.decision import Verdict
from sluicegate._core.policy import Policy
from sluicegate._stores.memory import store as memory
from sluicegate.testing import ManualClock

POLICIES = [
    SlidingWindow(5, window=60),
    TokenBucket(5, window=60),
    FixedWindow(5, window=60),
    CalendarWindow(5, every="hour"),
]

START_NS = 1_700_000_000 * 10**9

each = pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.algorithm)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.mark.usefixtures("hasty_threads")
@pytest.mark.parametrize("buckets", [None, 3])
@pytest.mark.parametrize("verb", ["allow", "take"])
def test_sixteen_threads_on_one_key_get_the_limit_and_not_one_more(verb: str, buckets: int | None):
    limiter = Limiter(SlidingWindow(1000, window=3600, buckets=buckets))
    counts, start = [], threading.Barrier(16)

    def work() -> None:
        start.wait()
        counts.append(sum(bool(getattr(limiter, verb)("a")) for _ in range(200)))

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts) == 1000


def test_idle_keys_are_given_back_by_the_calls_that_come_anyway(clock: ManualClock):
    store = MemoryStore(clock=clock)
    limiter = Limiter(SlidingWindow(5, window=60), store=store)
    for n in range(5000):
        limiter.allow(f"gone-{n}")
    assert len(store) == 5000
    clock.advance(61)
    for n in range(1300):
        limiter.take(f"new-{n}")
    clock.advance(1)
    assert len(store) <= 1400


def test_idle_keys_of_one_policy_are_given_back_by_the_traffic_of_another(clock: ManualClock):
    store = MemoryStore(clock=clock)
    first, second = (Limiter(SlidingWindow(5, window=window), store=store) for window in (1, 60))
    for n in range(1000):
        first.allow(f"gone-{n}")
    clock.advance(2)
    for _ in range(600):
        second.take("a")
    assert len(store) == 1


def test_a_key_in_use_is_never_given_back(clock: ManualClock):
    store = MemoryStore(clock=clock)
    limiter = Limiter(SlidingWindow(100, window=60), store=store)
    taken = 0
    for _ in range(590):
        clock.advance(0.1)
        taken += limiter.allow("busy")
        limiter.take("other")
    assert limiter.peek("busy").remaining == 0
    assert taken == 100


def test_no_call_pauses_to_give_back_a_hundred_thousand_keys(clock: ManualClock):
    store = MemoryStore(clock=clock)
    limiter = Limiter(SlidingWindow(5, window=60), store=store)
    for n in range(100_000):
        limiter.allow(str(n))
    clock.advance(120)
    held = [len(store)]
    for n in range(300):
        limiter.take(f"new-{n}")
        held.append(len(store))
    assert max(before - after for before, after in itertools.pairwise(held)) <= 16
    assert held[-1] < 100_000


def test_the_store_never_holds_more_than_max_keys(clock: ManualClock):
    store = MemoryStore(clock=clock, max_keys=100)
    limiter = Limiter(SlidingWindow(5, window=60), store=store)
    for n in range(5000):
        limiter.allow(str(n))
        assert len(store) <= 100


def test_when_the_store_is_full_idle_keys_go_first(clock: ManualClock):
    store = MemoryStore(clock=clock, max_keys=50)
    limiter = Limiter(SlidingWindow(5, window=60), store=store)
    limiter.allow("idle")
    clock.advance(1)
    for n in range(49):
        limiter.allow(f"live-{n}")
    clock.advance(59)  # the first is idle at this very moment, all others in a second
    limiter.take("fresh", 5)
    assert store.overflowed == 0
    assert not limiter.allow("fresh")


def test_spraying_keys_never_frees_a_throttled_one(clock: ManualClock, caplog: pytest.LogCaptureFixture):
    store = MemoryStore(clock=clock, max_keys=100)
    limiter = Limiter(SlidingWindow(5, window=60), store=store)
    assert sum(limiter.allow("attacker") for _ in range(10)) == 5
    with caplog.at_level(logging.WARNING, "sluicegate"):
        for n in range(1100):
            limiter.allow(f"spray-{n}")
            assert not limiter.allow("attacker")
    assert [record.message.split(":")[0] for record in caplog.records] == ["all 100 keys of this memory store are live"]
    assert store.overflowed == 1001


def test_a_key_that_shares_a_counter_is_never_over_its_limit_also_when_room_comes(clock: ManualClock):
    store = MemoryStore(clock=clock, max_keys=10)
    limiter = Limiter(SlidingWindow(5, window=60), store=store)
    for n in range(10):
        limiter.allow(f"first-{n}")
    clock.advance(30)
    assert sum(limiter.allow("late") for _ in range(9)) == 5  # in a shared counter
    clock.advance(30)  # the first ten are idle: there is room, and "late" still has five in its window
    assert limiter.allow("fresh")
    assert sum(limiter.allow("late") for _ in range(9)) == 0
    clock.advance(30)
    assert sum(limiter.allow("late") for _ in range(9)) == 5


def test_forgetting_a_key_that_shares_a_counter_frees_nobody(clock: ManualClock):
    store = MemoryStore(clock=clock, max_keys=1)
    limiter = Limiter(SlidingWindow(5, window=60), store=store)
    limiter.allow("own")
    limiter.take("shares", 5)
    limiter.forget("shares")
    assert not limiter.allow("shares")


def test_a_set_of_charges_on_fresh_keys_keeps_to_max_keys_too(clock: ManualClock):
    from stores.rigs import charges

    store = MemoryStore(clock=clock, max_keys=3)
    policy = SlidingWindow(5, window=60)
    for n in range(5):
        store.decide([charges((policy, f"a{n}", 1), (policy, f"b{n}", 1))])
        assert len(store) <= 3


def test_a_set_of_charges_on_an_idle_key_and_a_fresh_one_keeps_to_max_keys_too(clock: ManualClock):
    from stores.rigs import charges

    store = MemoryStore(clock=clock, max_keys=2)
    policy = SlidingWindow(5, window=60)
    store.decide([charges((policy, "idle", 1))])
    clock.advance(1)
    store.decide([charges((policy, "live", 1))])
    clock.advance(59)
    (answer,) = store.decide([charges((policy, "idle", 1), (policy, "fresh", 1))])
    assert [verdict.allowed for verdict in answer] == [True, True]
    assert len(store) <= 2


def test_forgetting_and_taking_again_does_not_grow_the_store(clock: ManualClock):
    store = MemoryStore(clock=clock)
    limiter = Limiter(SlidingWindow(5, window=60), store=store)
    for _ in range(1000):
        limiter.allow("a")
        limiter.forget("a")
    (table,) = store._tables.values()
    assert len(store) == 1
    assert sum(map(len, table._ring)) == 1


def test_a_long_key_is_held_as_a_digest(clock: ManualClock):
    store = MemoryStore(clock=clock)
    limiter = Limiter(SlidingWindow(5, window=60), store=store)
    limiter.take("k" * 10**6, 5)
    assert not limiter.allow("k" * 10**6)
    (table,) = store._tables.values()
    assert [len(name.value) for name in table.states] == [32]


@pytest.mark.parametrize("limit", [1, 2, 3, 30])
@pytest.mark.parametrize("window_us", [1, 2, 40, 900])
def test_the_quick_way_of_allow_gives_the_answers_of_the_whole_decision(
    clock: ManualClock, limit: int, window_us: int, monkeypatch: pytest.MonkeyPatch
):
    policy = SlidingWindow(limit, window=window_us / 1_000_000)
    quick, whole = (Limiter(policy, store=MemoryStore(clock=clock)) for _ in range(2))
    random = Random(limit * 1000 + window_us)
    ways = Counter()
    monkeypatch.setattr(sliding_window, "look", counted(sliding_window.look, ways))
    for _ in range(3000):
        clock.advance(random.choice([0, 0, 1, 1, window_us // 4, window_us, window_us + 1]) / 1_000_000)
        key, cost = random.choice("ab"), random.choice([1] * 15 + [2, limit])
        before = ways["look"]
        allowed = quick.allow(key, cost)
        ways["quick"] += ways["look"] == before
        assert allowed == whole.take(key, cost).allowed
        assert quick.peek(key) == whole.peek(key)
    assert ways["quick"] > 500  # it is the quick way that was tried


def counted(function, ways: Counter):
    def counting(*args):
        ways["look"] += 1
        return function(*args)

    return counting


@pytest.fixture
def no_whole_way(clock: ManualClock, monkeypatch: pytest.MonkeyPatch):
    """Make the first call of a limiter the last that may go the whole way."""

    def bar(store: MemoryStore) -> None:
        store._bench.wake_ns = 10**30  # no turn to give back idle keys either

        def refuse(*_: object) -> None:
            raise AssertionError("this went the whole way")

        monkeypatch.setattr(store, "_decide", refuse)

    return bar


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 40])
def test_the_quick_way_allows_the_limit_in_each_window_to_the_microsecond(clock: ManualClock, no_whole_way, limit: int):
    store = MemoryStore(clock=clock)
    limiter = Limiter(SlidingWindow(limit, window=0.001), store=store)
    allowed_at = []
    assert limiter.allow("a")
    no_whole_way(store)
    for n in range(5000):
        now = n + 1
        clock.advance(0.000001)
        room = limit - sum(now - 1000 < stamp for stamp in [0, *allowed_at][-limit:])
        asked = [limiter.allow("a") for _ in range(1 + (n % 7 == 0) * limit)]
        assert asked == [True] * min(room, len(asked)) + [False] * (len(asked) - min(room, len(asked)))
        allowed_at += [now] * sum(asked)
    (log,) = next(iter(store._tables.values())).states.values()
    assert len(log) <= 1.5 * limit + 10  # and it forgets what has left


def test_the_quick_way_of_two_limits_on_one_counter_holds_each_and_cuts_nothing_that_the_other_counts(
    clock: ManualClock, no_whole_way
):
    store = MemoryStore(clock=clock)
    low, high = (Limiter(SlidingWindow(limit, window=0.001, name="one"), store=store) for limit in (2, 60))
    assert high.allow("a")
    no_whole_way(store)
    stamps = [0]
    for now in range(1, 6000):
        clock.advance(0.000001)
        used = sum(now - 1000 < stamp for stamp in stamps[-60:])
        for limiter, limit in ((low, 2), (high, 60))[:: 1 if now % 3 else -1]:
            if now // 1500 % 2 or now % 50 == 0:
                allowed = limiter.allow("a")
                assert allowed == (used < limit)
                used += allowed
                stamps += [now] * allowed


def test_a_key_is_quick_again_when_its_dearer_requests_have_left(clock: ManualClock, no_whole_way):
    store = MemoryStore(clock=clock)
    limiter = Limiter(SlidingWindow(10, window=60), store=store)
    for cost in (1, 3, 1):
        limiter.take("a", cost)
        clock.advance(0.1)
    clock.advance(59.85)  # the first two have left
    assert limiter.take("a").remaining == 8
    no_whole_way(store)
    assert [limiter.allow("a") for _ in range(9)] == [True] * 8 + [False]
    clock.advance(2)
    assert [limiter.allow("a") for _ in range(2)] == [True, False]


def test_the_quick_way_leaves_a_step_of_the_clock_to_the_whole_way(clock: ManualClock):
    limiter = Limiter(SlidingWindow(2, window=60), store=MemoryStore(clock=clock))
    limiter.allow("a")
    clock.advance(-30)
    assert limiter.allow("a")  # its stamp is the newest one, 30 seconds from now
    assert limiter.peek("a").reset_after == 90
    clock.advance(89.999999)
    assert not limiter.allow("a")
    clock.advance(0.000001)
    assert [limiter.allow("a") for _ in range(3)] == [True, True, False]


def test_the_clock_of_the_process_is_kept_to_the_nanosecond_and_waits_are_rounded_up():
    policy = SlidingWindow(1, window=0.000001)
    log, _ = sliding_window.charge(None, policy, 10_001, 1)
    assert sliding_window.look(log, policy, 11_000, 1) == (False, 0, 1, 1)
    assert sliding_window.step(log, policy, 11_000, 1, True) == (False, 0, 1, 1)
    assert sliding_window.look(log, policy, 11_001, 1) == (True, 1, 0, 0)


def test_a_store_that_decides_in_its_own_way_is_asked_by_allow_too(clock: ManualClock):
    class Mine(MemoryStore):
        open = True

        def decide(self, requests, *, commit=True):
            return super().decide(requests, commit=commit) if self.open else [[Verdict(False, 0, 1, 1)]]

    store = Mine(clock=clock)
    limiter = Limiter(SlidingWindow(5, window=60), store=store)
    assert [limiter.allow("a") for _ in range(2)] == [True, True]
    store.open = False
    assert not limiter.allow("a")


def test_keys_of_a_short_window_are_given_back_in_time_beside_those_of_a_long_one(clock: ManualClock):
    store = MemoryStore(clock=clock)
    hot = Limiter(SlidingWindow(10**9, window=10 * 86400), store=store)
    hot.allow("a")
    hot.allow("a")  # nothing is due for hours
    short = Limiter(SlidingWindow(5, window=1), store=store)
    for n in range(500):
        short.allow(f"k{n}")
    for _ in range(100):
        clock.advance(0.05)
        hot.allow("a")
    assert len(store) == 1


def test_a_slow_key_of_a_huge_limit_keeps_no_more_than_two_windows_of_entries(clock: ManualClock):
    store = MemoryStore(clock=clock)
    limiter = Limiter(SlidingWindow(10**9, window=1), store=store)
    for _ in range(5000):
        limiter.allow("a")
        clock.advance(0.01)
    (table,) = store._tables.values()
    assert len(table.states["a"]) <= 2 * 201


@pytest.mark.parametrize("max_keys", [0, -1, 1.5, True, "10", None])
def test_a_max_keys_that_is_no_whole_number_is_refused(max_keys):
    with pytest.raises(ValueError, match="max_keys must be a whole number of 1 or more, got "):
        MemoryStore(max_keys=max_keys)


def test_the_process_clock_decides_when_none_is_given():
    limiter = Limiter(SlidingWindow(1, window=3600))
    assert limiter.allow("a")
    assert 3599 < limiter.take("a").retry_after <= 3600


def test_idle_keys_are_given_back_where_only_allow_is_called_on_one_hot_key(clock: ManualClock):
    store = MemoryStore(clock=clock)
    limiter = Limiter(SlidingWindow(10**6, window=60), store=store)
    for n in range(2000):
        limiter.allow(f"gone-{n}")
    for _ in range(800):
        clock.advance(0.1)
        limiter.allow("hot")
    assert len(store) == 1


def test_bytes_are_never_taken_for_the_digest_of_a_long_key(clock: ManualClock):
    limiter = Limiter(SlidingWindow(5, window=60), store=MemoryStore(clock=clock))
    limiter.allow("k" * 300)
    with pytest.raises(InvalidKey):
        limiter.allow(hashlib.sha256(b"k" * 300).digest())
    assert limiter.peek("k" * 300).remaining == 4


def test_a_clock_that_was_a_year_ahead_does_not_stop_idle_keys_from_being_given_back(clock: ManualClock):
    store = MemoryStore(clock=clock)
    limiter = Limiter(SlidingWindow(5, window=60), store=store)
    clock.advance(365 * 86400)
    limiter.take("glitch")
    clock.advance(-365 * 86400)
    for n in range(3000):
        limiter.take(f"gone-{n}")
    for _ in range(600):
        clock.advance(1)
        limiter.take("a")
    assert len(store) == 1


@pytest.mark.parametrize("gap", [61.875, 30.9375, 20, 660])
def test_idle_keys_are_given_back_whatever_the_pace_of_the_calls(clock: ManualClock, gap: float):
    store = MemoryStore(clock=clock)
    limiter = Limiter(SlidingWindow(5, window=60), store=store)
    for n in range(2000):
        limiter.take(f"k{n}")
        clock.advance(gap)
    assert len(store) < 50


class Enough(Exception):
    """What a signal's handler raises to end a call."""


@contextlib.contextmanager
def raising_handler():
    def enough(*_: object) -> None:
        raise Enough

    before = signal.signal(signal.SIGALRM, enough)
    gc.disable()  # Hypothesis is called back by a collection, and what is raised in there is lost: no end of the loop
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        gc.enable()


@pytest.mark.parametrize("cost", [1, 2], ids=["units", "totals"])
def test_a_signal_that_ends_a_call_in_the_middle_never_lets_one_more_through(cost: int):
    limiter = Limiter(SlidingWindow(10**9, window=3600))
    allowed = limiter.take("a", cost).allowed * cost
    with raising_handler():
        for n in range(400):
            with contextlib.suppress(Enough):
                signal.setitimer(signal.ITIMER_REAL, 0.0001 + n % 50 * 1e-6)
                while True:
                    if limiter.allow("a") if n % 3 else limiter.take("a").allowed:
                        allowed += 1
    assert 10**9 - limiter.peek("a").remaining >= allowed
    assert limiter._store._bench.free == [None]  # and the turn is given back, once
    (log,) = [state for table in limiter._store._tables.values() for state in table.states.values()]
    stamps = list(log.pairs[2::2]) if cost > 1 else list(log[1:])
    assert stamps == sorted(stamps)


def test_a_signal_that_ends_the_wait_for_a_turn_takes_and_gives_back_nothing():
    limiter = Limiter(SlidingWindow(5, window=3600))
    bench, has_it, done = limiter._store._bench, threading.Event(), threading.Event()

    def hold(_: None) -> None:
        has_it.set()
        done.wait(10)

    holder = threading.Thread(target=bench.hold, args=(hold, None))
    holder.start()
    has_it.wait(10)
    with raising_handler():
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        with pytest.raises(Enough):
            limiter.allow("a")
    assert bench.free == []
    done.set()
    holder.join()
    assert bench.free == [None]
    assert limiter.peek("a").remaining == 5


def test_a_call_waits_while_another_thread_has_the_turn():
    limiter = Limiter(SlidingWindow(5, window=3600))
    bench, has_it, order = limiter._store._bench, threading.Event(), []

    def hold(_: None) -> None:
        has_it.set()
        with contextlib.suppress(threading.BrokenBarrierError):
            threading.Barrier(2).wait(0.02)  # as long as that
        order.append("held")

    holder = threading.Thread(target=bench.hold, args=(hold, None))
    holder.start()
    has_it.wait(10)
    limiter.allow("a")
    order.append("allowed")
    holder.join()
    assert order == ["held", "allowed"]


def test_who_has_the_turn_may_ask_and_still_has_it_then():
    limiter = Limiter(SlidingWindow(5, window=3600))
    bench = limiter._store._bench

    def ask(_: None) -> list[object]:
        return [limiter.allow("a"), limiter.take("a").allowed, list(bench.free)]

    assert bench.hold(ask, None) == [True, True, []]
    assert bench.free == [None]


def test_a_child_that_was_forked_off_by_the_thread_that_has_the_turn_gives_it_back_once():
    code = (
        "import os\nfrom sluicegate import *\nlimiter = Limiter(SlidingWindow(10, window=60))\n"
        "bench = limiter._store._bench\nchild = bench.hold(lambda _: os.fork(), None)\n"
        "assert bench.free == [None] and limiter.allow('a')\n"
        "if child == 0: os._exit(0)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=20)


def test_a_call_from_a_signals_handler_in_the_middle_of_another_does_not_hang():
    code = (
        "import signal, time\nfrom sluicegate import *\nlimiter = Limiter(SlidingWindow(10**9, window=60))\n"
        "signal.signal(signal.SIGALRM, lambda *_: limiter.take('a'))\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)\nend = time.monotonic() + 0.3\n"
        "while time.monotonic() < end: limiter.take('a')\n"
        "signal.setitimer(signal.ITIMER_REAL, 0)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=20)


def test_a_child_that_was_forked_off_while_threads_were_asking_is_answered():
    code = (
        "import os, threading, time\nfrom sluicegate import *\nlimiter = Limiter(SlidingWindow(10**9, window=60))\n"
        "def ask():\n    while True: limiter.take('a')\n"
        "for _ in range(2): threading.Thread(target=ask, daemon=True).start()\n"
        "for _ in range(8):\n"
        "    time.sleep(0.01)\n    child = os.fork()\n"
        "    if child == 0:\n        limiter.allow('a')\n        os._exit(0)\n"
        "    assert os.waitpid(child, 0)[1] == 0\n"
        "os._exit(0)\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=20)


# Every algorithm


def test_every_algorithm_is_here():
    assert {policy.algorithm for policy in POLICIES} == set(BY_NAME)


@each
def test_idle_keys_are_given_back_whatever_their_algorithm_and_those_in_use_are_not(clock: ManualClock, policy: Policy):
    store = MemoryStore(clock=clock)
    limiter = Limiter(policy, store=store)
    clock.advance(1_700_000_000 // policy.window * policy.window + 1)
    for n in range(1000):
        limiter.take(f"gone-{n}", 5)
    idle = limiter.peek("gone-0").reset_after
    clock.advance(idle - 0.000001)
    for n in range(100):
        limiter.take(f"new-{n}")
        assert not limiter.allow(f"gone-{n}", 5)
    clock.advance(0.000001 + policy.window / 64)
    for _ in range(400):
        limiter.take("new-0")
    assert len(store) <= 101
    clock.advance(policy.window * 2)
    for _ in range(400):
        limiter.take("new-0")
    assert len(store) == 1


@each
def test_a_key_without_a_place_of_its_own_is_never_over_its_limit_whatever_the_algorithm(
    clock: ManualClock, policy: Policy
):
    store = MemoryStore(clock=clock, max_keys=10)
    limiter = Limiter(policy, store=store)
    for n in range(10):
        limiter.allow(f"first-{n}", 5)
    clock.advance(policy.window / 2)
    assert sum(limiter.allow("late") for _ in range(9)) == 5  # in a shared counter
    assert store.overflowed == 9
    for _ in range(3):
        wait = limiter.peek("late").retry_after
        clock.advance(wait - 0.000001)
        for n in range(10):
            limiter.allow(f"first-{n}")
        assert not limiter.allow("late")
        clock.advance(0.000001)
        assert limiter.allow("late")
        limiter.take("late", 4)
        assert not all(limiter.allow("late") for _ in range(9))
    assert len(store) <= 10


@pytest.mark.usefixtures("hasty_threads")
@pytest.mark.parametrize(
    "policy",
    [
        TokenBucket(1000, window=30 * 86400),
        FixedWindow(1000, window=3650 * 86400),
        CalendarWindow(1000, every="year"),
    ],
    ids=lambda policy: policy.algorithm,
)
def test_threads_on_one_key_get_the_limit_and_not_one_more_whatever_the_algorithm(policy: Policy):
    limiter = Limiter(policy)
    counts, start = [], threading.Barrier(8)

    def work() -> None:
        start.wait()
        counts.append(sum(bool((limiter.take if n % 2 else limiter.allow)("a")) for n in range(200)))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts) == 1000


@each
def test_a_state_that_a_clock_step_left_ahead_is_counted_also_when_the_search_for_idle_keys_mends_it(
    clock: ManualClock, policy: Policy
):
    store = MemoryStore(clock=clock)
    limiter = Limiter(policy, store=store)
    clock.advance(365 * 86400)
    for n in range(5):
        limiter.take(f"k{n}", 5)
    clock.advance(-365 * 86400)
    for _ in range(30):
        limiter.peek("other")
    assert not any(limiter.allow(f"k{n}") for n in range(5))
    assert store.repaired == 5


@each
@pytest.mark.parametrize("seed", range(3))
def test_a_charge_in_one_step_is_what_mending_looking_and_charging_make_of_it(policy: Policy, seed: int):
    random, now_ns, ways, usual = Random(seed), START_NS, Counter(), policy
    algorithm = BY_NAME[policy.algorithm]
    state, _ = algorithm.charge(None, policy, now_ns, 1)
    for _ in range(800):
        now_ns += random.choice([0, 1, 999, 10**9, policy.window_us * 100, policy.window_us * 1000, -(10**9)])
        whole, cost = deepcopy(state), random.choice([1] * 20 + [2, 6])
        policy = random.choice([usual] * 9 + [usual.with_limit(1)])
        algorithm.mend(whole, policy, now_ns)
        expected = algorithm.look(whole, policy, now_ns, cost)
        glance = algorithm.step(state, policy, now_ns, cost, False)
        assert glance is None or (glance, told(state)) == (expected, told(whole))
        if expected.allowed:
            whole, reset_after_us = algorithm.charge(whole, policy, now_ns, cost)
            expected = Verdict(True, expected.remaining - cost, 0, reset_after_us)
        verdict = algorithm.step(state, policy, now_ns, cost, True)
        if verdict is None:
            assert glance is None
            state = whole
        else:
            assert verdict == expected
            assert told(state) == told(whole)
        ways[verdict is None, expected.allowed] += 1
    assert ways[False, True] > 30  # both ways were tried


def told(state) -> list[object]:
    """Return all that a state holds."""
    if isinstance(state, sliding_window.Units):
        return list(state)
    return [type(state), *(getattr(state, name) for name in type(state).__slots__)]


@each
def test_two_stores_of_one_process_share_nothing(clock: ManualClock, policy: Policy):
    one, other = (Limiter(policy, store=MemoryStore(clock=clock)) for _ in range(2))
    one.take("a", 5)
    one.block("b", 10)
    assert other.take("a", 5).allowed
    assert other.allow("b")


def test_a_key_that_is_listed_and_has_no_state_is_passed_over(clock: ManualClock):
    # As when a signal ends a first charge between the two.
    store = MemoryStore(clock=clock)
    limiter = Limiter(SlidingWindow(5, window=60), store=store)
    limiter.take("a")
    (table,) = store._tables.values()
    table.enter("never charged", clock.now_us() + 60_000_000)
    for _ in range(70):
        clock.advance(1)
        limiter.take("b")
    assert len(store) == 1


def test_idle_keys_are_given_back_however_many_policies_a_request_has(clock: ManualClock):
    store = MemoryStore(clock=clock)
    limiter = Limiter(*(SlidingWindow(5, window=1, name=f"p{n}") for n in range(40)), store=store)
    for n in range(300):
        limiter.take(f"fresh-{n}")
        clock.advance(0.05)
    assert len(store) <= 40 * 20 * 2  # twice what is live


def test_a_flooded_namespace_is_given_back_in_time_however_many_others_there_are(clock: ManualClock):
    store = MemoryStore(clock=clock)
    limiters = [Limiter(SlidingWindow(5, window=0.1, name=f"p{n}"), store=store) for n in range(40)]
    for limiter in limiters:
        limiter.allow("a")
    for n in range(5000):
        clock.advance(0.001)
        limiters[0].allow(f"fresh-{n}")
    assert len(store) < 2 * 100  # twice what is live


def test_a_namespace_with_much_to_give_back_does_not_keep_others_waiting_for_good(clock: ManualClock):
    store = MemoryStore(clock=clock)
    large, small = (Limiter(SlidingWindow(5, window=window), store=store) for window in (60, 1))
    for n in range(20_000):
        large.allow(f"gone-{n}")
    clock.advance(120)
    for n in range(5000):
        small.take(f"fresh-{n}")
        clock.advance(0.01)
    assert len(store) < 2 * 100


def test_no_namespace_is_left_behind_by_a_clock_that_was_a_year_ahead(clock: ManualClock):
    store = MemoryStore(clock=clock)
    limiters = [Limiter(SlidingWindow(5, window=60, name=f"p{n}"), store=store) for n in range(20)]
    clock.advance(365 * 86400)
    for _ in range(50):
        limiters[0].take("glitch")
        clock.advance(1)
    clock.advance(-365 * 86400)
    for limiter in limiters:
        for n in range(50):
            limiter.take(f"gone-{n}")
    for _ in range(400):
        clock.advance(1)
        limiters[0].take("a")
    assert len(store) == 1


@pytest.mark.parametrize("verb", ["block", "take"])
def test_a_call_that_a_signal_ends_anywhere_leaves_no_key_for_good(verb: str):
    """Whatever it was at: a block, a first charge, or the giving back of others."""
    for place in itertools.count():
        clock = ManualClock()
        store = MemoryStore(clock=clock)
        limiter = Limiter(SlidingWindow(5, window=60), store=store)
        for key in ("idle", "live"):
            limiter.take(key)
            clock.advance(1)
        clock.advance(59)
        ended = True
        with contextlib.suppress(Enough), ended_at(place):
            limiter.take("fresh") if verb == "take" else limiter.block("fresh", 30)
            ended = False
        for _ in range(200):
            clock.advance(1)
            limiter.take("a")
        (table,) = store._tables.values()
        assert list(table.states) == ["a"], place
        if not ended:
            break
    assert place > 5


@contextlib.contextmanager
def ended_at(place: int):
    """Raise in the store's file as a signal's handler may: where a call begins, or one into C ends."""
    places = itertools.count()

    def profile(frame, event, _):
        if event in ("call", "c_return") and frame.f_code.co_filename == memory.__file__ and next(places) == place:
            raise Enough

    sys.setprofile(profile)
    try:
        yield
    finally:
        sys.setprofile(None)


@each
def test_shared_counters_are_given_back_when_they_are_idle(clock: ManualClock, policy: Policy):
    store = MemoryStore(clock=clock, max_keys=10)
    limiter = Limiter(policy, store=store)
    for n in range(500):
        limiter.take("a")
        limiter.take(f"rush-{n}")
    (table,) = store._tables.values()
    assert len(table.shared) > 100
    for _ in range(400):
        clock.advance(policy.window / 10)
        limiter.take("a")
    assert table.shared == {}
    assert sum(map(len, table._ring)) + len(table._due) == 1


@pytest.mark.parametrize("seed", range(5))
def test_in_a_full_store_no_key_is_over_its_limit_whatever_comes_and_goes(clock: ManualClock, seed: int):
    random = Random(seed)
    store = MemoryStore(clock=clock, max_keys=4)
    limiters = [Limiter(SlidingWindow(3, window=1, name=f"p{n}"), store=store) for n in range(3)]
    allowed: dict[tuple[int, str], list[int]] = {}
    for _ in range(3000):
        clock.advance(random.choice([0, 0.001, 0.01, 0.02, 0.02, 0.05, 0.1]))
        n, key = random.randrange(3), random.choice("abcdef")
        stamps = allowed.setdefault((n, key), [])
        if limiters[n].take(key):
            stamps.append(clock.now_us())
        assert sum(stamp > clock.now_us() - 1_000_000 for stamp in stamps[-4:]) <= 3
    assert store.overflowed > 100
    assert sum(map(len, allowed.values())) > 100


@pytest.mark.parametrize("namespaces", [1, 50])
def test_a_fresh_key_in_a_full_store_looks_at_a_few_keys_however_many_namespaces_there_are(
    clock: ManualClock, namespaces: int, monkeypatch: pytest.MonkeyPatch
):
    store = MemoryStore(clock=clock, max_keys=5000)
    limiters = [Limiter(SlidingWindow(5, window=60, name=f"p{n}"), store=store) for n in range(namespaces)]
    clock.advance(0.9)
    for n in range(5000):
        limiters[n % namespaces].take(f"live-{n}")
    clock.advance(59.9)  # in the slot in which they end, and all still live
    for limiter in limiters:
        limiter.take("fresh")
    ways = Counter()
    monkeypatch.setattr(sliding_window, "idle_at", counted(sliding_window.idle_at, ways))
    for n in range(20):
        ways.clear()
        limiters[0].take(f"fresh-{n}")
        assert ways["look"] <= 50
    assert store.overflowed == 20 + namespaces


def test_an_idle_key_of_another_namespace_makes_room_at_the_very_moment(clock: ManualClock):
    store = MemoryStore(clock=clock, max_keys=20)
    limiters = [Limiter(SlidingWindow(5, window=60, name=f"p{n}"), store=store) for n in range(20)]
    limiters[13].take("idle")
    clock.advance(0.000001)
    for limiter in limiters:
        if limiter is not limiters[13]:
            limiter.take("live")
    clock.advance(59.999998)
    limiters[0].take("shares")
    assert store.overflowed == 1
    clock.advance(0.000001)
    limiters[0].take("has its own")
    assert store.overflowed == 1
    assert len(store) == 20


class Reading:
    """A clock that reads what it is told to."""

    def __init__(self, now_us: object) -> None:
        self.reads = now_us

    def now_us(self):
        return self.reads


FURTHEST_US = 8 * 10**15


@pytest.mark.parametrize("reads", [FURTHEST_US + 1, -FURTHEST_US - 1, 2**63, 10**30, 1.5, float("nan"), "0", None])
def test_a_clock_that_reads_what_no_store_can_count_by_is_refused_and_nothing_is_charged(reads: object):
    clock = Reading(10**15)
    store = MemoryStore(clock=clock)
    bucket, window = TokenBucket(5, window=60), SlidingWindow(5, window=60)
    both, alone = Limiter(bucket, window, store=store), Limiter(window, store=store)
    both.take("a")
    clock.reads = reads
    calls = [
        lambda: both.take("a"),
        lambda: both.take("fresh"),
        lambda: alone.allow("a"),
        lambda: alone.block("a", 30),
        lambda: Limiter(SlidingWindow(5, window=1), store=store),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"clock\.now_us\(\) must be a whole number from -8\d+ to 8\d+, .*, got "):
            call()
        assert store._bench.free == [None]
    clock.reads = 10**15
    assert [decision.remaining for decision in both.peek("a").decisions] == [4, 4]
    assert len(store) == 2


@pytest.mark.parametrize("now_us", [FURTHEST_US, -FURTHEST_US, -1])
@pytest.mark.parametrize("window", [0.000001, 3650 * 86400])
@pytest.mark.parametrize("buckets", [None, 1])
def test_a_clock_may_be_as_far_from_its_origin_as_is_said(now_us: int, window: float, buckets: int | None):
    store = MemoryStore(clock=Reading(now_us))
    policies = (
        SlidingWindow(5, window=window, buckets=buckets),
        TokenBucket(5, window=window),
        FixedWindow(5, window=window),
        CalendarWindow(5, every="year"),
    )
    limiter = Limiter(*policies, store=store)
    assert [limiter.take("a", cost).allowed for cost in (1, 1, 2, 2)] == [True, True, True, False]
    assert [limiter.block("a", 30), limiter.allow("a")] == [None, False]
