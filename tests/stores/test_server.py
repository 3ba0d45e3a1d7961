"""Keys on a real server, under its real clock: TTLs, sizes, names, and values of a wrong type."""

from __future__ import annotations

import time
from collections import Counter
from functools import partial

import pytest
import redis
from redis.crc import key_slot

import servers
from sluicegate import (
    CalendarWindow,
    Concurrency,
    FixedWindow,
    Limiter,
    RedisStore,
    SlidingWindow,
    StoreError,
    StoreUnavailable,
    TokenBucket,
)
from sluicegate._algorithms import BY_NAME
from sluicegate._core.policy import MAX_WINDOW_US, Policy
from sluicegate._core.request import Request, Settlement
from sluicegate._stores.redis.script import Answer, Charges
from stores.harness import Harness, Lender, charges, drive


@pytest.fixture
def store(server: servers.Server, prefix: str):
    with RedisStore.from_url(server.url, prefix=prefix, timeout=30) as made:
        yield made


@pytest.fixture
def driven(server: servers.Server, prefix: str):
    """A store whose clock the test moves, so that days of traffic take seconds."""
    harness = Harness("redis", client=server.client, prefix=prefix)
    yield harness
    harness.close()


def decide_together(server: servers.Server, store: RedisStore, *requests: Charges) -> list[Answer]:
    """Decide requests in one call, as those of callers at the same time are."""
    if any(charge.policy.lends for request in requests for charge in request):
        lines = drive(server.client, store._reserve([(request,) for request in requests]))
        return [line if isinstance(line, StoreError) else line[0] for line in lines]
    return drive(server.client, store._decide(list(requests), commit=True))


def keys(server: servers.Server, prefix: str) -> list[bytes]:
    return servers.counters(server, prefix)


@pytest.mark.parametrize("buckets", [None, 1, 7])
@pytest.mark.parametrize("window", [2, 60, 86400, MAX_WINDOW_US / 1_000_000])
def test_g7_every_key_has_a_ttl_and_outlives_the_wait_that_it_returned(
    server: servers.Server, prefix: str, store: RedisStore, window: float, buckets: int | None
):
    limiter = Limiter(SlidingWindow(3, window=window, buckets=buckets), store=store)
    for _ in range(5):
        decision = limiter.take("a")
        decided_at = time.monotonic()
        left = server.client.pttl(keys(server, prefix)[0]) / 1000
        spent = time.monotonic() - decided_at + 0.05  # the clock runs on
        assert left + spent >= max(decision.retry_after, decision.reset_after)
        assert left <= window * (1 + 1 / 8 + 1 / (buckets or 10**9)) + 0.005


@pytest.mark.parametrize("buckets", [None, 30])
def test_g7_under_steady_traffic_the_key_always_outlives_its_newest_stamp(driven: Harness, buckets: int | None):
    limiter = driven.limiter(SlidingWindow(100, window=10, buckets=buckets))
    expires, times_set = 0.0, 0
    for _ in range(400):
        decision = limiter.take("a")
        ttl = driven.ttl_told()
        now = driven.now_us / 1_000_000
        if ttl is not None:
            expires, times_set = now + ttl, times_set + 1
        assert expires >= now + decision.reset_after
        driven.advance(0.13)
    assert 40 <= times_set <= 45  # once in an eighth of the window, and not at each charge


def test_g7_a_key_is_gone_when_its_window_is_over(server: servers.Server, prefix: str, store: RedisStore):
    limiter = Limiter(SlidingWindow(5, window=0.2), store=store)
    limiter.take("a", 5)
    assert len(keys(server, prefix)) == 1
    time.sleep(0.2 * 9 / 8 + 0.15)
    assert keys(server, prefix) == []


def test_the_servers_real_clock_decides(store: RedisStore):
    limiter = Limiter(SlidingWindow(5, window=0.3), store=store)
    assert [limiter.allow("a") for _ in range(6)] == [True] * 5 + [False]
    wait = limiter.take("a").retry_after
    assert 0 < wait <= 0.3
    time.sleep(wait)
    assert limiter.allow("a")


def test_a_key_of_a_wrong_type_fails_its_own_request_alone(server: servers.Server, prefix: str, store: RedisStore):
    policy = SlidingWindow(5, window=60)
    limiter = Limiter(policy, store=store, on_outage="raise")
    limiter.take("bad")
    (bad,) = keys(server, prefix)
    for spoil in (
        lambda: server.client.set(bad, "text"),
        lambda: server.client.sadd(bad, "member"),
        lambda: server.client.rpush(bad, "no page of ours"),
        lambda: server.client.rpush(bad, b"x" * 25),
    ):
        server.client.delete(bad)
        spoil()
        before = server.client.dump(bad)
        limiter.forget("good")
        answers = decide_together(
            server,
            store,
            charges((policy, "good", 1)),
            charges((policy, "bad", 1)),
            charges((policy, "good2", 1), (policy, "bad", 1)),
            charges((policy, "good", 1)),
        )
        assert [type(answer) for answer in answers] == [list, StoreUnavailable, StoreUnavailable, list]
        assert limiter.peek("good").remaining == 3
        assert limiter.peek("good2").remaining == 5
        for verb in (limiter.take, limiter.peek, limiter.allow):
            with pytest.raises(StoreUnavailable, match=r"holds something else on the server; .*; nothing was taken: "):
                verb("bad")
        assert server.client.dump(bad) == before
    limiter.forget("bad")
    assert limiter.allow("bad")


STRINGS = [TokenBucket(5, window=60), FixedWindow(5, window=60), CalendarWindow(5, every="day")]
SIZES = {"token-bucket": 22, "fixed-window": 26, "calendar-window": 26}
LEASES = Concurrency(5, ttl=60)


@pytest.mark.parametrize("policy", STRINGS, ids=lambda policy: policy.algorithm)
def test_a_state_of_a_wrong_type_or_length_fails_its_own_request_alone(
    server: servers.Server, prefix: str, store: RedisStore, policy: Policy
):
    limiter = Limiter(policy, store=store, on_outage="raise")
    limiter.take("bad")
    (bad,) = keys(server, prefix)
    size = SIZES[policy.algorithm]
    assert len(server.client.get(bad)) == size
    spoils = [lambda: server.client.sadd(bad, "member"), lambda: server.client.rpush(bad, b"x" * size)]
    spoils += [partial(server.client.set, bad, b"\1" * length) for length in (0, 1, size - 1, size + 1, size + 8, 900)]
    for spoil in spoils:
        server.client.delete(bad)
        spoil()
        before = server.client.dump(bad)
        limiter.forget("good")
        answers = decide_together(
            server,
            store,
            charges((policy, "good", 1)),
            charges((policy, "bad", 1)),
            charges((policy, "good2", 1), (policy, "bad", 1)),
            charges((policy, "bad", 1), (policy, "good2", 1)),
            charges((policy, "good", 1)),
        )
        assert [type(answer) for answer in answers] == [list, *[StoreUnavailable] * 3, list]
        assert limiter.peek("good").remaining == 3
        assert limiter.peek("good2").remaining == 5
        for verb in (limiter.take, limiter.peek, limiter.allow):
            with pytest.raises(StoreUnavailable, match=r"holds something else on the server; .*; nothing was taken: "):
                verb("bad")
        assert server.client.dump(bad) == before
    limiter.forget("bad")
    assert limiter.allow("bad")


def test_leases_of_a_wrong_type_fail_their_own_request_alone(server: servers.Server, prefix: str, store: RedisStore):
    limiter = Lender(LEASES, store=store, on_outage="raise")
    limiter.take("bad")
    (bad,) = keys(server, prefix)
    for spoil in (
        lambda: server.client.set(bad, "text"),
        lambda: server.client.sadd(bad, "member"),
        lambda: server.client.rpush(bad, "no lease"),
        lambda: server.client.zadd(bad, {"no lease": 1}),
        lambda: server.client.zadd(bad, {"no lease": 10**16, "1:1": -1}),
    ):
        server.client.delete(bad)
        spoil()
        before = server.client.dump(bad)
        limiter.forget("good")
        answers = decide_together(
            server,
            store,
            charges((LEASES, "good", 1)),
            charges((LEASES, "bad", 1)),
            charges((LEASES, "good2", 1), (LEASES, "bad", 1)),
            charges((LEASES, "bad", 1), (LEASES, "good2", 1)),
            charges((LEASES, "good", 1)),
        )
        assert [isinstance(answer, StoreUnavailable) for answer in answers] == [False, True, True, True, False]
        assert limiter.peek("good").remaining == 3
        assert limiter.peek("good2").remaining == 5
        for verb in (limiter.take, limiter.peek, limiter.allow):
            with pytest.raises(StoreUnavailable, match=r"holds something else on the server; .*; nothing was taken: "):
                verb("bad")
        assert server.client.dump(bad) == before
    limiter.forget("bad")
    assert limiter.allow("bad")


EVERY = [SlidingWindow(5, window=60), *STRINGS, LEASES]


@pytest.mark.parametrize("policy", EVERY, ids=lambda policy: policy.algorithm)
def test_what_is_not_there_or_something_else_is_not_settled_and_what_is_beside_it_is(
    server: servers.Server, prefix: str, store: RedisStore, policy: Policy
):
    answers = [store.decide(Request(charges((policy, key, 2)), reserves=True)) for key in ("spoilt", "good")]
    bad, good = (
        Settlement(policy, key, 2, answer.marks[0], 0) for key, answer in zip(("spoilt", "good"), answers, strict=True)
    )
    (spoilt,) = [key for key in keys(server, prefix) if b"spoilt" in key]
    server.client.delete(spoilt)
    assert store.settle([bad]) == [False]
    server.client.sadd(spoilt, "member")
    before = server.client.dump(spoilt)
    with pytest.raises(StoreUnavailable, match="nothing was settled"):
        store.settle([bad, good])
    assert server.client.dump(spoilt) == before
    assert Limiter(policy, store=store).peek("good").remaining == 5
    assert store.settle([good]) == [policy.algorithm not in ("sliding-window", "concurrency")]


def test_the_tests_of_spoilt_keys_cover_every_algorithm():
    assert {policy.algorithm for policy in EVERY} == set(BY_NAME)


def test_a_spoilt_key_of_one_policy_fails_the_whole_request_and_nothing_is_charged(
    server: servers.Server, prefix: str, store: RedisStore
):
    together = Lender(*EVERY, store=store, on_outage="raise")
    for policy in EVERY:
        together.forget("a")
        together.take("a")
        (key,) = [key for key in keys(server, prefix) if f":{policy.namespace}".encode() in key]
        server.client.delete(key)
        server.client.sadd(key, "member")
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match="WRONGTYPE"):
                together.take("a")
        server.client.delete(key)
        others = [other for other in EVERY if other is not policy]
        assert [part.remaining for part in Limiter(*others, store=store).peek("a").decisions] == [4, 4, 4, 4]


def test_a_cost_of_100_000_is_one_entry(server: servers.Server, prefix: str, store: RedisStore):
    Limiter(SlidingWindow(10**6, window=60), store=store).take("a", 100_000)
    (key,) = keys(server, prefix)
    assert [len(page) for page in server.client.lrange(key, 0, -1)] == [20 + 12]
    assert server.client.memory_usage(key, samples=0) <= 300


@pytest.mark.slow
def test_10_000_requests_in_a_window_take_at_most_24_bytes_each_and_a_sorted_set_many_more(driven: Harness):
    limiter = driven.limiter(SlidingWindow(10**6, window=10))
    sizes = []
    for n in range(30_000):
        assert limiter.allow("a")
        driven.advance(0.001)
        if n >= 10_000 and n % 97 == 0:
            sizes.append(_size(driven) / 10_000)
    assert sum(sizes) / len(sizes) <= 16
    assert max(sizes) <= 18
    rival = f"{driven.prefix}sorted-set"
    driven.client.zadd(rival, {f"{n}:{n % 7}": n for n in range(10_000)})
    assert driven.client.memory_usage(rival, samples=0) / 10_000 >= 3 * max(sizes)


@pytest.mark.slow
def test_a_million_a_day_in_600_buckets_takes_less_than_10_kilobytes(driven: Harness):
    limiter = driven.limiter(SlidingWindow(10**6, window=86400, buckets=600))
    sizes = []
    for n in range(3 * 2000):  # three days; 500 requests at a time stand for as many one by one: they share entries
        limiter.take("a", 500)
        driven.advance(86400 / 2000)
        if n % 50 == 0:
            sizes.append(_size(driven))
    assert max(sizes) < 10_000
    assert max(sizes) > 5_000  # it really held them


def _size(driven: Harness) -> int:
    (key,) = driven.stored()
    return driven.client.memory_usage(key, samples=0)


def test_keys_lie_under_the_prefix_with_the_subject_as_hash_tag(server: servers.Server, prefix: str, store: RedisStore):
    Limiter(SlidingWindow(5, window=60), store=store).take("alice}{")
    Limiter(SlidingWindow(5, window=0.25, name="api"), store=store).take("alice")
    assert sorted(keys(server, prefix)) == sorted(
        [
            f"{prefix}{{alice%7D%7B}}:sliding-window:sliding-window-60s:60000000".encode(),
            f"{prefix}{{alice}}:sliding-window:api:250000".encode(),
        ]
    )


def test_the_values_of_attributes_are_part_of_the_stored_key(server: servers.Server, prefix: str, store: RedisStore):
    limiter = Limiter(
        SlidingWindow(5, window=60, per="user"),
        TokenBucket(5, window=1, per=("user", "endpoint"), name="pair"),
        FixedWindow(5, window=60, per=("endpoint", "user"), name="turned"),
        CalendarWindow(5, every="month", timezone="Europe/Paris", per=("user", "endpoint", "tenant"), name="quota"),
        CalendarWindow(5, every="day", shared=True),
        store=store,
    )
    limiter.take({"user": "alice", "endpoint": "GET /a,b", "tenant": "{x}"})
    assert sorted(keys(server, prefix)) == sorted(
        f"{prefix}{name}".encode()
        for name in (
            "{alice}:sliding-window:sliding-window-60s-per-user:60000000",
            "{alice}:token-bucket:pair:1000000,GET%20/a%2Cb",
            "{GET%20/a%2Cb}:fixed-window:turned:60000000,alice",
            "{alice}:calendar-window:quota:month@Europe/Paris,GET%20/a%2Cb,%7Bx%7D",
            "{*}:calendar-window:calendar-window-day-UTC-shared:day@UTC",
        )
    )


def test_policies_with_the_same_first_attribute_share_a_hash_tag(
    server: servers.Server, prefix: str, store: RedisStore
):
    kinds = [SlidingWindow, TokenBucket, FixedWindow]
    policies = [kind(5, window=60, name=f"{kind.algorithm}-1", per="user") for kind in kinds]
    policies += [kind(5, window=60, name=f"{kind.algorithm}-2", per=("user", "endpoint")) for kind in kinds]
    limiter = Limiter(*policies, CalendarWindow(5, every="week", per=("user", "endpoint")), store=store)
    for user in ("", "a}{b", "x" * 300):
        limiter.take({"user": user, "endpoint": "/pay"})
    slots = Counter(map(key_slot, keys(server, prefix)))
    assert sorted(slots.values()) == [7, 7, 7]


def test_values_that_look_the_same_when_joined_are_separate_counters(store: RedisStore):
    limiter = Limiter(TokenBucket(1, window=60, per=("user", "endpoint"), name="pair"), store=store)
    pairs = [
        ("a", "b,c"),
        ("a,b", "c"),
        ("a", "b%2Cc"),
        ("", "a,b,c"),
        ("*", ""),
        ("", "*"),
        ("a}:x", "b"),
        ("a", "}:x,b"),
    ]
    assert all(limiter.allow({"user": user, "endpoint": endpoint}) for user, endpoint in pairs)
    assert not any(limiter.allow({"user": user, "endpoint": endpoint}) for user, endpoint in pairs)


def test_a_decision_is_one_call_however_many_policies_it_has(server: servers.Server, prefix: str, store: RedisStore):
    kinds = [SlidingWindow, TokenBucket, FixedWindow]
    policies = [kind(50, window=window) for kind in kinds for window in (60, 3600, 86400)]
    limiter = Limiter(*policies, CalendarWindow(50, every="month"), store=store)

    def calls() -> Counter:
        """Return how often clients sent each command, without those of scripts."""
        stats = server.client.info("commandstats")
        return Counter({name: stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("evalsha", "eval", "del")})

    for verb in (limiter.take, limiter.peek, limiter.allow, partial(limiter.block, seconds=0.0)):
        verb("a")  # the server knows the script from here on
        before = calls()
        verb("a")
        assert calls() - before == {"evalsha": 1}
    before = calls()
    limiter.forget("a")
    assert calls() - before == {"del": 1}


def test_a_peek_runs_on_a_read_only_replica_and_a_decision_does_not():
    for kind in servers.binaries():
        with servers.running(kind, "--repl-diskless-sync-delay", "0") as primary, servers.running(kind) as replica:
            with RedisStore.from_url(primary.url) as store:
                Limiter(SlidingWindow(5, window=60), store=store).take("a", 2)
            replica.client.replicaof("127.0.0.1", primary.port)
            end = time.monotonic() + 60
            while replica.client.info("replication").get("master_link_status") != "up" and time.monotonic() < end:
                time.sleep(0.02)
            with RedisStore.from_url(replica.url) as store:
                limiter = Limiter(SlidingWindow(5, window=60), store=store, on_outage="raise")
                assert limiter.peek("a").remaining == 3
                with pytest.raises(StoreUnavailable, match="nothing was taken"):
                    limiter.take("a")


@pytest.mark.parametrize("decoding", [False, True])
def test_a_users_client_works_with_and_without_decoding(server: servers.Server, prefix: str, decoding: bool):
    with redis.Redis.from_url(server.url, decode_responses=decoding) as own:
        store = RedisStore(own, prefix=prefix, denial_ttl=0)
        limiter = Limiter(SlidingWindow(2, window=60), store=store, on_outage="raise")
        assert [limiter.allow("☃") for _ in range(3)] == [True, True, False]
        own.set(keys(server, prefix)[0], "spoilt")
        with pytest.raises(StoreUnavailable, match="WRONGTYPE"):
            limiter.take("☃")
