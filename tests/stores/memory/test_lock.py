"""The lock of the memory store: threads, signal handlers and forks."""

from __future__ import annotations

import contextlib
import gc
import itertools
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sluicegate import CalendarWindow, Concurrency, FixedWindow, Limiter, MemoryStore, SlidingWindow, TokenBucket
from sluicegate._core.policy import Policy
from sluicegate._stores import memory
from sluicegate.testing import ManualClock
from stores.harness import limiter_of


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


PACKAGE = str(Path(memory.__file__).parent)


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
    assert limiter._store._lock.token == [None]  # and the turn is given back, once
    (log,) = [state for table in limiter._store._tables.values() for state in table.states.values()]
    stamps = list(log.pairs[2::2]) if cost > 1 else list(log[1:])
    assert stamps == sorted(stamps)


def test_a_signal_that_ends_the_wait_for_the_lock_neither_takes_nor_releases_it():
    limiter = Limiter(SlidingWindow(5, window=3600))
    lock, has_it, done = limiter._store._lock, threading.Event(), threading.Event()

    def hold(_: None) -> None:
        has_it.set()
        done.wait(10)

    holder = threading.Thread(target=lock.run_locked, args=(hold, None))
    holder.start()
    has_it.wait(10)
    with raising_handler():
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        with pytest.raises(Enough):
            limiter.allow("a")
    assert lock.token == []
    done.set()
    holder.join()
    assert lock.token == [None]
    assert limiter.peek("a").remaining == 5


def test_a_call_waits_while_another_thread_holds_the_lock():
    limiter = Limiter(SlidingWindow(5, window=3600))
    lock, has_it, order = limiter._store._lock, threading.Event(), []

    def hold(_: None) -> None:
        has_it.set()
        with contextlib.suppress(threading.BrokenBarrierError):
            threading.Barrier(2).wait(0.02)  # as long as that
        order.append("held")

    holder = threading.Thread(target=lock.run_locked, args=(hold, None))
    holder.start()
    has_it.wait(10)
    limiter.allow("a")
    order.append("allowed")
    holder.join()
    assert order == ["held", "allowed"]


def test_a_call_within_a_section_of_its_own_thread_goes_through_and_keeps_the_lock():
    limiter = Limiter(SlidingWindow(5, window=3600))
    lock = limiter._store._lock

    def ask(_: None) -> list[object]:
        return [limiter.allow("a"), limiter.take("a").allowed, list(lock.token)]

    assert lock.run_locked(ask, None) == [True, True, []]
    assert lock.token == [None]


def test_a_child_that_was_forked_off_by_the_thread_that_holds_the_lock_releases_it_once():
    code = (
        "import os\nfrom sluicegate import *\nlimiter = Limiter(SlidingWindow(10, window=60))\n"
        "lock = limiter._store._lock\nchild = lock.run_locked(lambda _: os.fork(), None)\n"
        "assert lock.token == [None] and limiter.allow('a')\n"
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


@pytest.mark.usefixtures("hasty_threads")
@pytest.mark.parametrize(
    "policy",
    [
        TokenBucket(1000, window=30 * 86400),
        FixedWindow(1000, window=3650 * 86400),
        CalendarWindow(1000, every="year"),
        Concurrency(1000, ttl=3650 * 86400),
    ],
    ids=lambda policy: policy.algorithm,
)
def test_threads_on_one_key_get_the_limit_and_not_one_more_whatever_the_algorithm(policy: Policy):
    limiter = limiter_of(policy, MemoryStore())
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
        if event in ("call", "c_return") and frame.f_code.co_filename.startswith(PACKAGE) and next(places) == place:
            raise Enough

    sys.setprofile(profile)
    try:
        yield
    finally:
        sys.setprofile(None)


def test_what_a_signal_handler_raises_is_never_taken_for_a_miss_of_the_fast_path():
    class Enough(KeyError, IndexError, TypeError):
        pass

    def enough(*_: object) -> None:
        raise Enough

    limiter = Limiter(SlidingWindow(10**9, window=3600))
    returned = raised = 0
    limiter.allow("a")
    before = signal.signal(signal.SIGALRM, enough)
    try:
        for n in range(3000):
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.00005 + n % 50 * 1e-6)
                while True:
                    limiter.allow("a")
                    returned += 1
            except Enough:
                raised += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    # Each call that was interrupted may have taken its unit; none took two.
    assert returned + 1 <= 10**9 - limiter.peek("a").remaining <= returned + 1 + raised
    assert raised == 3000
