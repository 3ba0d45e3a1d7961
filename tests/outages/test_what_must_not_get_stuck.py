"""What could leave a breaker open for good, a fleet uncounted, or a process busy with an outage alone (G9)."""

from __future__ import annotations

import asyncio
import logging
import threading
import time

import pytest
import redis

import servers
from outages.conftest import Instance, Make, until
from sluicegate import AsyncLimiter, Limiter, RedisStore, SlidingWindow, StoreError, StoreUnavailable
from sluicegate._core.decision import Verdict
from sluicegate._stores import fleet
from sluicegate._stores.redis import announcing, probing, script
from sluicegate.proof.proxy import Proxy

POLICY = SlidingWindow(12, window=600, name="n")


def test_a_task_that_calls_without_a_pause_lets_the_probes_run(own_server: servers.Server):
    async def main() -> None:
        limiter = AsyncLimiter(POLICY, store=own_server.url, on_outage="closed", deadline=0.1)
        await limiter.allow("a")
        own_server.kill()
        while limiter.statistics().mode == "store":
            await limiter.allow("a")
        own_server.launch()
        end = time.monotonic() + 30
        while not await limiter.allow("b"):
            assert time.monotonic() < end
        await limiter.aclose()

    asyncio.run(main())


def test_what_is_owed_keeps_no_instance_from_announcing_itself_and_needs_no_outage_to_be_sent(
    make: Make, own_server: servers.Server, monkeypatch: pytest.MonkeyPatch
):
    instance = make(own_server.url, POLICY)
    instance.take("warm")
    own_server.client.config_set("maxmemory", 1)
    assert instance.take("owed").source == "fallback"
    own_server.client.config_set("maxmemory", 0)
    assert instance.store._local.owes
    assert not instance.health.is_open
    monkeypatch.setattr(announcing, "EVERY", 0.0)
    before = instance.store._announcing._heard_at
    instance.take("other")
    assert instance.store._announcing._heard_at > before
    assert not instance.store._local.owes
    assert instance.peek("owed").remaining == 11


def test_after_an_outage_the_fleet_is_not_counted_from_one(
    make: Make, own_server: servers.Server, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(announcing, "EVERY", 0.0)
    instances = [make(own_server.url, POLICY) for _ in range(4)]
    for instance in instances * 2:
        instance.take("warm")
    own_server.kill()
    for instance in instances:
        instance.fail()
    own_server.launch()  # without its data, so without its members
    instances[0].recover()
    instances[0].take("warm")
    assert instances[0].store._fleet.size == 4
    clock = time.monotonic() + script.MEMBER_LIFE + 2
    monkeypatch.setattr(fleet.time, "monotonic", lambda: clock)
    instances[0].store._fleet.learn(1, [])
    assert instances[0].store._fleet.size == 1


def test_a_breaker_whose_prober_could_not_start_is_probed_all_the_same(
    own_server: servers.Server, monkeypatch: pytest.MonkeyPatch
):
    def no_thread(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    instance = Instance("threads", own_server.url, POLICY)
    instance.take()
    own_server.kill()
    with monkeypatch.context() as patched:
        patched.setattr(probing._thread, "start_new_thread", no_thread)
        instance.store._health.within = 0.2
        error = StoreUnavailable("gone", reason="unreachable")
        for _ in range(3):
            instance.store._guard.failed(error, instance.health.failures, 0.2)
    assert instance.health.is_open
    own_server.launch()
    instance.take()
    assert instance.health.is_open  # not overdue yet
    instance.store._guard._overdue = 0.0
    instance.rest(0.1)
    until(instance, lambda: not instance.health.is_open, instance.take)
    instance.close()


def test_a_log_that_raises_reaches_no_caller_and_stops_no_probe(make: Make, own_server: servers.Server):
    def refuse(record: logging.LogRecord) -> bool:
        raise ValueError("a filter of the user's")

    instance = make(own_server.url, POLICY)
    instance.take()
    logger = logging.getLogger("sluicegate")
    logger.addFilter(refuse)
    try:
        own_server.kill()
        instance.fail()
        own_server.launch()
        instance.recover()
    finally:
        logger.removeFilter(refuse)


def test_a_demoted_server_behind_a_name_is_left_for_the_one_that_took_its_place(make: Make, own_server: servers.Server):
    with servers.running(own_server.kind) as other, Proxy(own_server.port) as proxy:
        instance = make(f"redis://127.0.0.1:{proxy.port}/0", POLICY)
        instance.take()
        own_server.client.replicaof("127.0.0.1", "1")
        instance.fail()
        proxy._upstream = other.port  # the connections to the demoted one stay open
        until(instance, lambda: instance.take().source == "store")


def test_a_pool_of_one_connection_serves_every_verb_at_the_same_time(own_server: servers.Server):
    with redis.Redis(connection_pool=redis.ConnectionPool.from_url(own_server.url, max_connections=1)) as client:
        limiter = Limiter(SlidingWindow(10**6, window=600, name="n"), store=RedisStore(client), deadline=20)
        stop = threading.Event()

        def work() -> None:
            while not stop.is_set():
                limiter.take("busy")

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for n in range(50):
                limiter.forget(f"user-{n}")
                limiter.block(f"user-{n}", 0)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert set(limiter.statistics().by_source) == {"store"}


def test_an_exhausted_pool_is_no_outage_of_the_server(own_server: servers.Server):
    with redis.Redis(connection_pool=redis.ConnectionPool.from_url(own_server.url, max_connections=1)) as client:
        taken = client.connection_pool.get_connection()
        limiter = Limiter(POLICY, store=RedisStore(client), on_outage="raise", deadline=0.2)
        for _ in range(5):
            with pytest.raises(StoreError) as caught:
                limiter.take("a")
            assert caught.value.reason == "pool-exhausted"
        assert limiter.statistics().mode == "store"
        client.connection_pool.release(taken)
        assert limiter.take("a").source == "store"


def test_a_user_who_may_use_some_keys_only_decides_on_these_whatever_the_members_key(
    make: Make, own_server: servers.Server, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(announcing, "EVERY", 0.0)
    own_server.client.execute_command("ACL", "SETUSER", "ann", "on", ">secret", "~sluicegate:{user*", "+@all")
    instance = make(f"redis://ann:secret@127.0.0.1:{own_server.port}/0", POLICY)
    assert [instance.take("user-1").source for _ in range(3)] == ["store"] * 3
    own_server.freeze()
    instance.fail()
    own_server.thaw()
    instance.recover()
    assert instance.take("user-2").source == "store"


@pytest.mark.slow
def test_a_replica_that_attaches_is_no_failover(
    make: Make, own_server: servers.Server, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(announcing, "EVERY", 0.0)
    instance = make(own_server.url, POLICY)
    instance.take()
    with servers.running(own_server.kind, "--replicaof", "127.0.0.1", str(own_server.port)) as replica:
        until(instance, lambda: replica.client.info("replication")["master_link_status"] == "up")
        instance.take()
    assert instance.events == []


def test_a_denial_is_not_remembered_beyond_the_loss_of_the_counters(
    make: Make, own_server: servers.Server, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(announcing, "EVERY", 0.0)
    instance = make(own_server.url, SlidingWindow(1, window=600, name="n"))
    assert [instance.take().allowed for _ in range(2)] == [True, False]
    own_server.client.flushall()
    instance.take("other")
    assert instance.take().allowed


def test_limiters_on_a_store_of_ones_own_share_what_is_counted_in_its_outage():
    class Down:
        def decide(self, request: object) -> list[Verdict]:
            raise StoreUnavailable("down")

        def forget(self, counters: object) -> None: ...

        def block(self, counters: object, span_us: int) -> None: ...

        def close(self) -> None: ...

    store = Down()
    limiters = [Limiter(POLICY, store=store) for _ in range(4)]
    assert sum(limiter.allow("a") for limiter in limiters for _ in range(12)) == 12
    assert not limiters[0]._plan.outages._outage.local.owes  # nobody would ever send it


def test_a_block_that_is_lifted_elsewhere_ends_here_with_the_next_answer(make: Make, own_server: servers.Server):
    one, other = (make(own_server.url, POLICY) for _ in range(2))
    one.block("a", 600)
    assert not other.take("a")
    other.block("a", 0)
    until(one, lambda: one.take("a").source == "store")
    own_server.kill()
    one.fail()
    assert one.take("a").allowed


@pytest.mark.parametrize("mode", ["open", "closed", "raise"])
def test_only_a_limiter_that_decides_by_itself_remembers_anything_for_that(
    make: Make, own_server: servers.Server, mode: str
):
    instance = make(own_server.url, POLICY, on_outage=mode)
    instance.take("a")
    instance.block("b", 600)
    local = instance.store._local
    assert (local.known.used(POLICY, "a"), local._memory) == (0, None)
