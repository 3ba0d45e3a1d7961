"""The registry of policies in use: what may not share a counter by accident."""

from __future__ import annotations

import dataclasses
import gc
import pickle
import threading
import uuid
import warnings
import weakref

import pytest

from sluicegate import (
    AsyncLimiter,
    CalendarWindow,
    FixedWindow,
    InvalidPolicy,
    Limiter,
    MemoryStore,
    SlidingWindow,
    SluicegateWarning,
    TokenBucket,
)
from sluicegate._core.policy import Policy
from sluicegate._limiter import registry


@pytest.fixture(autouse=True)
def no_limiter_was_made_before() -> None:
    registry._in_use.made.clear()


@pytest.mark.parametrize("limiter", [Limiter, AsyncLimiter])
def test_two_policies_without_a_name_that_differ_only_in_their_limit_are_refused(limiter):
    store = MemoryStore()
    others = SlidingWindow(6, window=61), SlidingWindow(6, window=60, name="six")
    _open = [limiter(policy, store=store) for policy in (SlidingWindow(5, window=60), *others)]
    with pytest.raises(InvalidPolicy, match=r"sliding-window-60s, with limits 5 and 6: .* give each a name="):
        limiter(SlidingWindow(6, window=60), store=store)
    limiter(SlidingWindow(6, window=60), store=MemoryStore())


def test_a_limiter_that_was_collected_is_not_in_the_way():
    store = MemoryStore()
    Limiter(SlidingWindow(5, window=60), store=store)
    gc.collect()
    Limiter(SlidingWindow(6, window=60), store=store)


ONE_SERVER = [
    "redis://localhost/0",
    "redis://localhost:6379",
    "redis://127.0.0.1:6379/0",
    "redis://127.0.0.2/00",
    "redis://[::1]/0",
    "redis:///0",
    "valkey://LOCALHOST./?db=0",
    "redis://alice:secret@localhost:6379/0?socket_keepalive=true",
    "redis://local%68ost/0",
]


@pytest.mark.parametrize("url", ONE_SERVER)
def test_a_server_is_recognised_however_its_url_is_spelled(url: str):
    with (
        Limiter(SlidingWindow(5, window=60), store="redis://localhost:6379/0"),
        pytest.raises(InvalidPolicy, match="with limits 5 and 6"),
    ):
        Limiter(SlidingWindow(6, window=60), store=url)


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost:6380/0",
        "redis://localhost/1",
        "redis://localhost/?db=1",
        "redis://redis/0",
        "redis://127.example/0",
    ],
)
def test_another_port_database_or_host_is_another_server(url: str):
    with Limiter(SlidingWindow(5, window=60), store="redis://localhost:6379/0"):
        Limiter(SlidingWindow(6, window=60), store=url).close()


def test_a_socket_is_recognised_through_a_link(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    with (
        Limiter(SlidingWindow(5, window=60), store=f"unix://{tmp_path}/redis.sock"),
        pytest.raises(InvalidPolicy, match="with limits 5 and 6"),
    ):
        Limiter(SlidingWindow(6, window=60), store=f"unix://{tmp_path}/link/redis.sock?db=0")


@pytest.mark.parametrize("limiter", [Limiter, AsyncLimiter])
def test_two_limiters_that_share_a_policy_without_a_name_are_warned_of_once(limiter):
    store = MemoryStore()
    _first = limiter("5/minute;100/hour", store=store)
    with pytest.warns(SluicegateWarning) as warned:
        _open = [limiter("5/minute", store=store) for _ in range(2)]
    (warning,) = warned
    assert warning.message.code == "shared-by-chance"
    assert str(warning.message).startswith(
        "shared-by-chance: two limiters on one store both count by sliding-window-60s"
    )
    assert str(warning.message).endswith("(docs/reference/warnings.md#shared-by-chance)")
    assert warning.filename == __file__


def test_limiters_that_share_a_policy_by_its_name_or_one_after_another_are_not_warned_of():
    store, rate = MemoryStore(), "5/97s"  # of no other test: limiters are counted for the whole process
    named = SlidingWindow(5, window=60, name="search")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _open = Limiter(named, store=store), Limiter(named, store=store), Limiter(rate)
        Limiter(rate, store=store).close()
        with Limiter(rate, store=store):
            pass
        Limiter(rate, store=MemoryStore())


def test_a_warning_that_is_made_an_exception_leaves_nothing_behind():
    store = MemoryStore()
    with Limiter("5/minute", store=store), warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(SluicegateWarning, match="shared-by-chance") as raised:
            Limiter("5/minute", store=store)
        assert pickle.loads(pickle.dumps(raised.value)).code == "shared-by-chance"
        with pytest.raises(SluicegateWarning, match="shared-by-chance"):  # as often as it is tried
            Limiter("5/minute", store=store)
    Limiter("6/minute", store=store)


@pytest.mark.slow
@pytest.mark.parametrize("limiter", [Limiter, AsyncLimiter])
@pytest.mark.parametrize(
    "store", [lambda: None, MemoryStore, lambda: "redis://localhost:1/0"], ids=["its own", "passed", "url"]
)
def test_a_limiter_that_is_made_again_and_again_is_warned_of_once(limiter, store):
    policy = SlidingWindow(5, window=60, name=f"test-{uuid.uuid4().hex}")
    with pytest.warns(SluicegateWarning) as warned:
        _made = [limiter(policy, store=store()) for _ in range(5 * registry.MANY)]
    (warning,) = warned
    assert warning.message.code == "limiter-per-request"
    assert "make one limiter when the program starts" in str(warning.message)
    assert warning.filename == __file__


def test_a_limiter_whose_store_refers_back_to_it_is_collected():
    class Metered(MemoryStore):
        limiter: Limiter

    store = Metered()
    store.limiter = Limiter("5/minute", store=store)
    gone = weakref.ref(store.limiter)
    del store
    gc.collect()
    assert gone() is None


def test_a_collection_in_the_middle_of_a_registration_changes_nothing(monkeypatch: pytest.MonkeyPatch):
    store, check = MemoryStore(), registry._check_pair
    held = [Limiter(SlidingWindow(5, window=60, name="a"), store=store) for _ in range(2)]
    held += [Limiter(SlidingWindow(5, window=n, name=f"w{n}"), store=store) for n in range(1, 9)]

    def collecting(*pair: Policy) -> None:
        held.clear()
        gc.collect()
        check(*pair)

    monkeypatch.setattr(registry, "_check_pair", collecting)
    policies = [SlidingWindow(5, window=60, name="a"), *(SlidingWindow(5, window=n, name=f"w{n}") for n in range(1, 9))]
    Limiter(*policies, store=store)


def test_a_name_that_one_of_two_gives_is_shared_by_chance_whichever_comes_first():
    named, unnamed = SlidingWindow(5, window=60, name="sliding-window-60s"), SlidingWindow(5, window=60)
    for first, second in ((named, unnamed), (unnamed, named)):
        store = MemoryStore()
        with Limiter(first, store=store), pytest.warns(SluicegateWarning, match="shared-by-chance"):
            Limiter(second, store=store)


def test_limiters_on_one_store_of_the_program_may_be_made_at_any_time():
    policy = SlidingWindow(5, window=60, name=f"test-{uuid.uuid4().hex}")
    store = MemoryStore()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sum(Limiter(policy, store=store).allow("alice") for _ in range(3 * registry.MANY)) == 5
        limiter = Limiter(policy)
        for _ in range(3 * registry.MANY):
            with limiter:
                pass


def test_what_is_kept_of_limiters_that_were_made_is_bounded():
    for window in range(1, 3000):
        Limiter(SlidingWindow(1, window=window))
    assert len(registry._in_use.made) <= 1000


def test_two_urls_that_are_one_store_are_told_from_two_stores():
    with Limiter(SlidingWindow(5, window=60), store="redis://h:1/0"):
        Limiter(SlidingWindow(6, window=60), store="redis://h:1/1").close()
        with pytest.raises(InvalidPolicy, match="with limits 5 and 6"):
            Limiter(SlidingWindow(6, window=60), store="redis://h:1/0")
    with Limiter(SlidingWindow(6, window=60), store="redis://h:1/0"):
        pass


def test_the_limit_of_a_policy_without_a_name_can_change_once_its_limiter_is_closed():
    store = MemoryStore()
    first, second = (Limiter(SlidingWindow(5, window=60), store=store) for _ in range(2))
    first.close()
    first.close()
    with pytest.raises(InvalidPolicy):
        Limiter(SlidingWindow(6, window=60), store=store)
    second.close()
    Limiter(SlidingWindow(6, window=60), store=store)


def monthly(limit: int, **options) -> CalendarWindow:
    return CalendarWindow(limit, every="month", **options)


REFUSED_BESIDE = [
    (TokenBucket(5, window=60), TokenBucket(6, window=60), "limits 5 and 6"),
    (TokenBucket(5, window=60), TokenBucket(5, window=60, burst=6), "bursts 5 and 6"),
    (FixedWindow(5, window=60), FixedWindow(6, window=60), "limits 5 and 6"),
    (monthly(5), monthly(6), "limits 5 and 6"),
    (SlidingWindow(5, window=60, per="user"), SlidingWindow(6, window=60, per="user"), "limits 5 and 6"),
    (SlidingWindow(5, window=60, shared=True), SlidingWindow(6, window=60, shared=True), "limits 5 and 6"),
    (
        SlidingWindow(5, window=60, name="a", per="user"),
        SlidingWindow(5, window=60, name="a", per="ip"),
        "both named a and count by different attributes, user and ip",
    ),
    (
        TokenBucket(5, window=60, name="a", per=("user", "ip")),
        TokenBucket(5, window=60, name="a", per=("ip", "user")),
        "both named a and count by different attributes, user, ip and ip, user",
    ),
    (
        SlidingWindow(5, window=60, name="a"),
        SlidingWindow(5, window=60, name="a", shared=True),
        r"both named a, and one counts by a plain key, the other by nothing \(it is shared\)",
    ),
    (
        FixedWindow(5, window=60, name="a", per=("user", "ip")),
        FixedWindow(5, window=60, name="a"),
        "both named a, and one counts by user, ip, the other by a plain key",
    ),
]


@pytest.mark.parametrize(("one", "other", "said"), REFUSED_BESIDE, ids=lambda each: getattr(each, "name", ""))
def test_policies_that_would_share_a_counter_unseen_are_refused(one: Policy, other: Policy, said: str):
    store = MemoryStore()
    with Limiter(one, store=store):
        Limiter(one, store=store).close()
        Limiter(other, store=MemoryStore()).close()
        with pytest.raises(InvalidPolicy, match=f"{said}.*: .* give each a name="):
            Limiter(other, store=store)
    Limiter(other, store=store).close()


ALLOWED_BESIDE = [
    (SlidingWindow(5, window=60), TokenBucket(6, window=60)),
    (SlidingWindow(5, window=60), SlidingWindow(6, window=61)),
    (SlidingWindow(5, window=60), SlidingWindow(5, window=60, buckets=6)),
    (SlidingWindow(5, window=60), SlidingWindow(6, window=60, per="user")),
    (SlidingWindow(5, window=60, name="one"), SlidingWindow(6, window=60, name="one")),
    (SlidingWindow(5, window=60, name="one"), SlidingWindow(5, window=60, name="one", per="user")),
    (TokenBucket(5, window=60, name="one"), TokenBucket(5, window=60, burst=9, name="one")),
    (CalendarWindow(5, every="day"), CalendarWindow(6, every="day", timezone="Asia/Tokyo")),
    (CalendarWindow(5, every="day", name="a"), CalendarWindow(6, every="week", name="a")),
    (CalendarWindow(5, every="month"), CalendarWindow(6, every="month", day=15)),
]


@pytest.mark.parametrize(("one", "other"), ALLOWED_BESIDE, ids=repr)
def test_policies_that_share_nothing_or_by_their_own_name_are_taken(one: Policy, other: Policy):
    store = MemoryStore()
    with Limiter(one, store=store), Limiter(other, store=store):
        pass


def test_a_limiter_that_was_refused_leaves_nothing_behind():
    store, third = MemoryStore(), SlidingWindow(5, window=3)
    first, second = SlidingWindow(5, window=1), SlidingWindow(5, window=2)
    with Limiter(third, store=store):
        with pytest.raises(InvalidPolicy, match="limits 5 and 6"):
            Limiter(first, second, third.with_limit(6), store=store)
        with pytest.raises(InvalidPolicy, match="exempt must be"):
            Limiter(first, second, store=store, exempt="alice")
        with pytest.raises(InvalidPolicy, match="limits must be"):
            Limiter(first, second, store=store, limits=5)
        with pytest.raises(InvalidPolicy, match="enabled must be"):
            Limiter(first, second, store=store, enabled="yes")
        with pytest.raises(InvalidPolicy, match="both named"):
            Limiter(first, second, second, store=store)
        Limiter(first.with_limit(6), second.with_limit(6), store=store).close()
    Limiter(third.with_limit(6), store=store).close()


def test_all_policies_of_a_limiter_are_free_again_when_it_is_closed():
    store, several = MemoryStore(), [SlidingWindow(5, window=1), TokenBucket(5, window=1), FixedWindow(5, window=1)]
    Limiter(*several, store=store).close()
    Limiter(*(policy.with_limit(6) for policy in several), store=store).close()


def test_a_limiter_on_a_store_that_no_one_can_refer_to_weakly_can_be_closed():
    class Slotted:
        __slots__ = ()

        def decide(self, requests, *, commit=True): ...
        def forget(self, counters): ...
        def block(self, counters, span_us): ...
        def close(self): ...

    Limiter("1/minute", store=Slotted()).close()


@pytest.mark.usefixtures("hasty_threads")
def test_threads_that_make_and_close_limiters_on_one_store_do_not_meet():
    store, failures = MemoryStore(), []

    def work(n: int) -> None:
        try:
            for m in range(150):
                Limiter(
                    SlidingWindow(1, window=60, name=f"p{n}-{m % 7}"), SlidingWindow(5, window=1), store=store
                ).close()
        except Exception as failure:  # noqa: BLE001 - it is shown below
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


@dataclasses.dataclass
class Equal:
    """A store that is equal to another one, and so has no hash."""

    name: str = ""

    def decide(self, request): ...

    def forget(self, counters): ...

    def block(self, counters, span_us): ...

    def close(self): ...


def test_stores_that_are_equal_are_still_two_places():
    one, other = Equal(), Equal()
    with (
        Limiter(SlidingWindow(5, window=60), store=one),
        Limiter(SlidingWindow(6, window=60), store=other),
        pytest.raises(InvalidPolicy, match="limits 5 and 6"),
    ):
        Limiter(SlidingWindow(6, window=60), store=one)
    Limiter(SlidingWindow(6, window=60), store=one).close()


def test_a_limiter_that_could_not_be_made_is_not_registered():
    class Broken:
        reads: object = None

        def now_us(self):
            return self.reads

    clock = Broken()
    clock.reads = 0
    store = MemoryStore(clock=clock)
    clock.reads = None
    with pytest.raises(ValueError, match="now_us"):
        Limiter(SlidingWindow(5, window=60), store=store)
    clock.reads = 1
    Limiter(SlidingWindow(6, window=60), store=store)
