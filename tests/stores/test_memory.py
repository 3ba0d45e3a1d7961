"""The store in memory: threads, the bound on keys, and idle keys that are given back."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import logging
import signal
import subprocess
import sys
import threading
from collections import Counter
from random import Random

import pytest

from headgate import InvalidKey, Limiter, MemoryStore, SlidingWindow
from headgate.algorithms import sliding_window
from headgate.testing import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def hasty_threads():
    """Let threads take turns as often as they can, so that what is not locked is seen."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


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
    with caplog.at_level(logging.WARNING, "headgate"):
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


def test_a_slow_key_of_a_huge_limit_keeps_no_more_than_two_windows_of_entries(clock: ManualClock):
    store = MemoryStore(clock=clock)
    limiter = Limiter(SlidingWindow(10**9, window=1), store=store)
    for _ in range(5000):
        limiter.allow("a")
        clock.advance(0.01)
    (table,) = store._tables.values()
    assert len(table.states["a"].stamps) <= 2 * 201


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


@pytest.mark.parametrize("totals", [False, True], ids=["units", "totals"])
def test_a_signal_that_ends_a_call_in_the_middle_never_lets_one_more_through(totals: bool):
    class Enough(Exception):
        pass

    def enough(*_: object) -> None:
        raise Enough

    limiter = Limiter(SlidingWindow(10**9, window=3600))
    limiter.take("a", 2 if totals else 1)
    before = signal.signal(signal.SIGALRM, enough)
    try:
        for n in range(400):
            with contextlib.suppress(Enough):
                signal.setitimer(signal.ITIMER_REAL, 0.0001 + n % 50 * 1e-6)
                while True:
                    limiter.allow("a") if n % 3 else limiter.take("a")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    (log,) = [state for table in limiter._store._tables.values() for state in table.states.values()]
    assert log.total >= len(log.stamps)  # never a stamp without its unit
    if totals:
        assert len(log.totals) >= len(log.stamps)
        assert log.totals[-1] <= log.total


def test_a_call_from_a_signals_handler_in_the_middle_of_another_does_not_hang():
    code = (
        "import signal, time\nfrom headgate import *\nlimiter = Limiter(SlidingWindow(10**9, window=60))\n"
        "signal.signal(signal.SIGALRM, lambda *_: limiter.take('a'))\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)\nend = time.monotonic() + 0.3\n"
        "while time.monotonic() < end: limiter.take('a')\n"
        "signal.setitimer(signal.ITIMER_REAL, 0)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=20)


def test_a_child_that_was_forked_off_while_threads_were_asking_is_answered():
    code = (
        "import os, threading, time\nfrom headgate import *\nlimiter = Limiter(SlidingWindow(10**9, window=60))\n"
        "def ask():\n    while True: limiter.take('a')\n"
        "for _ in range(2): threading.Thread(target=ask, daemon=True).start()\n"
        "for _ in range(8):\n"
        "    time.sleep(0.01)\n    child = os.fork()\n"
        "    if child == 0:\n        limiter.allow('a')\n        os._exit(0)\n"
        "    assert os.waitpid(child, 0)[1] == 0\n"
        "os._exit(0)\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=20)
