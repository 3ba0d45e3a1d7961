"""Instances on one server: how they learn of each other, what each allows without it, and what they owe it (G9)."""

from __future__ import annotations

import logging
import os
import time

import pytest

import servers
from outages.conftest import Instance, Make, until
from sluicegate import CalendarWindow, FixedWindow, SlidingWindow, StoreUnavailable, TokenBucket
from sluicegate._stores.local import Local
from sluicegate._stores.redis import announcing, script
from sluicegate._stores.redis.script import MEMBERS_TTL
from sluicegate.proof.proxy import Proxy

MEMBERS = "{*}:members"

POLICIES = [
    SlidingWindow(12, window=600, name="n"),
    SlidingWindow(12, window=600, buckets=60, name="n"),
    TokenBucket(12, window=6000, name="n"),
    FixedWindow(12, window=10**8, name="n"),
    CalendarWindow(12, every="year", name="n"),
]
of_each_kind = pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: repr(policy).partition("(")[0])


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let instances announce themselves with every call."""
    monkeypatch.setattr(announcing, "EVERY", 0.0)


def members(server: servers.Server, prefix: str) -> list[tuple[bytes, float]]:
    found = server.client.zrange(f"{prefix}{MEMBERS}", 0, -1, withscores=True)
    return [(name, score) for name, score in found if score != float("inf")]


def sizes(*instances: Instance) -> list[int | None]:
    return [instance.store._fleet.size for instance in instances]


def test_the_first_decision_announces_an_instance_and_tells_it_how_many_there_are(
    make: Make, server: servers.Server, prefix: str
):
    one, other = (make(server.url, SlidingWindow(5, window=60, name="n"), prefix=prefix) for _ in range(2))
    assert sizes(one, other) == [None, None]
    one.take()
    other.take()
    assert sizes(one, other) == [1, 2]
    assert len(members(server, prefix)) == 2
    assert 0 < server.client.ttl(f"{prefix}{MEMBERS}") <= MEMBERS_TTL


@pytest.mark.slow
def test_an_instance_announces_itself_about_once_a_second_however_much_it_is_used(
    make: Make, server: servers.Server, prefix: str
):
    instance = make(server.url, "1000000/minute", prefix=prefix)
    began_at, seen = time.monotonic(), set()
    while time.monotonic() < began_at + 1.5:
        for _ in range(20):
            instance.take()
        seen.update(score for _, score in members(server, prefix))
    assert 2 <= len(seen) <= 2 + (time.monotonic() - began_at)


def test_an_instance_that_is_gone_is_forgotten(
    make: Make, server: servers.Server, prefix: str, often: None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(script, "MEMBER_LIFE", 0.3)
    policy = SlidingWindow(1000, window=60, name="n")
    one, other = (make(server.url, policy, prefix=prefix) for _ in range(2))
    one.take()
    other.take()
    one.take()
    assert sizes(one) == [2]
    other.close()
    until(one, lambda: sizes(one) == [1], one.take)


def test_after_a_step_of_the_servers_clock_no_member_stays_for_good(server: servers.Server, prefix: str, make: Make):
    instance = make(server.url, prefix=prefix)
    server.client.zadd(f"{prefix}{MEMBERS}", {"ahead": time.time() * 1e6 + 3.6e9, "behind": 1})
    instance.take()
    assert sizes(instance) == [1]


def test_a_store_in_a_forked_child_is_another_instance(server: servers.Server, prefix: str):
    instance = Instance("threads", server.url, "1000/minute", prefix=prefix)
    instance.take()
    child = os.fork()
    if not child:
        instance.take()
        os._exit(0 if instance.store._fleet.size == 2 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert len(members(server, prefix)) == 2
    instance.close()


def test_a_user_who_may_not_announce_decides_all_the_same_and_is_told_of(
    make: Make, own_server: servers.Server, caplog: pytest.LogCaptureFixture
):
    own_server.client.execute_command("ACL", "SETUSER", "ann", "on", ">secret", "~*", "+@all", "-zadd")
    instance = make(f"redis://ann:secret@127.0.0.1:{own_server.port}/0", "2/minute")
    assert [instance.take().source for _ in range(3)] == ["store"] * 3
    assert instance.take("b").source == "store"
    told = [record for record in caplog.records if getattr(record, "code", "") == "unknown-fleet"]
    assert len(told) == 1
    assert "add +" in told[0].getMessage()  # Redis 7.0 does not say which command it was
    assert not own_server.client.exists(f"sluicegate:{MEMBERS}")


@pytest.mark.parametrize("missing", ["zadd", "expire", "zremrangebyscore", "zrangebyscore", "zcard"])
def test_a_refused_announcement_leaves_no_key_for_ever(make: Make, own_server: servers.Server, missing: str):
    own_server.client.execute_command("ACL", "SETUSER", "ann", "on", ">secret", "~*", "+@all", f"-{missing}")
    instance = make(f"redis://ann:secret@127.0.0.1:{own_server.port}/0", "2/minute")
    assert instance.take().source == "store"
    assert own_server.client.ttl(f"sluicegate:{MEMBERS}") != -1


# Shares


@of_each_kind
def test_cut_off_together_a_fleet_allows_no_more_than_the_limit(
    make: Make, own_server: servers.Server, often: None, policy
):
    fleet = [make(own_server.url, policy) for _ in range(4)]
    for instance in fleet * 2:
        instance.take("warm")
    assert sizes(*fleet) == [4] * 4
    own_server.kill()
    assert [instance.allowed(9) for instance in fleet] == [3, 3, 3, 3]


def test_with_fewer_units_than_instances_some_have_one_and_all_together_no_more(
    make: Make, own_server: servers.Server, often: None
):
    fleet = [make(own_server.url, SlidingWindow(2, window=600, name="n")) for _ in range(5)]
    for instance in fleet * 2:
        instance.take(f"warm-{id(instance)}")
    own_server.kill()
    for key in "abc":
        assert sorted(instance.allowed(2, key) for instance in fleet) == [0, 0, 0, 1, 1]


def test_what_the_fleet_has_used_is_taken_off_before_the_limit_is_shared(
    make: Make, own_server: servers.Server, often: None
):
    policy = SlidingWindow(12, window=600, name="n")
    one, other = (make(own_server.url, policy) for _ in range(2))
    for instance in (one, other, one):
        instance.take("warm")
    assert one.allowed(6) + other.allowed(1) == 7
    one.peek()  # a peek teaches nothing
    own_server.kill()
    assert one.allowed(12) == 3  # 6 of 12 were used when it last asked: half of that is its own
    assert other.allowed(12) == 2  # 7 of 12, rounded up
    assert 7 + 3 + 2 <= 12


def test_a_fixed_share_counts_whether_or_not_the_fleet_is_known(make: Make, own_server: servers.Server):
    policy = SlidingWindow(10, window=600, name="n")
    known, unknown = make(own_server.url, policy, share=0.3), make("redis://127.0.0.1:1/0", policy, share=0.3)
    known.take("warm")
    own_server.kill()
    assert [known.allowed(9), unknown.allowed(9)] == [3, 3]


def test_an_instance_that_never_reached_the_store_allows_the_whole_limit_and_says_so_once(
    make: Make, caplog: pytest.LogCaptureFixture
):
    instance = make("redis://127.0.0.1:1/0", "4/minute")
    assert instance.allowed(9) == 4
    told = [record.getMessage() for record in caplog.records if "whole limit" in record.getMessage()]
    assert len(told) == 1


def test_a_cost_above_the_share_waits_for_the_store_and_not_for_ever(
    make: Make, own_server: servers.Server, often: None
):
    fleet = [make(own_server.url, SlidingWindow(12, window=600, name="n")) for _ in range(4)]
    for instance in fleet * 2:
        instance.take("warm")
    own_server.kill()
    denied = fleet[0].take("a", 4)
    assert not denied.allowed
    assert 0 < denied.retry_after <= 1.1


# What is owed


@pytest.mark.slow
@of_each_kind
def test_what_was_allowed_meanwhile_is_charged_once_the_store_is_back(make: Make, own_server: servers.Server, policy):
    instance, other = (make(own_server.url, policy) for _ in range(2))
    other.take("warm")
    instance.take("warm")
    own_server.freeze()
    assert instance.allowed(3, "a") + instance.allowed(2, "b") == 5
    instance.fail()
    assert instance.allowed(2, "c") == 2
    own_server.thaw()
    instance.recover()
    assert other.peek("c").remaining == 10
    # The calls that opened the breaker have an unknown outcome: they may have been counted when the server went on.
    assert 12 - 5 <= other.peek("a").remaining + other.peek("b").remaining - 12 <= 12


def test_what_is_owed_rides_with_the_keys_first_decision_and_is_charged_once(
    make: Make, own_server: servers.Server, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Local, "any_owed", lambda *_: [])  # no sweep
    with Proxy(own_server.port) as proxy:
        instance = make(f"redis://127.0.0.1:{proxy.port}/0", SlidingWindow(12, window=600, name="n"))
        instance.take("a")
        own_server.kill()
        instance.fail()
        assert instance.allowed(4) == 4
        own_server.launch()
        until(instance, lambda: not instance.health.is_open)
        assert instance.store._local.owes
        before = proxy.sent.count(b"EVALSHA")
        assert instance.take("a").remaining == 12 - 5  # the server lost the first one
        assert proxy.sent.count(b"EVALSHA") - before <= 2  # one call, and perhaps an announcement
        assert instance.take("a").remaining == 12 - 6
        assert "a" not in {key for _, key in instance.store._local._owed}


def test_owed_charges_go_in_though_the_key_is_full_and_later_requests_wait_for_them(
    make: Make, own_server: servers.Server
):
    policy = SlidingWindow(12, window=600, name="n")
    one, other = (make(own_server.url, policy) for _ in range(2))
    one.take("warm")
    other.take("warm")
    one.take("warm")
    own_server.freeze()
    one.fail()
    assert one.allowed(9) > 0
    own_server.thaw()
    other.recover()
    other.allowed(12)
    one.recover()
    until(one, lambda: other.peek().remaining == 0)
    assert not one.take()
    assert not other.take()


def test_a_call_whose_reply_was_lost_is_not_charged_twice(make: Make, server: servers.Server, prefix: str):
    with Proxy(server.port) as proxy:
        instance = make(f"redis://127.0.0.1:{proxy.port}/0", SlidingWindow(12, window=600, name="n"), prefix=prefix)
        instance.take()
        proxy.cut_reply = 1
        assert instance.take().source == "fallback"
        assert not instance.store._local.owes
        assert instance.take().remaining == 9


def test_what_the_server_refuses_to_take_back_is_kept_until_it_takes_it(make: Make, own_server: servers.Server):
    instance = make(own_server.url, SlidingWindow(12, window=600, name="n"))
    instance.take("warm")
    own_server.client.config_set("maxmemory", 1)
    instance.fail()
    assert instance.allowed(3) == 3
    instance.rest(0.3)
    assert instance.store._local.owes
    own_server.client.config_set("maxmemory", 0)
    instance.recover()
    assert instance.peek().remaining == 9


def test_what_rode_with_a_decision_that_was_refused_is_still_owed(make: Make, own_server: servers.Server):
    instance = make(own_server.url, SlidingWindow(12, window=600, name="n"))
    instance.take("warm")
    own_server.client.config_set("maxmemory", 1)
    assert instance.allowed(2) == 2  # the second takes what the first one owes along
    own_server.client.config_set("maxmemory", 0)
    assert not instance.health.is_open
    assert instance.take().remaining == 9


def test_a_sweep_of_many_counters_charges_each_once(make: Make, own_server: servers.Server):
    instance = make(own_server.url, SlidingWindow(12, window=600, name="n"))
    instance.take("warm")
    own_server.client.config_set("maxmemory", 1)
    instance.fail()
    keys = [f"key-{n}" for n in range(700)]
    for key in keys:
        instance.take(key, 2)
    own_server.client.config_set("maxmemory", 0)
    instance.recover()
    assert {instance.peek(key).remaining for key in keys} == {10}


def test_a_counter_that_was_spoilt_meanwhile_is_not_sent_again_and_again(make: Make, own_server: servers.Server):
    policy = SlidingWindow(12, window=600, name="n")
    instance = make(own_server.url, policy, on_outage="local")
    instance.take("a")
    own_server.client.config_set("maxmemory", 1)
    instance.fail()
    instance.take("a")
    own_server.client.config_set("maxmemory", 0)
    (key,) = [key for key in servers.counters(own_server, "sluicegate:") if b"{a}" in key]
    own_server.client.delete(key)
    own_server.client.set(key, "something else")
    instance.recover()


def test_forget_drops_what_is_owed(make: Make, own_server: servers.Server):
    instance = make(own_server.url, SlidingWindow(12, window=600, name="n"))
    instance.take("warm")
    own_server.client.config_set("maxmemory", 1)
    instance.fail()
    instance.allowed(3)
    with pytest.raises(StoreUnavailable):
        instance.forget()
    own_server.client.config_set("maxmemory", 0)
    instance.recover()
    assert instance.peek().remaining == 12


# Lost state


def test_a_flush_is_noticed_with_the_next_announcement(
    make: Make, own_server: servers.Server, often: None, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.WARNING, "sluicegate")
    policy = SlidingWindow(3, window=600, name="n")
    instance, other = (make(own_server.url, policy) for _ in range(2))
    other.take("warm")
    assert instance.allowed(3) == 3
    own_server.client.flushall()
    instance.take("b")
    assert sizes(instance) == [2]  # the members are lost, too, and the other one has not come back yet
    assert [event.kind for event in instance.events] == ["state-lost"]
    assert instance.health.states_lost == 1
    instance.take("b")
    assert len(instance.events) == 1


@pytest.mark.slow
def test_a_replica_that_takes_the_place_of_its_primary_is_noticed(make: Make, own_server: servers.Server):
    with (
        servers.running(own_server.kind, "--replicaof", "127.0.0.1", str(own_server.port)) as replica,
        Proxy(own_server.port) as proxy,
    ):
        instance = make(f"redis://127.0.0.1:{proxy.port}/0", SlidingWindow(9, window=600, name="n"))
        instance.take()
        until(instance, lambda: replica.client.info("replication")["master_link_status"] == "up")
        until(instance, lambda: replica.client.dbsize() >= 2)
        own_server.kill()
        instance.fail()
        replica.client.replicaof("NO", "ONE")
        proxy._upstream = replica.port
        instance.recover()
        until(instance, lambda: len(instance.events) > 2)
        assert [event.kind for event in instance.events][2:] == ["failed-over"]
        assert instance.take().remaining <= 7
