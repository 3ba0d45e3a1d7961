"""A server that is gone, hangs or refuses: what callers get, when they get it, and what happens afterwards (G9)."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
from weakref import ref

import pytest

import servers
from machine import awake
from outages.conftest import Instance, Make, until
from sluicegate import StoreEvent, StoreTimeout, StoreUnavailable
from sluicegate.proof.proxy import Proxy

AWAY = "redis://:hunter2@127.0.0.1:1/0"  # nobody listens there
MARGIN = 0.3
"""Seconds by which a caller may be late, by the clock that stands still while the machine is busy."""


@pytest.mark.parametrize(
    ("mode", "answers"), [("local", [True, True, False]), ("open", [True] * 3), ("closed", [False] * 3)]
)
def test_a_server_that_was_never_there_is_answered_for_as_on_outage_says(make: Make, mode: str, answers: list[bool]):
    limiter = make(AWAY, "2/minute", on_outage=mode)
    decisions = [limiter.take() for _ in range(3)]
    assert [decision.allowed for decision in decisions] == answers
    assert {decision.source for decision in decisions} == {"fallback"}
    assert all(0 <= decision.retry_after <= 60 for decision in decisions)
    statistics = limiter.limiter.statistics()
    assert (statistics.errors, statistics.allowed + statistics.denied) == (0, 3)


def test_under_raise_the_error_comes_at_once_while_the_breaker_is_open(make: Make):
    limiter = make(AWAY, on_outage="raise")
    for _ in range(3):
        with pytest.raises(StoreUnavailable, match="nothing was taken") as caught:
            limiter.take()
        assert caught.value.reason == "unreachable"
    assert limiter.health.is_open
    with pytest.raises(StoreUnavailable, match=r"^the store is down, nothing was taken: ") as caught:
        limiter.take()
    assert caught.value.reason == "unreachable"
    assert limiter.limiter.statistics().errors == 4


def test_a_frozen_server_costs_few_callers_their_deadline_and_the_others_nothing(
    make: Make, own_server: servers.Server
):
    limiter = make(own_server.url, "100/minute", deadline=0.1)
    assert limiter.take().source == "store"
    own_server.freeze()
    try:
        took = []
        for _ in range(10):
            began_at = awake()
            assert limiter.take().source == "fallback"
            took.append(awake() - began_at)
        assert max(took) < 0.1 + MARGIN
        assert limiter.health.is_open
        assert limiter.limiter.statistics().mode == "local"
        began_at = awake()
        for _ in range(1000):
            limiter.take("b")
        assert awake() - began_at < MARGIN
    finally:
        own_server.thaw()
    limiter.recover()
    assert limiter.take().source == "store"
    assert [event.kind for event in limiter.events] == ["down", "up"]
    assert limiter.events[0].reason == "timeout"
    assert limiter.events[1].seconds > 0
    seconds = limiter.limiter.statistics().seconds
    assert seconds["store"] > 0
    assert seconds["local"] > 0


def test_a_server_that_is_killed_and_started_anew_is_used_again_and_its_loss_is_noticed(
    make: Make, own_server: servers.Server, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.WARNING, "sluicegate")
    limiter = make(own_server.url, "5/minute")
    assert limiter.allowed(3) == 3
    own_server.kill()
    assert limiter.allowed(9) == 2  # it goes on where the store left off
    own_server.launch()
    limiter.recover()
    assert limiter.take().source == "store"
    assert [event.kind for event in limiter.events] == ["down", "up", "state-lost"]
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 3
    assert told[0].startswith("the store is down, ")
    assert told[1].startswith("the store is up again, after ")
    assert told[2] == "the store has lost all counters: every limit is fresh"
    assert not any("127.0.0.1" in line for line in told)


def test_a_server_that_is_restarted_with_its_data_has_failed_over(make: Make, own_server: servers.Server):
    limiter = make(own_server.url)
    limiter.take()
    own_server.client.save()
    own_server.kill()
    limiter.fail()
    own_server.launch()
    limiter.recover()
    until(limiter, lambda: len(limiter.events) > 2)
    assert [event.kind for event in limiter.events][2:] == ["failed-over"]
    assert limiter.take().remaining == 3


@pytest.mark.parametrize(
    ("refusal", "undo", "reason"),
    [
        (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0"), "out-of-memory"),
        (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE"), "replica"),
        (("CONFIG", "SET", "min-replicas-to-write", "1"), ("CONFIG", "SET", "min-replicas-to-write", "0"), None),
    ],
    ids=["full", "replica", "too few replicas"],
)
@pytest.mark.slow
def test_a_server_that_refuses_writes_is_down_until_it_takes_them_again(
    make: Make, own_server: servers.Server, refusal: tuple[str, ...], undo: tuple[str, ...], reason: str | None
):
    limiter = make(own_server.url)
    assert limiter.take().source == "store"
    own_server.client.execute_command(*refusal)
    assert limiter.take().source == "fallback"
    limiter.fail()
    assert limiter.events == [StoreEvent("down", reason or limiter.events[0].reason)]
    limiter.rest(0.3)
    assert limiter.health.is_open  # though it answers
    own_server.client.execute_command(*undo)
    limiter.recover()
    assert limiter.take().source == "store"


@pytest.mark.slow
def test_a_slow_server_that_cannot_answer_in_time_stays_down_until_it_is_quick(
    make: Make, server: servers.Server, prefix: str
):
    with Proxy(server.port) as proxy:
        limiter = make(f"redis://127.0.0.1:{proxy.port}/0", prefix=prefix, deadline=0.1, timeout=2)
        until(limiter, lambda: limiter.take().source == "store")
        proxy.delay = 0.25
        limiter.fail()
        limiter.rest(1)
        assert [event.kind for event in limiter.events] == ["down"]
        proxy.delay = 0
        limiter.recover()
        assert limiter.take().source == "store"


@pytest.mark.slow
def test_a_distant_server_is_connected_to_though_that_takes_longer_than_a_deadline(
    make: Make, own_server: servers.Server
):
    own_server.client.execute_command("ACL", "SETUSER", "ann", "on", ">secret", "~*", "+@all")
    with Proxy(own_server.port) as proxy:
        proxy.delay = 0.12  # to be connected takes two round trips, a decision one
        limiter = make(f"redis://ann:secret@127.0.0.1:{proxy.port}/0", deadline=0.2, timeout=2)
        until(limiter, lambda: limiter.take("x").source == "store")


def test_one_failed_call_is_answered_locally_and_opens_nothing(make: Make, server: servers.Server, prefix: str):
    with Proxy(server.port) as proxy:
        limiter = make(f"redis://127.0.0.1:{proxy.port}/0", "5/minute", prefix=prefix)
        assert limiter.take().source == "store"
        proxy.cut_reply = 1
        assert limiter.take().source == "fallback"
        assert limiter.take().source == "store"
        assert limiter.events == []


# Errors of configuration


@pytest.mark.parametrize("mode", ["local", "open", "closed"])
def test_an_error_of_configuration_is_raised_whatever_on_outage_says_until_the_store_has_answered(
    make: Make, own_server: servers.Server, mode: str
):
    own_server.client.acl_setuser("ann", enabled=True, passwords=["+right"], keys=["*"], categories=["+@all"])
    limiter = make(f"redis://ann:wrong@127.0.0.1:{own_server.port}/0", on_outage=mode)
    for _ in range(5):
        with pytest.raises(StoreUnavailable) as caught:
            limiter.take()
        assert (caught.value.reason, caught.value.lasts) == ("wrong-password", True)
    own_server.client.execute_command("ACL", "SETUSER", "ann", ">wrong")
    limiter.recover()
    assert limiter.take().source == "store"
    own_server.client.execute_command("ACL", "SETUSER", "ann", "<wrong")
    own_server.client.execute_command("CLIENT", "KILL", "USER", "ann")
    assert {limiter.take().source for _ in range(5)} == {"fallback"}


def test_a_key_of_another_type_fails_over_alone_once_the_store_has_answered(
    make: Make, own_server: servers.Server, caplog: pytest.LogCaptureFixture
):
    limiter = make(own_server.url)
    limiter.take("a")
    (key,) = servers.counters(own_server, "sluicegate:")
    own_server.client.set(key, "something else")
    assert {limiter.take("a").source for _ in range(5)} == {"fallback"}
    assert limiter.take("b").source == "store"
    assert limiter.events == []
    assert len([record for record in caplog.records if "other-data" in record.getMessage()]) == 1


# forget and block


def test_forget_and_block_raise_while_the_store_is_down_and_are_done_here(make: Make, own_server: servers.Server):
    limiter = make(own_server.url, "2/minute")
    limiter.take("b")
    own_server.kill()
    assert limiter.allowed(3) == 2
    with pytest.raises(StoreUnavailable, match="nothing was dropped"):
        limiter.forget()
    assert limiter.allowed(3) == 2
    with pytest.raises(StoreUnavailable, match="nothing was changed"):
        limiter.block("b", 60)
    assert not limiter.take("b")
    own_server.launch()
    limiter.recover()
    assert limiter.take("b").source == "store"


# What is left behind


@pytest.mark.slow
def test_after_many_outages_nothing_is_left_behind(make: Make, own_server: servers.Server, quiet: None):
    limiter = make(own_server.url, "100000/minute")
    before = None
    for n in range(6):
        own_server.freeze()
        limiter.fail()
        own_server.thaw()
        limiter.recover()
        assert limiter.take().source == "store"
        limiter.rest(0.1)
        gc.collect()
        state = connections(own_server), threading.active_count()
        if n == 1:
            before = state
    assert state <= (before[0] + 1, before[1])


def connections(server: servers.Server) -> int:
    return len([each for each in server.client.client_list() if each["cmd"] != "client|list"])


def test_a_store_that_is_collected_during_an_outage_is_not_probed_any_more(form: str):
    instance = Instance(form, AWAY)
    instance.fail()
    runner, health, store = instance.runner, instance.health, ref(instance.store)
    del instance
    while store() is not None:  # it is held by a probe that is running
        runner.run(asyncio.sleep(0.05)) if runner else time.sleep(0.05)
        gc.collect()
    last = health._next_probe_at
    while time.monotonic() < last + 0.2:
        runner.run(asyncio.sleep(0.05)) if runner else time.sleep(0.05)
    assert health._next_probe_at == last
    if runner:
        runner.close()


def test_a_store_that_is_closed_during_an_outage_is_not_probed_any_more(form: str, quiet: None):
    instance = Instance(form, AWAY)
    instance.fail()
    instance.close()
    assert not instance.health.is_open
    assert instance.limiter.statistics().mode == "store"


def test_a_reply_that_was_lost_is_an_unknown_outcome_under_raise(make: Make, server: servers.Server, prefix: str):
    with Proxy(server.port) as proxy:
        limiter = make(f"redis://127.0.0.1:{proxy.port}/0", prefix=prefix, on_outage="raise")
        limiter.take()
        proxy.cut_reply = 1
        with pytest.raises(StoreTimeout, match="may have been taken"):
            limiter.take()
