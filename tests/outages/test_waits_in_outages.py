"""What a wait does while the store is down, by ``on_outage``, and when the store is there again (G9)."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any

import pytest

import servers
from machine import awake
from outages.conftest import Instance, Make, until
from sluicegate import Decision, NotAllowed, SlidingWindow, StoreError, StoreUnavailable

AWAY = "redis://127.0.0.1:1/0"  # nobody listens there
POLICY = SlidingWindow(2, window=0.5, name="n")
MARGIN = 0.3
"""Seconds by which a caller may be late, by the clock that stands still while the machine is busy."""


class Waiter:
    """A thread or a task of an instance that waits."""

    def __init__(self, instance: Instance, *args: Any, **options: Any) -> None:
        self._instance = instance
        self._outcome: Future[Any] = Future()
        if instance.runner:
            self.task = instance.runner.get_loop().create_task(self._await(args, options))
        else:
            threading.Thread(target=self._call, args=(args, options), daemon=True).start()

    @property
    def is_done(self) -> bool:
        return self._outcome.done()

    def end(self) -> Any:
        """Return what it was answered. Raises what it got in place of that."""
        until(self._instance, self._outcome.done)
        return self._outcome.result()

    def _call(self, args: Any, options: Any) -> None:
        try:
            self._outcome.set_result(self._instance.limiter.wait(*args, **options))
        except BaseException as error:  # noqa: BLE001 - for the test to judge
            self._outcome.set_exception(error)

    async def _await(self, args: Any, options: Any) -> None:
        try:
            self._outcome.set_result(await self._instance.limiter.wait(*args, **options))
        except BaseException as error:  # noqa: BLE001
            self._outcome.set_exception(error)


def line_of_three(instance: Instance) -> list[Waiter]:
    """Take all there is, and let three wait for more."""
    assert instance.allowed(2) == 2
    waiters = [Waiter(instance, "a") for _ in range(3)]
    until(instance, lambda: instance.limiter.statistics().waiting == 3)
    return waiters


def test_under_local_a_wait_takes_from_the_share_of_this_instance(make: Make):
    instance = make(AWAY, "2/minute", on_outage="local")
    decisions = [instance.run(instance.limiter.wait("a", timeout=1)) for _ in range(3)]
    assert [decision.allowed for decision in decisions] == [True, True, False]
    assert {decision.source for decision in decisions} == {"fallback"}
    assert 50 < decisions[2].retry_after <= 60
    later = [Waiter(instance, "b", 2), Waiter(instance, "b")]
    assert later[0].end().allowed
    until(instance, lambda: instance.limiter.statistics().waiting == 1)
    instance.limiter._plan.forget("b")  # as `forget` does here, before it fails for want of the store
    instance.limiter._waiting.look_again_in_all()
    assert later[1].end().source == "fallback"


def test_under_open_nobody_waits(make: Make):
    instance = make(AWAY, "2/minute", on_outage="open")
    decisions = [instance.run(instance.limiter.wait("a")) for _ in range(5)]
    assert {(decision.allowed, decision.source) for decision in decisions} == {(True, "fallback")}


def test_under_closed_a_wait_ends_with_its_time(make: Make):
    instance = make(AWAY, "2/minute", on_outage="closed")
    for timeout in (0, 0.2):
        decision = instance.run(instance.limiter.wait("a", timeout=timeout))
        assert (decision.allowed, decision.source) == (False, "fallback")
        assert 0 < decision.retry_after <= 1
    assert instance.limiter.statistics().waiting == 0


def test_under_raise_the_error_is_raised(make: Make):
    instance = make(AWAY, "2/minute", on_outage="raise")
    for _ in range(4):
        with pytest.raises(StoreUnavailable, match="nothing was taken"):
            instance.run(instance.limiter.wait("a", timeout=5))
    assert instance.limiter.statistics().errors == 4
    assert not instance.limiter._waiting.lines


@pytest.mark.parametrize("mode", ["local", "open", "closed"])
def test_a_function_that_waits_runs_as_the_policy_says(make: Make, mode: str):
    instance = make(AWAY, "2/minute", on_outage=mode)
    ran: list[int] = []
    denied: list[Decision] = []
    if instance.runner:

        @instance.limiter.limited("a", timeout=0.1)
        async def run(number: int) -> None:
            ran.append(number)
    else:

        @instance.limiter.limited("a", timeout=0.1)
        def run(number: int) -> None:
            ran.append(number)

    for number in range(3):
        try:
            instance.run(run(number))
        except NotAllowed as error:
            denied.append(error.decision)
    assert {decision.source for decision in denied} <= {"fallback"}
    assert len(ran) == {"local": 2, "open": 3, "closed": 0}[mode]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["local", "open"])
def test_a_line_is_served_without_the_store_when_it_goes_down(make: Make, own_server: servers.Server, mode: str):
    instance = make(own_server.url, POLICY, on_outage=mode)
    waiters = line_of_three(instance)
    own_server.kill()
    decisions = [waiter.end() for waiter in waiters]
    assert {(decision.allowed, decision.source) for decision in decisions} == {(True, "fallback")}
    assert instance.limiter.statistics().waiting == 0


@pytest.mark.slow
def test_under_raise_all_that_wait_get_the_error_when_the_store_goes_down(make: Make, own_server: servers.Server):
    instance = make(own_server.url, POLICY, on_outage="raise")
    waiters = line_of_three(instance)
    own_server.kill()
    for waiter in waiters:
        with pytest.raises(StoreError):
            waiter.end()
    assert instance.limiter.statistics().waiting == 0


@pytest.mark.slow
def test_under_closed_a_line_waits_for_the_store_to_be_there_again(make: Make, own_server: servers.Server):
    instance = make(own_server.url, POLICY, on_outage="closed")
    waiters = line_of_three(instance)
    own_server.kill()
    until(instance, lambda: instance.health.is_open)
    late = Waiter(instance, "a", timeout=0)
    assert not late.end().allowed
    probes = instance.health.next_probe_us
    until(instance, lambda: instance.health.next_probe_us > probes)  # it was probed again
    assert not any(waiter.is_done for waiter in waiters)
    own_server.launch()
    decisions = [waiter.end() for waiter in waiters]
    assert {(decision.allowed, decision.source) for decision in decisions} == {(True, "store")}
    assert instance.limiter.statistics().waiting == 0


@pytest.mark.slow
def test_after_an_outage_a_line_is_served_by_the_store_again(make: Make, own_server: servers.Server):
    instance = make(own_server.url, POLICY, on_outage="local")
    instance.take("warm")
    own_server.kill()
    instance.fail()
    assert Waiter(instance, "a", 2).end().source == "fallback"
    waiting = [Waiter(instance, "a") for _ in range(2)]
    own_server.launch()
    instance.recover()
    assert all(waiter.end().allowed for waiter in waiting)
    assert Waiter(instance, "a").end().source == "store"


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["local", "open", "closed", "raise"])
def test_a_frozen_server_holds_up_a_wait_for_its_time_out_and_one_deadline_at_most(
    make: Make, own_server: servers.Server, mode: str
):
    instance = make(own_server.url, SlidingWindow(2, window=600), on_outage=mode, deadline=0.2)
    assert instance.allowed(2) == 2
    own_server.freeze()
    try:
        for _ in range(6):
            began = awake()
            try:
                instance.run(instance.limiter.wait("a", timeout=0.1))
            except StoreError:
                assert mode == "raise"
            assert awake() - began <= 0.1 + 0.2 + MARGIN
        assert instance.limiter.statistics().waiting == 0
    finally:
        own_server.thaw()
