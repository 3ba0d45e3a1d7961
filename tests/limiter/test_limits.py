"""Limits that a user's function gives: kept by key for a while, bounded, checked, and asked for once by many tasks."""

from __future__ import annotations

import asyncio
import gc
import itertools
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import pytest

from sluicegate._core.errors import InvalidKey, InvalidPolicy
from sluicegate._core.policy import MAX_UNITS
from sluicegate._limiter.limits import Limits


class Plan:
    """A user's function: counts what it was asked, and answers what it is told to."""

    def __init__(self, answer: Any = 5) -> None:
        self.answer = answer
        self.asked: list[Any] = []

    def __call__(self, key: Any) -> Any:
        self.asked.append(key)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class SlowPlan(Plan):
    """The same, async: it answers when its gate is opened."""

    def __init__(self, answer: Any = 5) -> None:
        super().__init__(answer)
        self.gate = asyncio.Event()

    async def ask(self, key: Any) -> Any:
        self.asked.append(key)
        await self.gate.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class Seconds:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def limits_of(function: Callable[[Any], Any], **options: Any) -> Limits:
    return Limits(function, **{"names": ["minute"], "ttl": 10.0, "asynchronous": False, **options})


def awaited_limits_of(function: Callable[[Any], Any], **options: Any) -> Limits:
    return limits_of(function, asynchronous=True, **options)


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


# What it answers


def test_an_int_is_the_limit_of_the_one_policy():
    assert limits_of(Plan(7)).of("alice") == {"minute": 7}


def test_a_mapping_names_the_policies_and_those_not_in_it_are_left_out():
    assert limits_of(Plan({"day": 7}), names=["minute", "day"]).of("alice") == {"day": 7}
    assert limits_of(Plan({"minute": 7}), names=["minute"]).of("alice") == {"minute": 7}


def test_none_leaves_all_policies_their_own_limits_and_is_kept_too():
    plan = Plan(None)
    limits = limits_of(plan, names=["minute", "day"])
    assert limits.of("alice") == limits.of("alice") == {}
    assert plan.asked == ["alice"]


def test_the_function_is_given_the_key_as_it_came():
    plan, key = Plan(), {"plan": "free", "user": "x" * 1000}
    limits = limits_of(plan)
    limits.of(key)
    limits.of("x" * 1000)
    assert plan.asked[0] is key
    assert plan.asked[1] == "x" * 1000


def test_a_mapping_that_is_changed_later_changes_nothing_that_was_kept():
    answer = {"minute": 7}
    limits = limits_of(Plan(answer))
    limits.of("alice")
    answer["minute"] = -1
    assert limits.of("alice") == {"minute": 7}


# How long it is kept


def test_a_limit_is_kept_until_exactly_ttl_seconds_after_it_was_answered():
    clock, plan = Seconds(), Plan()
    limits = limits_of(plan, clock=clock)
    limits.of("alice")
    clock.now += 9.999
    plan.answer = 6
    assert limits.of("alice") == {"minute": 5}
    clock.now = 1010.0
    assert limits.of("alice") == {"minute": 6}
    assert len(plan.asked) == 2


def test_being_asked_for_does_not_keep_a_limit_longer():
    clock, plan = Seconds(), Plan()
    limits = limits_of(plan, clock=clock)
    for _ in range(11):
        limits.of("alice")
        clock.now += 1
    assert len(plan.asked) == 2


def test_a_slow_answer_is_kept_from_when_it_came():
    clock = Seconds()
    asked = []

    def slow(key: str) -> int:
        asked.append(key)
        clock.now += 30
        return 5

    limits = limits_of(slow, clock=clock)
    limits.of("alice")
    clock.now += 9
    limits.of("alice")
    assert asked == ["alice"]


def test_with_a_ttl_of_0_the_function_is_asked_each_time_and_nothing_is_held():
    plan = Plan()
    limits = limits_of(plan, ttl=0)
    for limit in (5, 6, 7):
        plan.answer = limit
        assert limits.of("alice") == {"minute": limit}
    assert len(plan.asked) == 3
    assert not limits._cached


@pytest.mark.parametrize("ttl", [0, 0.001, 86_400, 86_400.0])
def test_a_ttl_in_its_range_is_taken(ttl: float):
    limits_of(Plan(), ttl=ttl)


@pytest.mark.parametrize("ttl", [-0.001, 86_400.1, float("nan"), float("inf"), 10**400, True, False, "10", None, 1j])
def test_a_ttl_that_is_none_is_refused(ttl: object):
    with pytest.raises(InvalidPolicy, match="limits_ttl must be a number of seconds from 0 to 86400, got "):
        limits_of(Plan(), ttl=ttl)


# Keys


def test_each_key_has_limits_of_its_own():
    limits = limits_of(len)
    for key in ("a", "bb", "ccc", "a"):
        assert limits.of(key) == {"minute": len(key)}


def test_attributes_are_one_key_in_whatever_order():
    plan = Plan()
    limits = limits_of(plan)
    limits.of({"a": "1", "b": "2"})
    limits.of({"b": "2", "a": "1"})
    assert len(plan.asked) == 1


LONG = "x" * 300
HOSTILE: list[Any] = [
    *(
        "",
        "a",
        "ab",
        "('a', 'b')",
        '{"a": "b"}',
        "1:a1:b",
        "\0",
        "a\0b",
        "\xff1:a1:b",
        "é",
        "e\u0301",
        LONG,
        LONG + "x",
    ),
    *({}, {"": ""}, {"": "a"}, {"a": ""}, {"a": "b"}, {"b": "a"}, {"ab": ""}, {"": "ab"}, {"a": "b", "c": "d"}),
    *({"a": "d", "c": "b"}, {"a": "bcd"}, {"a": "1:b"}, {"a1:b": ""}, {"a": LONG}, {LONG: "a"}, {"a": LONG + "x"}),
    *({"a": "b" * 256}, {"ab": "b" * 255}, {"a": "b" * 257}, {"ab": "b" * 256}, {"a": "a=b&c", "c": ""}),
]


def test_no_two_keys_are_taken_for_each_other_whatever_is_in_them():
    count = itertools.count(1)
    limits = limits_of(lambda _: next(count))
    first = [limits.of(key)["minute"] for key in HOSTILE]
    assert first == list(range(1, len(HOSTILE) + 1))
    assert [limits.of(key)["minute"] for key in HOSTILE] == first


@pytest.mark.parametrize("key", [5, None, b"a", ("a", "b"), "\ud800", {"a": 5}, {5: "a"}, {"a": None}, {"a": "\udfff"}])
def test_a_key_that_is_no_text_is_refused_before_the_function_is_asked(key: Any):
    plan = Plan()
    with pytest.raises(InvalidKey):
        limits_of(plan).of(key)
    with pytest.raises(InvalidKey):
        asyncio.run(awaited_limits_of(plan).of_awaited(key))
    assert not plan.asked


# The bound on memory


def test_the_key_that_was_not_asked_for_the_longest_goes_first():
    plan = Plan()
    limits = limits_of(plan, max_keys=3)
    for key in ("a", "b", "c", "a", "d", "a", "c", "d"):
        limits.of(key)
    assert plan.asked == ["a", "b", "c", "d"]
    limits.of("b")
    assert plan.asked == ["a", "b", "c", "d", "b"]


def test_a_key_that_is_asked_anew_after_its_time_goes_last():
    clock, plan = Seconds(), Plan()
    limits = limits_of(plan, max_keys=2, clock=clock)
    limits.of("a")
    clock.now += 5
    limits.of("b")
    clock.now += 5
    for key in ("a", "c", "a"):
        limits.of(key)
    assert plan.asked == ["a", "b", "a", "c"]


def test_sprayed_keys_cost_bounded_memory_however_long_they_are():
    limits = limits_of(lambda _: 5, max_keys=100)
    tracemalloc.start()
    try:
        for number in range(300):
            limits.of(f"{number}" * 2_000)
            limits.of({"user": f"{number}" * 2_000})
            limits.of({f"{number}-{each}": "" for each in range(100)})
        gc.collect()
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(limits._cached) == 100
    assert size < 100_000


def test_the_calls_of_sprayed_keys_are_not_held_once_they_are_over():
    async def answer(key: str) -> int:
        if key.endswith("7"):
            raise LookupError
        return 5

    async def spray() -> None:
        asking = (limits.of_awaited(f"{number}") for number in range(300))
        await asyncio.gather(*asking, return_exceptions=True)
        await turns()

    limits = awaited_limits_of(answer, max_keys=10)
    for _ in range(3):
        asyncio.run(spray())
    assert list(limits._calls.values()) == [{}]
    assert len(limits._cached) == 10


# What is refused


@pytest.mark.parametrize("function", [None, 5, "plan_limit", {"alice": 5}])
def test_what_cannot_be_called_is_refused(function: Any):
    with pytest.raises(InvalidPolicy, match="limits must be a function of a key, got "):
        limits_of(function)


@pytest.mark.parametrize("limit", [-1, MAX_UNITS + 1, 10**400, True, False, 5.0, float("nan"), "5", b"5", [5]])
def test_a_limit_that_is_none_is_refused_for_its_policy_and_not_kept(limit: object):
    plan = Plan({"day": limit})
    limits = limits_of(plan, names=["minute", "day"])
    for _ in range(2):
        with pytest.raises(InvalidPolicy, match="must return an int from 0 to 100000000000 for the policy day, got "):
            limits.of("alice")
    assert len(plan.asked) == 2
    plan.answer = {"day": 1}
    assert limits.of("alice") == {"day": 1}


@pytest.mark.parametrize("answer", [-1, MAX_UNITS + 1, True, {"minute": None}])
def test_the_one_limit_is_checked_as_each_is(answer: object):
    with pytest.raises(InvalidPolicy, match=r"^limits\(\.\.\.\) must return an int from 0 .* policy minute, got "):
        limits_of(Plan(answer)).of("alice")


@pytest.mark.parametrize("limit", [0, 1, MAX_UNITS])
def test_the_least_and_the_largest_limit_are_taken(limit: int):
    assert limits_of(Plan(limit)).of("alice") == {"minute": limit}


@pytest.mark.parametrize("answer", ["5", 5.0, b"5", [5], ("minute", 5), object()])
def test_what_is_neither_int_nor_mapping_nor_none_is_refused(answer: object):
    with pytest.raises(InvalidPolicy, match=r"^limits\(\.\.\.\) must return an int, a mapping .*, or None, got "):
        limits_of(Plan(answer)).of("alice")


def test_an_int_for_several_policies_is_refused_with_what_to_return():
    with pytest.raises(InvalidPolicy) as refused:
        limits_of(Plan(5), names=["minute", "day"]).of("alice")
    assert str(refused.value) == (
        "limits(...) must return a mapping of policy name to int, got 5: there are several policies, minute, day"
    )


@pytest.mark.parametrize("name", ["hour", "", "Minute", 5, None, ("minute",)])
def test_a_policy_that_is_not_there_is_refused_with_those_that_are(name: Any):
    with pytest.raises(InvalidPolicy, match=r"must return only policy names \(minute, day\), got another name"):
        limits_of(Plan({"minute": 1, name: 5}), names=["minute", "day"]).of("alice")


@pytest.mark.parametrize(
    "answer", [lambda key: key, lambda key: {key: 5}, lambda key: {"minute": key}, lambda key: [key], lambda key: {key}]
)
@pytest.mark.parametrize("names", [["minute"], ["minute", "day"]])
def test_no_message_quotes_the_key(answer: Callable[[str], Any], names: list[str]):
    with pytest.raises(InvalidPolicy) as refused:
        limits_of(answer, names=names).of("alice@example.com")
    assert "alice" not in str(refused.value)


def test_what_the_function_raises_comes_through_as_it_is_and_is_not_kept():
    error = LookupError("no plan")
    plan = Plan(error)
    limits = limits_of(plan)
    for _ in range(2):
        with pytest.raises(LookupError) as raised:
            limits.of("alice")
        assert raised.value is error
    plan.answer = 5
    assert limits.of("alice") == {"minute": 5}


def test_an_async_function_is_refused_where_threads_ask():
    async def plan(key: str) -> int:
        return 5

    with pytest.raises(InvalidPolicy, match="use AsyncLimiter"):
        limits_of(plan)


def test_a_function_whose_answer_is_to_be_awaited_is_refused_when_asked_and_leaves_no_warning(
    recwarn: pytest.WarningsRecorder,
):
    async def plan(key: str) -> int:
        return 5

    made = []

    def hidden(key: str) -> Any:
        made.append(plan(key))
        return made[-1]

    limits = limits_of(hidden)
    with pytest.raises(InvalidPolicy, match="use AsyncLimiter"):
        limits.of("alice")
    assert made.pop().cr_frame is None  # closed
    gc.collect()
    assert not recwarn.list


# Threads


def test_the_lock_is_not_held_while_the_function_runs():
    inside, leave = threading.Event(), threading.Event()

    def slow(key: str) -> int:
        if key == "slow":
            inside.set()
            assert leave.wait(10)
        return 5

    limits = limits_of(slow)
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(limits.of, "slow")
        assert inside.wait(10)
        try:
            assert pool.submit(limits.of, "quick").result(5) == {"minute": 5}
        finally:
            leave.set()
        assert waiting.result(5) == {"minute": 5}


def test_two_threads_that_miss_one_key_at_once_ask_both():
    both = threading.Barrier(2, timeout=10)
    limits = limits_of(lambda _: both.wait() + 1)
    with ThreadPoolExecutor(2) as pool:
        answers = [each.result(10)["minute"] for each in [pool.submit(limits.of, "alice") for _ in range(2)]]
    assert sorted(answers) == [1, 2]


def test_a_key_that_another_thread_would_push_out_meanwhile_is_answered():
    def clock() -> float:
        if meanwhile:
            pushing.append(pool.submit(limits.of, meanwhile.pop()))
            wait(pushing, timeout=0.1)  # it waits for the lock
        return 0.0

    meanwhile: list[str] = []
    pushing: list[Future[Any]] = []
    limits = limits_of(Plan(), max_keys=1, clock=clock)
    with ThreadPoolExecutor(1) as pool:
        limits.of("alice")
        meanwhile.append("bob")
        assert limits.of("alice") == pushing[0].result(5) == {"minute": 5}


def test_many_threads_over_one_place_get_the_limits_of_their_own_keys():
    limits = limits_of(int, max_keys=1)

    def ask(start: int) -> None:
        for number in range(start, start + 1_500):
            limit = number % 7 + 1
            assert limits.of(f"{limit}") == {"minute": limit}

    pace = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            for each in [pool.submit(ask, start) for start in range(4)]:
                each.result(20)
    finally:
        sys.setswitchinterval(pace)
    assert len(limits._cached) == 1


def test_the_function_may_ask_for_another_key_itself():
    limits = limits_of(lambda key: limits.of(key[1:])["minute"] + 1 if key else 1)
    assert limits.of("abc") == {"minute": 4}


def test_a_handler_that_asks_while_its_own_thread_is_inside_does_not_hang():
    inside = threading.Event()

    def clock() -> float:  # read with the lock held: here it stands for a signal that comes just then
        if not inside.is_set():
            inside.set()
            limits.of("b")
        return 0.0

    limits, answers = limits_of(Plan(), clock=clock), list[object]()
    asking = threading.Thread(target=lambda: answers.append(limits.of("a")), daemon=True)
    asking.start()
    asking.join(5)
    assert inside.is_set()
    assert answers == [{"minute": 5}]


def test_a_child_that_was_forked_off_while_the_lock_was_held_is_answered():
    code = (
        "import os, threading, signal\nfrom sluicegate._limiter.limits import Limits\n"
        "from sluicegate._stores.process_local import renew_after_fork\n"
        "limits = Limits(lambda key: 5, names=['minute'], ttl=10.0, asynchronous=False)\n"
        "renew_after_fork(limits)\n"
        "taken = threading.Event()\n"
        "def take():\n    limits._lock.acquire(); taken.set(); threading.Event().wait()\n"
        "threading.Thread(target=take, daemon=True).start()\n"
        "taken.wait()\nchild = os.fork()\n"
        "if child == 0:\n"
        "    signal.alarm(5)\n    os._exit(0 if limits.of('alice') == {'minute': 5} else 1)\n"
        "os._exit(1 if os.waitpid(child, 0)[1] else 0)\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=20)


# Tasks


@pytest.mark.parametrize("ttl", [0, 10.0])
def test_tasks_may_ask_a_function_that_is_not_async(ttl: float):
    plan = Plan(7)
    limits = awaited_limits_of(plan, ttl=ttl)
    assert [asyncio.run(limits.of_awaited("alice")) for _ in range(2)] == [{"minute": 7}] * 2
    assert len(plan.asked) == (1 if ttl else 2)


def test_tasks_that_miss_one_key_at_once_share_one_call_and_what_it_answers_is_kept():
    async def main() -> None:
        clock, plan = Seconds(), SlowPlan()
        limits = awaited_limits_of(plan.ask, clock=clock)
        asking = [asyncio.create_task(limits.of_awaited(key)) for key in ("alice", "bob") * 50]
        await turns()
        assert plan.asked == ["alice", "bob"]
        plan.gate.set()
        assert await asyncio.gather(*asking) == [{"minute": 5}] * 100
        clock.now += 9.999
        await limits.of_awaited("alice")
        assert plan.asked == ["alice", "bob"]
        clock.now = 1010.0
        await limits.of_awaited("alice")
        assert plan.asked == ["alice", "bob", "alice"]

    asyncio.run(main())


def test_with_a_ttl_of_0_each_task_has_a_call_of_its_own():
    async def main() -> None:
        plan = SlowPlan()
        limits = awaited_limits_of(plan.ask, ttl=0)
        asking = [asyncio.create_task(limits.of_awaited("alice")) for _ in range(3)]
        await turns()
        assert plan.asked == ["alice"] * 3
        plan.gate.set()
        assert await asyncio.gather(*asking) == [{"minute": 5}] * 3

    asyncio.run(main())


def test_a_function_that_returns_an_awaitable_is_awaited_too():
    async def main() -> None:
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        loop.call_soon(future.set_result, 8)
        assert await awaited_limits_of(lambda _: future).of_awaited("alice") == {"minute": 8}
        plan = SlowPlan()
        plan.gate.set()
        assert await awaited_limits_of(lambda _: plan.ask("alice")).of_awaited("alice") == {"minute": 5}

    asyncio.run(main())


@pytest.mark.parametrize("which", [0, 1])
def test_a_task_that_is_cancelled_does_not_cancel_the_call_for_the_others(which: int):
    async def main() -> None:
        plan = SlowPlan()
        limits = awaited_limits_of(plan.ask)
        asking = [asyncio.create_task(limits.of_awaited("alice")) for _ in range(3)]
        await turns()
        gone = asking.pop(which)
        gone.cancel()
        await turns()
        assert gone.cancelled()
        plan.gate.set()
        assert await asyncio.gather(*asking) == [{"minute": 5}] * 2
        assert plan.asked == ["alice"]

    asyncio.run(main())


def test_a_call_that_all_gave_up_waiting_for_is_kept_all_the_same():
    async def main() -> None:
        plan = SlowPlan()
        limits = awaited_limits_of(plan.ask)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(limits.of_awaited("alice"), 0.001)
        plan.gate.set()
        await turns()
        assert await limits.of_awaited("alice") == {"minute": 5}
        assert plan.asked == ["alice"]

    asyncio.run(main())


def test_a_call_that_fails_when_nobody_waits_any_more_is_not_complained_of():
    complaints: list[Any] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        plan = SlowPlan(LookupError("no plan"))
        limits = awaited_limits_of(plan.ask)
        asking = asyncio.create_task(limits.of_awaited("alice"))
        await turns()
        asking.cancel()
        await turns()
        plan.gate.set()
        await turns()
        gc.collect()
        plan.answer = 5
        assert await limits.of_awaited("alice") == {"minute": 5}

    asyncio.run(main())
    assert not complaints


@pytest.mark.parametrize("answer", [LookupError("no plan"), "5"])
def test_an_error_goes_to_all_that_wait_and_is_not_kept(answer: Any):
    async def main() -> None:
        plan = SlowPlan(answer)
        limits = awaited_limits_of(plan.ask)
        asking = [asyncio.create_task(limits.of_awaited("alice")) for _ in range(3)]
        await turns()
        plan.gate.set()
        errors = await asyncio.gather(*asking, return_exceptions=True)
        assert plan.asked == ["alice"]
        if isinstance(answer, LookupError):
            assert all(error is answer for error in errors)
        else:
            assert all(isinstance(error, InvalidPolicy) for error in errors)
        plan.answer = 6
        assert await limits.of_awaited("alice") == {"minute": 6}

    asyncio.run(main())


def test_a_task_that_asks_in_the_very_step_after_a_failure_makes_a_new_call_that_others_share():
    async def main() -> None:
        async def ask_later() -> object:
            await turns()
            asking = asyncio.create_task(limits.of_awaited("alice"))
            await turns()
            plan.gate.set()
            return await asking

        plan = SlowPlan(LookupError("no plan"))
        limits = awaited_limits_of(plan.ask)
        failing = asyncio.create_task(limits.of_awaited("alice"))
        await turns()
        (call,) = limits._calls[asyncio.get_running_loop()].values()
        plan.gate.set()
        while not call.done():
            await asyncio.sleep(0)
        plan.answer = 6
        plan.gate.clear()
        later = asyncio.create_task(ask_later())
        assert await limits.of_awaited("alice") == await later == {"minute": 6}
        assert plan.asked == ["alice"] * 2
        with pytest.raises(LookupError):
            await failing

    asyncio.run(main())


def test_a_call_that_is_cancelled_before_its_first_step_leaves_nothing_behind(recwarn: pytest.WarningsRecorder):
    async def main() -> None:
        asking = limits.of_awaited("alice")
        asking.send(None)  # as far as the call being made
        asking.close()
        (call,) = limits._calls[asyncio.get_running_loop()].values()
        call.cancel()
        await turns()
        assert call.cancelled()

    plan = SlowPlan()
    limits = awaited_limits_of(plan.ask)
    asyncio.run(main())
    gc.collect()
    assert not recwarn.list
    assert not plan.asked
    plan.gate.set()
    assert asyncio.run(limits.of_awaited("alice")) == {"minute": 5}


def test_a_later_loop_is_answered_though_the_first_was_closed_in_the_middle_of_a_call():
    first = asyncio.new_event_loop()
    first.set_exception_handler(lambda *_: None)  # the tasks that it leaves behind are the point
    plan = SlowPlan()
    limits = awaited_limits_of(plan.ask)
    asking = first.create_task(limits.of_awaited("alice"))
    first.run_until_complete(turns())
    assert plan.asked == ["alice"]
    first.close()

    plan.gate = asyncio.Event()
    plan.gate.set()
    for key in ("alice", "bob"):
        assert asyncio.run(asyncio.wait_for(limits.of_awaited(key), 5)) == {"minute": 5}
    assert plan.asked == ["alice", "alice", "bob"]
    assert first not in limits._calls
    del asking


def test_two_loops_at_once_each_have_a_call_of_their_own():
    both = threading.Barrier(2, timeout=10)

    async def plan(key: str) -> int:
        asked.append(key)
        await asyncio.to_thread(both.wait)
        return 5

    async def main() -> list[object]:
        return await asyncio.wait_for(asyncio.gather(*(limits.of_awaited("alice") for _ in range(20))), 10)

    asked: list[str] = []
    limits = awaited_limits_of(plan)
    with ThreadPoolExecutor(2) as pool:
        for each in [pool.submit(asyncio.run, main()) for _ in range(2)]:
            assert each.result(10) == [{"minute": 5}] * 20
    assert asked == ["alice"] * 2
