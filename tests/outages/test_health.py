"""The health of a store: when its breaker opens and closes, what it says then, and who is told."""

from __future__ import annotations

import gc
import logging
import threading
import time
import weakref
from itertools import islice

import pytest

from outages.every_algorithm import monotonic, within_time
from sluicegate import StoreEvent, StoreTimeout, StoreUnavailable
from sluicegate._core.errors import StoreError
from sluicegate._stores import health as module
from sluicegate._stores.health import FIRST_DELAY, LAST_DELAY, OPENS_AFTER, Health
from sluicegate.testing import ManualClock

URL = "redis://alice:hunter2@db.example.com:6379/0"


def unavailable(reason: str = "unreachable", *, lasts: bool = False) -> StoreUnavailable:
    """An error of the form that the Redis stores give theirs: the first part names nobody."""
    said = f"the store is {reason}; look after it; nothing was taken: Error 111 connecting to {URL}"
    return StoreUnavailable(said, reason=reason, lasts=lasts)


def lost() -> StoreTimeout:
    return StoreTimeout(f"the store is slow or hangs; the cost may have been taken: {URL}", reason="timeout")


def fail(health: Health, times: int = OPENS_AFTER, error: StoreError | None = None, within: float = 0.5) -> bool:
    """Let calls fail, each begun after the one before. Returns whether the last one opened the breaker."""
    opened = False
    for _ in range(times):
        opened = health.failed(error or unavailable(), health.failures, within)
        if opened:  # as the guard does, once probing has begun
            health.report_down(error or unavailable())
    return opened


class Listener:
    def __init__(self) -> None:
        self.events: list[StoreEvent] = []

    def on_store_event(self, event: StoreEvent) -> None:
        self.events.append(event)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    clock = ManualClock(1000)
    monkeypatch.setattr(module, "time", monotonic(clock))
    return clock


# The breaker


def test_a_new_store_is_taken_for_well_until_the_third_failure_in_a_row():
    health = Health()
    assert not health.is_open
    assert not fail(health, OPENS_AFTER - 1)
    assert not health.is_open
    assert fail(health, 1)
    assert (health.is_open, health.outages, OPENS_AFTER) == (True, 1, 3)


def test_calls_that_fail_at_one_moment_are_one_failure_however_many_they_are():
    health = Health()
    seen = health.failures  # they all began now, on one connection
    opened = [health.failed(unavailable(), seen, 0.5) for _ in range(1000)]
    assert not any(opened)
    assert (health.failures, health.is_open) == (1, False)


def test_a_call_that_began_before_the_last_failure_counts_no_more():
    health = Health()
    early = health.failures
    fail(health, OPENS_AFTER - 1)
    assert not health.failed(unavailable(), early, 0.5)
    assert not health.is_open


def test_a_success_between_failures_starts_over():
    health = Health()
    fail(health, OPENS_AFTER - 1)
    health.answered()
    assert not fail(health, OPENS_AFTER - 1)
    assert fail(health, 1)


def test_a_failure_while_the_breaker_is_open_changes_nothing():
    health = Health()
    fail(health)
    before = health.failures
    assert not fail(health, 5, unavailable("busy"))
    assert (health.failures, health.outages, health.error("nothing was taken").reason) == (before, 1, "unreachable")


def test_a_late_success_does_not_close_an_open_breaker():
    health = Health()
    fail(health)
    health.answered()  # of a call that was sent before
    assert health.is_open


def test_a_probe_that_succeeds_closes_it_and_the_next_failures_are_counted_anew():
    health = Health()
    fail(health)
    health.recovered()
    assert not health.is_open
    assert not fail(health, OPENS_AFTER - 1)
    assert fail(health, 1)
    assert health.outages == 2


def test_reset_closes_it_without_saying_that_the_store_is_up(caplog: pytest.LogCaptureFixture):
    health, listener = Health(), Listener()
    fail(health)
    health.listen(listener)
    caplog.clear()
    health.reset()
    health.reset()
    assert (health.is_open, health.has_answered, listener.events, caplog.records) == (False, False, [], [])
    assert not fail(health, OPENS_AFTER - 1)


def test_whether_it_has_ever_answered_is_remembered_through_outages():
    health = Health()
    fail(health)
    health.recovered()
    assert not health.has_answered  # a probe is no decision
    health.answered()
    assert health.has_answered
    fail(health)
    assert health.has_answered


def test_answers_are_noted_only_while_something_is_unsure():
    health = Health()
    assert health.unsure
    health.answered()
    assert not health.unsure
    fail(health, 1)
    assert health.unsure
    fail(health)
    health.answered()  # not yet: the breaker is open
    assert health.unsure


def test_a_probe_must_be_answered_within_the_shortest_time_out_that_was_exceeded():
    health = Health()
    for within in (0.5, 0.1, 0.3):
        fail(health, 1, within=within)
    assert health.within == 0.1
    health.recovered()
    fail(health, 1, within=0.4)  # that of an outage before does not matter
    assert health.within == 0.4


def test_threads_that_fail_at_once_open_it_once():
    stores = [Health() for _ in range(20)]
    opened: list[bool] = []
    together = threading.Barrier(8)

    class Within(float):
        def __lt__(self, other: float) -> bool:
            time.sleep(0.0001)  # in the middle of it, let the others run
            return super().__lt__(other)

    def call() -> None:
        for health in stores:
            together.wait()
            opened.extend(health.failed(unavailable(), health.failures, Within(0.5)) for _ in range(10))

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(opened) == 20
    assert {(health.outages, health.failures) for health in stores} == {(1, OPENS_AFTER)}


# The error in the place of a call


@pytest.mark.parametrize("error", [unavailable("no-password", lasts=True), lost()], ids=lambda error: error.reason)
def test_the_error_of_a_call_that_is_not_made_has_the_reason_of_the_last_failure(error: StoreError):
    health = Health()
    fail(health, OPENS_AFTER - 1, unavailable("busy"))
    fail(health, 1, error)
    given = health.error("nothing was taken")
    assert type(given) is StoreUnavailable  # whatever the failures were, this call was never sent
    assert (given.reason, given.lasts) == (error.reason, error.lasts)


def test_that_error_says_what_was_done_once_and_names_no_server():
    health = Health()
    for said in (
        f"the store is slow or hangs; the cost may have been taken: {URL}",
        f"the store is slow or hangs: {URL}",
    ):
        fail(health, error=StoreTimeout(said))
        assert str(health.error("nothing was dropped")) == (
            "the store is down, nothing was dropped: the store is slow or hangs"
        )
        health.recovered()


def test_the_last_failure_is_not_kept_alive_with_all_that_its_callers_had_in_hand():
    health, error = Health(), unavailable()
    fail(health, error=error)
    kept = weakref.ref(error)
    del error
    gc.collect()
    assert kept() is None


def test_a_call_that_is_refused_just_as_the_breaker_closes_gets_an_error_all_the_same():
    health = Health()
    fail(health)
    health.recovered()
    given = health.error("nothing was taken")
    assert (type(given), given.lasts) == (StoreUnavailable, False)
    assert "nothing was taken" in str(given)


# The times


def test_seconds_of_all_outages_are_added_up(clock: ManualClock):
    health = Health()
    clock.advance(5)
    assert health.down_seconds == 0
    fail(health)
    clock.advance(2)
    assert health.down_seconds == 2
    health.recovered()
    clock.advance(10)
    assert health.down_seconds == 2
    fail(health)
    clock.advance(1)
    health.reset()
    assert health.down_seconds == 3


def test_delays_grow_with_jitter_and_never_exceed_a_second():
    health, usual = Health(), FIRST_DELAY
    for delay in islice(health.delays(), 12):
        assert usual / 2 <= delay <= usual
        usual = min(2 * usual, LAST_DELAY)
    assert LAST_DELAY == 1.0
    # A fleet must not probe in step.
    assert len({next(health.delays()) for _ in range(50)}) > 10


def test_the_next_probe_is_when_the_delay_ends_and_while_one_is_under_way_a_delay_away(clock: ManualClock):
    health = Health()
    assert health.next_probe_us == FIRST_DELAY * 1_000_000  # nothing is probed: when a call may be tried again
    fail(health)
    assert health.next_probe_us == FIRST_DELAY * 1_000_000
    delays = health.delays()
    for _ in range(8):
        delay = next(delays)
        assert health.next_probe_us == pytest.approx(delay * 1_000_000, abs=1)
        clock.advance(delay)
        assert health.next_probe_us == FIRST_DELAY * 1_000_000  # the probe runs, and its answer takes a while
        clock.advance(60)
        assert health.next_probe_us == FIRST_DELAY * 1_000_000
    health.recovered()
    assert health.next_probe_us == FIRST_DELAY * 1_000_000


# What is logged, and who is told


def test_one_line_is_logged_when_it_goes_down_and_one_when_it_is_up(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
):
    health = Health()
    fail(health, 10)
    clock.advance(2.5)
    health.recovered()
    health.recovered()
    assert [(record.levelno, record.name) for record in caplog.records] == [(logging.WARNING, "sluicegate")] * 2
    assert caplog.messages == [
        "the store is down, unreachable: the store is unreachable; look after it; nothing was taken",
        "the store is up again, after 2.5 s",
    ]


def test_no_line_names_the_server_or_a_password(caplog: pytest.LogCaptureFixture):
    health = Health()
    for error in (unavailable(), lost()):
        fail(health, error=error)
        health.recovered()
        health.note_failure_of_one(error)
    health.lost_state()
    health.failed_over()
    health.warn_of_unknown_fleet(unavailable())
    assert len(caplog.messages) == 9
    for secret in ("alice", "hunter2", "example.com", "6379"):
        assert secret not in caplog.text


def test_a_failure_of_one_request_is_logged_once_for_each_reason_and_opens_nothing(caplog: pytest.LogCaptureFixture):
    health = Health()
    for reason in ["other-data"] * 5 + ["queue-full"] * 5:
        health.note_failure_of_one(unavailable(reason))
    assert [message.partition(":")[0] for message in caplog.messages] == [
        "a request failed, other-data",
        "a request failed, queue-full",
    ]
    assert (health.is_open, health.failures) == (False, 0)


def test_an_unknown_fleet_is_logged_once(caplog: pytest.LogCaptureFixture):
    health = Health()
    for _ in range(5):
        health.warn_of_unknown_fleet(unavailable())
    assert len(caplog.messages) == 1


def test_listeners_are_told_of_each_change_once(clock: ManualClock):
    health, listeners = Health(), [Listener(), Listener()]
    for listener in [*listeners, *listeners]:
        health.listen(listener)
    fail(health, 10)
    clock.advance(3)
    health.recovered()
    health.lost_state()
    health.failed_over()
    told = [
        StoreEvent("down", "unreachable"),
        StoreEvent("up", seconds=3),
        StoreEvent("state-lost"),
        StoreEvent("failed-over"),
    ]
    assert [listener.events for listener in listeners] == [told, told]
    assert (health.states_lost, health.failovers) == (1, 1)


def test_a_listener_is_not_kept_alive():
    health, kept, dropped = Health(), Listener(), Listener()
    events = dropped.events
    health.listen(kept)
    health.listen(dropped)
    del dropped
    gc.collect()
    fail(health)
    assert ([event.kind for event in kept.events], events) == (["down"], [])


def test_a_listener_may_call_the_store_in_turn():
    health = Health()

    class Curious(Listener):
        def on_store_event(self, event: StoreEvent) -> None:
            super().on_store_event(event)
            health.answered()
            assert health.error("nothing was taken").reason == "unreachable"
            assert health.down_seconds >= 0

    listener = Curious()
    health.listen(listener)
    within_time(lambda: fail(health))
    assert len(listener.events) == 1


def test_listeners_may_come_while_others_are_told(hasty_threads: None):
    health, ended = Health(), threading.Event()
    kept: list[Listener] = []

    def come() -> None:
        while not ended.is_set():
            kept.append(Listener())
            health.listen(kept[-1])
            if len(kept) == 2000:
                kept.clear()  # they go, too

    thread = threading.Thread(target=come)
    thread.start()
    try:
        for _ in range(300):
            fail(health)
            health.recovered()
    finally:
        ended.set()
        thread.join()


# A forked child


def test_a_child_starts_with_a_closed_breaker_even_if_it_was_forked_in_the_middle_of_a_call():
    health = Health()
    fail(health)
    held = threading.Lock()
    held.acquire()
    health._lock = held  # a thread of the parent had it, and is not in the child
    within_time(lambda: [health.after_fork()])
    assert not health.is_open
    assert within_time(lambda: fail(health))
