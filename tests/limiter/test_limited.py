"""`limited`: functions and blocks that wait their turn before they run, for threads and for tasks."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from limiter.waits import Waits
from sluicegate import (
    AsyncLimiter,
    Concurrency,
    InvalidCost,
    InvalidKey,
    InvalidPolicy,
    Limiter,
    LimiterClosed,
    NotAllowed,
    ReservationError,
    SlidingWindow,
    SluicegateError,
)

TEN = SlidingWindow(10, window=10)
Make = Callable[..., Waits]


@pytest.fixture(params=["threads", "tasks"])
def form(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def make(form: str) -> Iterator[Make]:
    """Make limiters with callers; nothing of their lines may be left in the end."""
    made: list[Waits] = []

    def one(*policies: Any, **options: Any) -> Waits:
        made.append(Waits(form, *policies, **options))
        return made[-1]

    yield one
    for each in made:
        each.close()


def decorated(waits: Waits, function: Callable[..., Any], *args: Any, **options: Any) -> Callable[..., Any]:
    """Return a function under ``limited``: as it is, or as an async one."""
    if waits.runner is None:
        return waits.limiter.limited(*args, **options)(function)

    @functools.wraps(function)
    async def awaited(*args: Any, **options: Any) -> Any:
        return function(*args, **options)

    return waits.limiter.limited(*args, **options)(awaited)


def run_block(waits: Waits, *args: Any, **options: Any) -> Any:
    """Run a block under ``limited``. Returns the decision that the block was given."""
    block = waits.limiter.limited(*args, **options)

    async def awaited() -> Any:
        async with block as decision:
            return decision

    if waits.runner is not None:
        return waits._run(awaited())
    with block as decision:
        return decision


def left(waits: Waits, key: Any = "a") -> int:
    return waits.call("peek", key).remaining


# Functions


def test_a_function_runs_in_its_turn_and_returns_what_it_returns(make: Make):
    waits = make(TEN)
    double = decorated(waits, lambda n: 2 * n, "a", 4)
    assert [waits._run(double(1)), waits._run(double(2))] == [2, 4]
    third = waits.start(lambda: double(n=3))
    assert (third.is_done, waits.waiting) == (False, 1)
    waits.advance(10)
    assert third.decision == 6
    assert left(waits) == 6


def test_a_function_keeps_its_name_and_signature(make: Make):
    waits = make(TEN)

    def fetch(url: str, *, again: bool = False) -> str:
        """Fetch."""
        return url

    limited = decorated(waits, fetch, "a")
    assert (limited.__name__, limited.__doc__) == ("fetch", "Fetch.")
    assert inspect.signature(limited) == inspect.signature(fetch)
    assert inspect.iscoroutinefunction(limited) == (waits.runner is not None)


def test_key_and_cost_may_be_functions_of_the_arguments(make: Make):
    waits = make(SlidingWindow(10, window=10, per="host"))

    def host(url: str, size: int = 1) -> dict[str, str]:
        return {"host": url.partition("/")[0]}

    fetch = decorated(waits, lambda url, size=1: (url, size), host, lambda url, size=1: size)
    assert waits._run(fetch("one/x", size=7)) == ("one/x", 7)
    assert waits._run(fetch("one/y", 3)) == ("one/y", 3)
    assert waits._run(fetch("two/x")) == ("two/x", 1)
    assert [left(waits, {"host": name}) for name in ("one", "two")] == [0, 9]


def test_a_method_is_limited_by_what_its_object_says(make: Make):
    waits = make(TEN)

    class Client:
        def __init__(self, name: str) -> None:
            self.name = name

        fetch = decorated(waits, lambda self, page: (self.name, page), lambda self, page: self.name)

    assert waits._run(Client("a").fetch(1)) == ("a", 1)
    assert waits._run(Client("b").fetch(page=2)) == ("b", 2)
    assert [left(waits, name) for name in "ab"] == [9, 9]


def test_what_a_key_or_cost_function_raises_propagates_and_nothing_runs(make: Make):
    waits = make(TEN)
    ran: list[Any] = []
    for key, cost, error in (
        (lambda _: 1 / 0, 1, ZeroDivisionError),
        ("a", lambda _: 1 / 0, ZeroDivisionError),
        (lambda _: 5, 1, InvalidKey),
        ("a", lambda _: 0, InvalidCost),
    ):
        with pytest.raises(error):
            waits._run(decorated(waits, ran.append, key, cost)(1))
    assert ran == []
    assert left(waits) == 10


def test_a_function_whose_turn_does_not_come_in_time_does_not_run(make: Make):
    waits = make(TEN)
    ran: list[Any] = []
    waits.call("take", "a", 10)
    with pytest.raises(
        NotAllowed, match=r"^not run, as policy sliding-window-10s .* in time: retry after 10 s$"
    ) as caught:
        waits._run(decorated(waits, ran.append, "a", timeout=9)(1))
    assert isinstance(caught.value, SluicegateError)
    assert (caught.value.decision.allowed, caught.value.decision.retry_after) == (False, 10)
    with pytest.raises(NotAllowed, match=r"as its cost is above what policy sliding-window-10s ever allows, 10$"):
        waits._run(decorated(waits, ran.append, "a", 11)(1))
    assert ran == []


def test_a_function_that_raises_has_used_its_turn(make: Make):
    waits = make(TEN)
    with pytest.raises(ZeroDivisionError):
        waits._run(decorated(waits, lambda: 1 / 0, "a", 4)())
    assert left(waits) == 6


def test_one_function_waits_for_many_callers_at_once(make: Make):
    waits = make(SlidingWindow(2, window=10))
    echo = decorated(waits, lambda n: n, "a")
    callers = [waits.start(functools.partial(echo, n)) for n in range(6)]
    assert [caller.is_done for caller in callers] == [True, True, False, False, False, False]
    for _ in range(2):
        waits.advance(10)
    assert [caller.decision for caller in callers] == list(range(6))


def test_a_function_may_call_itself_and_takes_a_turn_each_time(make: Make):
    waits = make(TEN)
    if waits.runner is None:

        @waits.limiter.limited("a")
        def count(n: int) -> int:
            return 1 + count(n - 1) if n else 0

        assert count(4) == 4
    else:

        @waits.limiter.limited("a")
        async def count_awaited(n: int) -> int:
            return 1 + await count_awaited(n - 1) if n else 0

        assert waits._run(count_awaited(4)) == 4
    assert left(waits) == 5


def test_one_decorator_may_limit_several_functions(make: Make):
    waits = make(TEN)
    limited = waits.limiter.limited("a", 2)
    if waits.runner is None:
        assert [limited(lambda: 1)(), limited(lambda: 2)()] == [1, 2]
    else:

        async def one() -> int:
            return 1

        assert [waits._run(limited(one)()), waits._run(limited(one)())] == [1, 1]
    assert left(waits) == 6


class _Async:
    async def __call__(self) -> str:
        return "called"


class _Yields:
    def __call__(self) -> Any:
        yield


async def _async() -> None: ...


def _sync() -> None: ...


def _yields() -> Any:
    yield


async def _yields_awaited() -> Any:
    yield


@pytest.mark.parametrize(
    ("kind", "function", "advice"),
    [
        (Limiter, _async, "is async: limit it with an AsyncLimiter"),
        (AsyncLimiter, _sync, "is not async: limit it with a Limiter"),
        (Limiter, functools.partial(_async), "is async: limit it with an AsyncLimiter"),
        (Limiter, _Async(), "is async: limit it with an AsyncLimiter"),
        (Limiter, functools.partial(_Async()), "is async: limit it with an AsyncLimiter"),
        (Limiter, _Yields(), "yields, so it would run after its turn: write with"),
        (Limiter, _yields, "yields, so it would run after its turn: write with"),
        (Limiter, _yields_awaited, "yields, so it would run after its turn: write with"),
        (AsyncLimiter, _yields_awaited, "yields, so it would run after its turn: write with"),
        (AsyncLimiter, _yields, "yields, so it would run after its turn: write with"),
        (Limiter, 7, "must stand above a function, got 7; with brackets"),
        (AsyncLimiter, "order", "must stand above a function, got .order.; with brackets"),
    ],
)
def test_a_function_that_would_not_run_in_its_turn_is_refused(kind: Any, function: Any, advice: str):
    with pytest.raises(InvalidPolicy, match=advice):
        kind(TEN).limited("a")(function)


def test_an_object_that_is_called_and_awaited_is_limited():
    async def main() -> None:
        limiter = AsyncLimiter(TEN)
        assert await limiter.limited("a", 4)(_Async())() == "called"
        assert (await limiter.peek("a")).remaining == 6

    asyncio.run(main())


# Blocks


def test_a_block_runs_in_its_turn_and_knows_the_decision(make: Make):
    waits = make(TEN)
    decision = run_block(waits, "a", 4)
    assert (decision.allowed, decision.remaining) == (True, 6)
    assert left(waits) == 6


def test_a_block_whose_turn_does_not_come_in_time_does_not_run(make: Make):
    waits = make(TEN)
    waits.call("take", "a", 10)
    with pytest.raises(NotAllowed) as caught:
        run_block(waits, "a", timeout=0)
    assert caught.value.decision.retry_after == 10


def test_a_block_is_entered_once(make: Make):
    waits = make(TEN)
    block = waits.limiter.limited("a")

    async def awaited() -> None:
        async with block:
            pass

    for is_first in (True, False):
        try:
            if waits.runner is not None:
                waits._run(awaited())
            else:
                with block:
                    pass
        except ReservationError:
            assert not is_first
    assert left(waits) == 9


@pytest.mark.parametrize(("key", "cost", "what"), [(lambda: "a", 1, "key"), ("a", lambda: 1, "cost")])
def test_a_block_has_no_arguments_for_a_function_of_them(make: Make, key: Any, cost: Any, what: str):
    waits = make(TEN)
    with pytest.raises(InvalidPolicy, match=rf"^{what} must be a value in a with statement, got"):
        run_block(waits, key, cost)


# Policies


def test_buckets_can_be_waited_for_as_nothing_is_settled(make: Make):
    waits = make(SlidingWindow(10, window=10, buckets=5))
    assert waits._run(decorated(waits, lambda: 1, "a", 10)()) == 1
    caller = waits.start(decorated(waits, lambda: 2, "a"))
    waits.advance(10)
    assert caller.decision == 2


def test_permits_are_held_while_a_function_runs(make: Make):
    waits = make(Concurrency(2, ttl=30))
    seen: list[int] = []

    def look() -> None:
        seen.append(waits.limiter.peek("a").remaining)

    if waits.runner is None:
        waits.limiter.limited("a")(look)()
    else:

        @waits.limiter.limited("a")
        async def look_awaited() -> None:
            seen.append((await waits.limiter.peek("a")).remaining)

        waits._run(look_awaited())
    assert seen == [1]
    assert left(waits) == 2


def test_permits_come_back_when_a_function_raises(make: Make):
    waits = make(Concurrency(2, ttl=30))
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            waits._run(decorated(waits, lambda: 1 / 0, "a")())
    assert left(waits) == 2


def test_no_more_threads_run_at_once_than_there_are_permits():
    limiter = Limiter(Concurrency(3, ttl=30))
    lock, running, most, done = threading.Lock(), set[int](), [0], [0]
    together = threading.Barrier(3)

    @limiter.limited("a")
    def work(number: int) -> None:
        with lock:
            running.add(number)
            most[0] = max(most[0], len(running))
        together.wait(60)
        with lock:
            running.remove(number)
            done[0] += 1

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (done, most) == ([30], [3])
    assert limiter.peek("a").remaining == 3


def test_no_more_tasks_run_at_once_than_there_are_permits_and_all_have_their_turn():
    async def use() -> None:
        limiter = AsyncLimiter(Concurrency(3, ttl=30))
        running, most = set[int](), 0

        @limiter.limited("a")
        async def work(number: int) -> int:
            nonlocal most
            running.add(number)
            most = max(most, len(running))
            await asyncio.sleep(0)
            running.remove(number)
            return number

        assert await asyncio.gather(*map(work, range(30))) == list(range(30))
        assert most == 3
        assert (await limiter.peek("a")).remaining == 3

    asyncio.run(use())


def test_several_policies_are_waited_for_together(make: Make):
    waits = make(SlidingWindow(3, window=10, name="requests"), SlidingWindow(100, window=60, name="tokens"))
    call = decorated(waits, lambda tokens: tokens, "a", lambda tokens: {"tokens": tokens})
    assert waits._run(call(90)) == 90
    caller = waits.start(lambda: call(20))
    waits.advance(59.999999)
    assert not caller.is_done
    waits.advance(0.000001)
    assert caller.decision == 20


def test_what_is_not_limited_runs_at_once(make: Make):
    waits = make(SlidingWindow(1, window=10), exempt={"root"})
    assert [waits._run(decorated(waits, lambda: 1, "root", 5)()) for _ in range(3)] == [1, 1, 1]


def test_a_closed_limiter_runs_nothing(make: Make):
    waits = make(TEN)
    echo = decorated(waits, lambda: 1, "a")
    waits.call("take", "a", 10)
    waiting = waits.start(echo)
    waits.call("close" if waits.runner is None else "aclose")
    for call in (lambda: waiting.decision, lambda: waits._run(echo())):
        with pytest.raises(LimiterClosed):
            call()


def test_a_task_that_is_cancelled_while_its_function_waits_takes_no_turn():
    waits = Waits("tasks", TEN)
    waits.call("take", "a", 10)
    ran: list[int] = []
    caller = waits.start(lambda: decorated(waits, ran.append, "a")(1))
    caller.task.cancel()
    waits.rest()
    waits.advance(10)
    assert ran == []
    assert left(waits) == 10
    waits.close()
