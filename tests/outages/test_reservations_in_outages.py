"""Reservations, leases and charges while the store is down, and between down and up: as ``on_outage`` says."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

import pytest

import servers
from limiter.reserving import AnyReservation, entered, renew_now
from outages.conftest import Instance, Make, until
from sluicegate import Concurrency, SlidingWindow, StoreError, StoreTimeout, StoreUnavailable

AWAY = "redis://127.0.0.1:1/0"  # nobody listens there
FIVE = SlidingWindow(5, window=3600, name="five")
JOBS = Concurrency(2, ttl=3600, name="jobs")
PATIENT = {"deadline": 20, "timeout": 20}
"""Where no server hangs, a busy machine is not to be mistaken for one that does."""

each_mode = pytest.mark.parametrize("mode", ["local", "open", "closed", "raise"])
one_that_answers_and_one_that_raises = pytest.mark.parametrize("mode", ["local", "raise"])


class Failed(Exception): ...


def reserving(instance: Instance, cost: Any = 1, **options: Any) -> AbstractContextManager[AnyReservation]:
    return entered(instance.limiter.reserve("a", cost, **options), instance.run)


def charge(instance: Instance, cost: Any) -> None:
    instance.run(instance.limiter.charge("a", cost))


@contextmanager
def refusing(server: servers.Server) -> Iterator[None]:
    """Let a server refuse to write, and lose nothing."""
    server.client.config_set("maxmemory", 1)
    try:
        yield
    finally:
        server.client.config_set("maxmemory", 0)


@contextmanager
def refusing_later(server: servers.Server) -> Iterator[Any]:
    """Give a function that lets a server refuse to write, until the end."""
    try:
        yield lambda: server.client.config_set("maxmemory", 1)
    finally:
        server.client.config_set("maxmemory", 0)


def unsettled(instance: Instance) -> int:
    return instance.limiter.statistics().unsettled


# Reservations


@pytest.mark.parametrize(
    ("mode", "answers"), [("local", [True, True, False]), ("open", [True] * 3), ("closed", [False] * 3)]
)
def test_while_the_store_is_down_a_reservation_is_answered_as_on_outage_says(
    make: Make, mode: str, answers: list[bool]
):
    instance = make(AWAY, FIVE, on_outage=mode)
    found = []
    for _ in range(3):
        with reserving(instance, 4) as r:
            found.append(bool(r))
            assert r.decision.source == "fallback"
            r.settle(1 if found == [True] else 4)
    assert found == answers
    assert unsettled(instance) == 0


def test_under_raise_a_block_is_not_begun_without_the_store(make: Make):
    instance = make(AWAY, FIVE, on_outage="raise")
    with pytest.raises(StoreUnavailable, match="nothing was taken"), reserving(instance):
        pytest.fail("the block ran")
    assert unsettled(instance) == 0


@each_mode
def test_what_the_store_decided_and_cannot_be_told_leaves_the_estimate_and_is_counted(
    make: Make, own_server: servers.Server, mode: str
):
    instance = make(own_server.url, FIVE, on_outage=mode, **PATIENT)
    raised: list[StoreError] = []
    with refusing_later(own_server) as refuse:
        try:
            with reserving(instance, 4) as r:
                assert r.decision.source == "store"
                refuse()
                r.settle(1)
        except StoreError as error:
            raised.append(error)
    assert [str(error).partition("nothing was ")[2][:7] for error in raised] == (["settled"] if mode == "raise" else [])
    assert unsettled(instance) == 1
    instance.recover()
    assert instance.peek().remaining == 1


@one_that_answers_and_one_that_raises
def test_what_the_block_raises_is_raised_whatever_becomes_of_the_store(
    make: Make, own_server: servers.Server, mode: str
):
    instance = make(own_server.url, FIVE, on_outage=mode, **PATIENT)
    error = Failed()

    def fail() -> None:
        with refusing_later(own_server) as refuse, reserving(instance, 4) as r:
            refuse()
            r.settle(1)
            raise error

    with pytest.raises(Failed) as caught:
        fail()
    assert caught.value is error
    assert unsettled(instance) == 1


def test_a_block_that_noted_nothing_has_nothing_to_send(make: Make, own_server: servers.Server):
    instance = make(own_server.url, FIVE, on_outage="raise", **PATIENT)
    with refusing_later(own_server) as refuse, reserving(instance, 4):
        refuse()
    assert unsettled(instance) == 0


@pytest.mark.slow
@one_that_answers_and_one_that_raises
def test_a_server_that_hangs_keeps_nobody_in_its_block_and_the_settling_counts_as_not_done(
    make: Make, own_server: servers.Server, mode: str
):
    instance = make(own_server.url, FIVE, on_outage=mode, deadline=2, timeout=4)
    raised = None
    try:
        with reserving(instance, 4) as r:
            own_server.freeze()
            r.settle(1)
    except StoreTimeout as error:
        raised = error
    finally:
        own_server.thaw()
    assert (raised is not None) == (mode == "raise")
    assert unsettled(instance) == 1
    instance.recover()
    assert instance.peek().remaining in (1, 4)  # it was sent, so it may have been done


@pytest.mark.parametrize(("mode", "left"), [("local", 1), ("open", 5)])
def test_what_an_outage_decided_is_settled_here_and_the_estimate_is_owed_to_the_store(
    make: Make, own_server: servers.Server, mode: str, left: int
):
    instance = make(own_server.url, FIVE, on_outage=mode, **PATIENT)
    instance.take("warm")
    own_server.kill()
    instance.fail()
    with reserving(instance, 4) as r:
        assert (bool(r), r.decision.source) == (True, "fallback")
        own_server.launch()
        instance.recover()
        assert instance.peek().remaining == left
        r.settle(1)
    assert instance.peek().remaining == left
    assert unsettled(instance) == 0


def test_what_an_outage_decided_and_settled_in_it_is_free_here_at_once(make: Make, own_server: servers.Server):
    instance = make(own_server.url, FIVE, **PATIENT)
    instance.take("warm")
    own_server.kill()
    instance.fail()
    with reserving(instance, 4) as r:
        r.settle(1)
    assert instance.peek().remaining == 4
    with reserving(instance, 4, charge_when="success") as r, suppress(Failed):
        assert r
    assert instance.peek().remaining == 0
    own_server.launch()
    instance.recover()
    assert instance.peek().remaining == 0  # both estimates were owed


# Leases


@pytest.mark.parametrize("mode", ["local", "open"])
def test_a_lease_of_an_outage_is_held_here_alone(make: Make, own_server: servers.Server, mode: str):
    instance = make(own_server.url, JOBS, FIVE, on_outage=mode, **PATIENT)
    with reserving(instance) as warm:
        assert warm
    own_server.kill()
    until(instance, lambda: instance.health.is_open, lambda: instance.peek("nobody"))
    told: list[int] = []
    with reserving(instance, {"jobs": 2}, on_lost=lambda: told.append(1)) as r:
        assert r
        with reserving(instance) as other:
            assert bool(other) == (mode == "open")
        if mode == "local":
            renew_now(instance.limiter)
            until(instance, lambda: all(held.renew_at > 0 for held in instance.limiter._renewing._held.values()))
        own_server.launch()
        instance.recover()
        if mode == "local":
            renew_now(instance.limiter)
            until(instance, lambda: all(held.renew_at > 0 for held in instance.limiter._renewing._held.values()))
        assert not r.lost
        assert instance.peek().decisions[0].remaining == 2  # the store knows nothing of it
    assert told == []
    assert unsettled(instance) == 0
    own_server.kill()
    until(instance, lambda: instance.health.is_open, lambda: instance.peek("nobody"))
    with reserving(instance, {"jobs": 2}) as r:
        assert r  # what was held here was released here


def test_a_lease_is_not_lost_in_an_outage_that_is_shorter_than_its_ttl(make: Make, own_server: servers.Server):
    told: list[int] = []
    instance = make(own_server.url, JOBS, **PATIENT)
    with reserving(instance, on_lost=lambda: told.append(1)) as r:
        (held,) = instance.limiter._renewing._held.values()
        with refusing(own_server):
            renew_now(instance.limiter)
            until(instance, lambda: held.renew_at > 0)
            assert held.renew_at < held.until
        instance.recover()
        until_before = held.until
        renew_now(instance.limiter)
        until(instance, lambda: held.until > until_before)
        assert not r.lost
    assert told == []
    assert instance.peek().remaining == 2
    assert instance.limiter.statistics().leases_lost == 0


@pytest.mark.slow
@each_mode
def test_a_lease_is_lost_in_an_outage_that_outlasts_its_ttl_and_its_holder_is_told(
    make: Make, own_server: servers.Server, mode: str
):
    told: list[int] = []
    instance = make(own_server.url, Concurrency(2, ttl=0.5), on_outage=mode, **PATIENT)
    raised = None
    try:
        with reserving(instance, on_lost=lambda: told.append(threading.get_ident())) as r:
            own_server.kill()
            until(instance, lambda: told)
            assert r.lost
    except StoreError as error:
        raised = error
    assert (raised is not None) == (mode == "raise")
    assert len(told) == 1
    assert r.lost
    statistics = instance.limiter.statistics()
    assert (statistics.leases_lost, statistics.unsettled) == (1, 1)


def test_a_lease_that_a_server_lost_with_its_data_is_lost_for_its_holder(make: Make, own_server: servers.Server):
    told: list[int] = []
    instance = make(own_server.url, JOBS, **PATIENT)
    with reserving(instance, on_lost=lambda: told.append(1)) as r:
        own_server.kill()
        own_server.launch()
        assert not r.lost
        until(instance, lambda: told, lambda: renew_now(instance.limiter))
        assert r.lost
    assert told == [1]
    assert instance.peek().remaining == 2


# Charges


def test_under_local_what_is_charged_in_an_outage_counts_here_and_then_on_the_store(
    make: Make, own_server: servers.Server
):
    instance = make(own_server.url, FIVE, SlidingWindow(100, window=3600, name="many"), **PATIENT)
    instance.take("warm")
    own_server.kill()
    instance.fail()
    charge(instance, {"five": 12, "many": 40})
    assert [part.remaining for part in instance.peek().decisions] == [0, 60]
    assert not instance.take().allowed
    own_server.launch()
    instance.recover()
    assert [part.remaining for part in instance.peek().decisions] == [0, 60]
    assert instance.peek().source == "store"
    statistics = instance.limiter.statistics()
    assert (statistics.unsettled, statistics.saturated) == (0, 0)
    charge(instance, {"many": 5})
    assert instance.peek().decisions[1].remaining == 55


@pytest.mark.parametrize("mode", ["open", "closed", "raise"])
def test_under_the_other_policies_what_is_charged_in_an_outage_is_lost_and_counted(
    make: Make, own_server: servers.Server, mode: str
):
    instance = make(own_server.url, FIVE, on_outage=mode, **PATIENT)
    charge(instance, 1)
    with refusing(own_server):
        for _ in range(2):
            if mode == "raise":
                with pytest.raises(StoreUnavailable, match="nothing was taken"):
                    charge(instance, 3)
            else:
                charge(instance, 3)
    assert unsettled(instance) == 2
    assert instance.limiter.statistics().saturated == 0
    instance.recover()
    assert instance.peek().remaining == 4
