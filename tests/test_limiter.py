"""The two limiters of the service: edges of the window, bursts, parallel calls. Add your own below.

`make(limit, window_seconds)` gives a limiter on each backend in turn. Tests of real time only ever wait longer than
they must, and compare times that they took themselves, so that a slow machine does not make them fail.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

import servers
from app.limiter_memory import MemorySlidingWindow
from app.limiter_redis import RedisSlidingWindow
from machine import awake
from sluicegate import InvalidKey, InvalidPolicy, Limiter, MemoryStore, SlidingWindow
from sluicegate.testing import ManualClock

Make = Callable[[int, float], MemorySlidingWindow | RedisSlidingWindow]


@pytest.fixture(params=["memory", *(servers.kinds() or ["none"])])
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    if request.param == "memory":
        yield MemorySlidingWindow
        return
    if request.param == "none":
        pytest.skip(servers.HOW_TO_GET_ONE)
    url = servers.shared(request.param).url
    with ExitStack() as opened:
        yield lambda limit, window: opened.enter_context(RedisSlidingWindow(limit, window, url))


@pytest.fixture
def user() -> str:
    """A user that no other test has: the servers are shared."""
    return f"user-{uuid.uuid4().hex}"


# Bursts


def test_a_burst_is_allowed_up_to_the_limit_and_no_further(make: Make, user: str):
    limiter = make(10, 60)
    assert [limiter.allow(user) for _ in range(12)] == [True] * 10 + [False] * 2


def test_each_user_has_a_limit_of_their_own(make: Make, user: str):
    limiter = make(1, 60)
    assert limiter.allow(user)
    assert not limiter.allow(user)
    assert limiter.allow(f"{user}-other")


# Edges of the window. In memory the clock is moved by hand, so that they are met to the microsecond.


def test_a_request_is_free_again_exactly_one_window_later():
    clock = ManualClock()
    limiter = Limiter(SlidingWindow(2, window=60), store=MemoryStore(clock=clock))
    assert limiter.allow("alice")
    clock.advance(30)
    assert limiter.allow("alice")
    clock.advance(29.999999)
    assert not limiter.allow("alice")
    clock.advance(0.000001)
    assert limiter.allow("alice")
    assert not limiter.allow("alice")


def test_a_burst_on_both_sides_of_a_minute_is_not_doubled():
    clock = ManualClock(start=59)
    limiter = Limiter(SlidingWindow(10, window=60), store=MemoryStore(clock=clock))
    assert sum(limiter.allow("alice") for _ in range(20)) == 10
    clock.advance(2)
    assert sum(limiter.allow("alice") for _ in range(20)) == 0


def test_no_window_ever_holds_more_than_the_limit(make: Make, user: str):
    limit, window = 5, 0.1
    limiter = make(limit, window)
    allowed: list[tuple[float, float]] = []
    end = time.monotonic() + 0.5
    # A machine that is busy may leave out most of it: then on, until the window has moved.
    while (before := time.monotonic()) < end or (len(allowed) <= limit and before < end + 10):
        if limiter.allow(user):
            allowed.append((before, time.monotonic()))
    assert len(allowed) > limit
    for (before, _), (_, after) in zip(allowed, allowed[limit:], strict=False):
        assert after - before >= window - 0.001  # for the server's clock may run a little faster than this one


def test_after_a_whole_window_the_whole_limit_is_back(make: Make, user: str):
    limiter = make(3, 0.15)
    assert [limiter.allow(user) for _ in range(3)] == [True] * 3
    time.sleep(0.16)
    assert limiter.allow(user)


def test_denied_requests_do_not_count(make: Make, user: str):
    limiter = make(2, 0.2)
    began_at = time.monotonic()
    assert [limiter.allow(user) for _ in range(2)] == [True, True]
    counted_at = time.monotonic()
    while time.monotonic() < began_at + 0.15:
        limiter.allow(user)
    # The two have left by then. What was denied in between has not, if it was counted.
    time.sleep(max(0, counted_at + 0.21 - time.monotonic()))
    assert limiter.allow(user)


# Parallel calls


def test_threads_share_one_limit_and_use_all_of_it(make: Make, user: str):
    limiter = make(50, 60)
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: limiter.allow(user), range(200)))
    assert sum(answers) == 50


def test_two_instances_on_one_server_share_one_limit(server: servers.Server, user: str):
    settings = 20, 60, server.url
    with RedisSlidingWindow(*settings) as one, RedisSlidingWindow(*settings) as other, ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda n: (one, other)[n % 2].allow(user), range(80)))
    assert sum(answers) == 20


def test_two_limiters_in_memory_are_apart(user: str):
    assert MemorySlidingWindow(1, 60).allow(user)
    assert MemorySlidingWindow(1, 60).allow(user)


# What is refused, and what is given back


@pytest.mark.parametrize(("limit", "window"), [(0, 60), (-1, 60), (1.5, 60), (True, 60), (10, 0), (10, float("nan"))])
def test_a_limit_or_window_that_makes_no_sense_is_refused(make: Make, limit, window):
    with pytest.raises(InvalidPolicy):
        make(limit, window)


def test_a_user_id_that_has_no_bytes_is_refused(make: Make):
    with pytest.raises(InvalidKey):
        make(10, 60).allow("\ud800")


def test_what_is_stored_expires(server: servers.Server, user: str):
    with RedisSlidingWindow(5, 60, server.url) as limiter:
        limiter.allow(user)
    (key,) = server.client.scan_iter(f"*{user}*")
    # Not before the window has passed, and soon after it.
    assert 59_000 < server.client.pttl(key) < 75_000


def test_closing_gives_the_connections_back(server: servers.Server, user: str):
    def connections() -> int:
        return sum(client["name"] == user for client in server.client.client_list())

    with RedisSlidingWindow(5, 60, f"{server.url}?client_name={user}") as limiter:
        limiter.allow(user)
        assert connections() == 1
    end = time.monotonic() + 60
    while connections() and time.monotonic() < end:
        time.sleep(0.01)  # the server learns of it a moment later
    assert connections() == 0


def test_without_a_server_there_is_an_answer_within_a_second(user: str):
    with RedisSlidingWindow(2, 60, "redis://127.0.0.1:1/0") as limiter:
        began_at = awake()
        assert [limiter.allow(user) for _ in range(4)] == [True, True, False, False]
        assert awake() - began_at < 1
