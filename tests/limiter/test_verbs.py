"""The limiters' verbs as Python sees them: subclasses, patches, signatures, statistics, the store they call."""

from __future__ import annotations

import asyncio
import inspect
import threading
from unittest import mock

import pytest

from sluicegate import (
    AsyncLimiter,
    InvalidPolicy,
    InvalidRate,
    Limiter,
    MemoryStore,
    Outcomes,
    SlidingWindow,
    Statistics,
    StoreUnavailable,
)
from sluicegate.stores import Remembered, Verdict


def test_a_store_that_wraps_another_is_the_one_that_is_asked():
    asked = []

    class Wrapped:
        def __init__(self) -> None:
            self._inner = MemoryStore()

        def __getattr__(self, name: str):
            return getattr(self._inner, name)

        def decide(self, request):
            asked.append(request)
            return self._inner.decide(request)

    limiter = Limiter(SlidingWindow(1, window=60), store=Wrapped())
    assert [limiter.allow("a"), limiter.allow("a")] == [True, False]
    assert len(asked) == 2


def test_a_verb_that_is_overridden_or_patched_is_the_one_that_is_asked(monkeypatch: pytest.MonkeyPatch):
    class Deaf(Limiter):
        def take(self, key, cost=1):
            return super().peek(key, cost)

    assert [Deaf(SlidingWindow(1, window=60)).allow("a") for _ in range(3)] == [True] * 3
    monkeypatch.setattr(Limiter, "allow", lambda *_: "patched")
    assert Limiter(SlidingWindow(1, window=60)).allow("a") == "patched"


def test_allow_is_documented_on_every_limiter():
    limiter = Limiter(SlidingWindow(1, window=60))
    assert limiter.allow.__doc__ == Limiter.allow.__doc__
    assert limiter.allow.__qualname__ == "Limiter.allow"


@pytest.mark.parametrize("limiter", [Limiter, AsyncLimiter])
@pytest.mark.parametrize("policy", [None, 5, b"100/minute", [SlidingWindow(1, window=1)], SlidingWindow], ids=repr)
def test_what_is_no_policy_is_refused(limiter, policy):
    with pytest.raises(InvalidPolicy, match="policy must be one such as SlidingWindow"):
        limiter(policy)
    with pytest.raises(InvalidPolicy, match="policy must be one such as SlidingWindow"):
        limiter("100/hour", policy)


@pytest.mark.parametrize("limiter", [Limiter, AsyncLimiter])
def test_a_rate_string_is_a_policy_and_no_policy_at_all_is_refused(limiter):
    assert limiter("100/minute").policies == (SlidingWindow(100, window=60),)
    with pytest.raises(InvalidRate, match="at character 1"):
        limiter("often")
    with pytest.raises(InvalidPolicy, match=r"or a rate such as .*, got none"):
        limiter()


def test_allow_is_told_with_a_key_and_a_cost_and_no_more():
    for limiter in (Limiter("5/minute"), Limiter("5/minute", "5/hour"), Limiter("5/minute", exempt={"a"})):
        assert list(inspect.signature(limiter.allow).parameters) == ["key", "cost"]


class Counting(MemoryStore):
    """A store that is slower than a memory store itself: no fast path serves it."""

    def decide(self, request):
        return super().decide(request)


class Failing:
    """A store that is down."""

    def decide(self, request):
        raise StoreUnavailable("down")

    def forget(self, counters): ...

    def block(self, counters, span_us): ...

    def close(self): ...


@pytest.mark.parametrize("store", [MemoryStore, Counting])
def test_statistics_count_what_allow_and_take_decided_and_no_peek(store):
    limiter = Limiter("3/minute", store=store())
    assert limiter.statistics() == Statistics(allowed=0, denied=0, errors=0, by_source={})
    assert [limiter.allow("a"), bool(limiter.take("a", 2)), limiter.allow("a"), bool(limiter.take("a"))] == [
        True,
        True,
        False,
        False,
    ]
    limiter.peek("a")
    limiter.peek("b", 4)
    assert limiter.statistics() == Statistics(allowed=2, denied=2, errors=0, by_source={"store": Outcomes(2, 2)})


def test_statistics_tell_what_was_bypassed_from_what_the_store_decided():
    limiter = Limiter("1/minute", exempt={"root"})
    assert [limiter.allow(key) for key in ("root", "root", "a", "a")] == [True, True, True, False]
    assert limiter.statistics() == Statistics(
        allowed=3, denied=1, errors=0, by_source={"bypass": Outcomes(2, 0), "store": Outcomes(1, 1)}
    )
    limiter.enabled = False
    limiter.take("a")
    assert limiter.statistics().by_source["bypass"] == Outcomes(3, 0)


def test_statistics_go_on_when_the_limiter_is_switched_off_and_on():
    limiter = Limiter("5/minute")
    for enabled in (True, False, True):
        limiter.enabled = enabled
        assert limiter.allow("a")
    assert limiter.statistics().by_source == {"store": Outcomes(2, 0), "bypass": Outcomes(1, 0)}


def test_a_store_that_is_down_is_counted_as_an_error_and_not_as_a_denial():
    limiter = Limiter("1/minute", store=Failing(), on_outage="raise")
    for verb in (limiter.allow, limiter.take, limiter.peek):
        with pytest.raises(StoreUnavailable):
            verb("a")
    assert limiter.statistics() == Statistics(allowed=0, denied=0, errors=2, by_source={})


def test_statistics_are_a_snapshot_that_does_not_change():
    limiter = Limiter("5/minute")
    before = limiter.statistics()
    limiter.allow("a")
    assert before.allowed == 0
    with pytest.raises(AttributeError):
        before.allowed = 1  # type: ignore[misc]


@pytest.mark.usefixtures("hasty_threads")
def test_statistics_miss_no_request_of_many_threads():
    limiter, start = Limiter("500/hour"), threading.Barrier(8)

    def work(number: int) -> None:
        start.wait()
        for n in range(300):
            (limiter.allow if n % 2 else limiter.take)(f"key-{number % 2}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    statistics = limiter.statistics()
    assert (statistics.allowed, statistics.denied) == (1000, 8 * 300 - 1000)


def test_statistics_of_tasks_are_counted_likewise():
    async def main() -> Statistics:
        async with AsyncLimiter("2/minute", exempt={"root"}) as limiter:
            for key in ("a", "a", "a", "root"):
                await limiter.allow(key)
                await limiter.peek(key)
            await limiter.take("a")
            return limiter.statistics()

    assert asyncio.run(main()) == Statistics(
        allowed=3, denied=2, errors=0, by_source={"store": Outcomes(2, 2), "bypass": Outcomes(1, 0)}
    )


@pytest.mark.parametrize("verb", ["allow", "take", "peek", "forget", "block"])
def test_a_verb_that_is_patched_on_a_limiter_or_on_its_class_is_the_patch(verb: str):
    limiter = Limiter("1/minute")
    with mock.patch.object(limiter, verb, return_value="on the limiter"):
        assert getattr(limiter, verb)("a") == "on the limiter"
    with mock.patch.object(Limiter, verb, return_value="on the class"):
        assert getattr(limiter, verb)("a") == "on the class"
    assert limiter.allow("a")


def test_a_kept_verb_heeds_the_switch():
    limiter = Limiter("1/minute")
    allow = limiter.allow
    assert [allow("a"), allow("a")] == [True, False]
    limiter.enabled = False
    assert allow("a")
    limiter.enabled = True
    assert not allow("a")


def test_a_subclass_with_its_own_allow_keeps_both():
    class Lenient(Limiter):
        def allow(self, key, cost=1):
            return super().allow(key, cost) or key == "vip"

    limiter = Lenient("1/minute")
    assert [limiter.allow(key) for key in ("a", "a", "vip", "vip")] == [True, False, True, True]
    assert not limiter.take("vip")


def test_an_async_subclass_with_its_own_take_has_an_allow_that_says_the_same():
    class Deaf(AsyncLimiter):
        async def take(self, key, cost=1):
            return await super().peek(key, cost)

    async def main() -> list[bool]:
        async with Deaf("1/minute") as limiter:
            return [await limiter.allow("a") for _ in range(3)]

    assert asyncio.run(main()) == [True] * 3


def test_a_mixin_with_its_own_take_is_heeded_by_allow_too():
    class Deaf:
        def take(self, key, cost=1):
            return self.peek(key, cost)

    class Mixed(Deaf, Limiter):
        pass

    assert [Mixed("1/minute").allow("a") for _ in range(3)] == [True] * 3


def test_an_allow_that_was_written_on_purpose_is_never_replaced():
    class Lenient(Limiter):
        def allow(self, key, cost=1):
            return True

    class Deaf(Lenient):
        def take(self, key, cost=1):
            return self.peek(key, cost)

    limiter = Deaf("1/minute")
    assert [limiter.allow("a") for _ in range(3)] == [True] * 3
    assert Deaf.allow is Lenient.allow


@pytest.mark.parametrize("verdicts", [[], [Verdict(True, 1, 0, 0)]], ids=["none", "one"])
def test_a_store_that_answers_too_few_charges_is_an_error_and_lets_nobody_through(verdicts):
    class Short(Failing):
        def decide(self, request):
            return verdicts

    limiter = Limiter("1/minute", "9/hour", store=Short())
    for verb in (limiter.allow, limiter.take, limiter.peek):
        with pytest.raises(TypeError, match=rf"a verdict for each charge, got {len(verdicts)} for 2 charges"):
            verb("a")


def test_a_decision_does_not_change_with_the_list_that_a_store_answers():
    kept = [Verdict(True, 5, 0, 0), Verdict(True, 7, 0, 0)]

    class Reusing(Failing):
        def decide(self, request):
            return kept

    decision = Limiter("6/minute", "9/hour", store=Reusing()).take("a")
    kept[:] = [Verdict(False, 0, 9, 9)] * 2
    assert [part.remaining for part in decision.decisions] == [5, 7]
    assert hash(decision)


def test_a_remembered_answer_of_a_subclass_is_from_memory():
    class Mine(Remembered):
        pass

    class Remembering(Failing):
        def decide(self, request):
            return Mine([Verdict(False, 0, 9, 9)])

    assert Limiter("6/minute", store=Remembering()).take("a").source == "denial-cache"


def test_statistics_cannot_be_written_to():
    limiter = Limiter("5/minute")
    limiter.allow("a")
    with pytest.raises(TypeError):
        limiter.statistics().by_source["store"] = Outcomes(0, 0)  # type: ignore[index]
