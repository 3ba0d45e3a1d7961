"""Wrong clocks in real time: a client's has no effect; a step of the server's has that of docs/clocks.md (G8)."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Self

import pytest

import servers
from service import worker
from service.fleet import Worker, judge, until_proven
from sluicegate import Decision, Limiter, RedisStore, SlidingWindow
from sluicegate._stores.redis.stored_keys import stored_key
from sluicegate.proof.faketime import SteppedServer, off_by, stepped_server, why_not
from sluicegate.proof.history import Record
from sluicegate.proof.judge import over, spans, unjustified

LIMIT, WINDOW = 20, 1.0
YEAR = 365 * 86400.0

pytestmark = pytest.mark.slow


@pytest.fixture
def stepped() -> Iterator[SteppedServer]:
    if why_not():
        pytest.skip(why_not())
    with stepped_server() as server:
        yield server


class Client:
    """A limiter over a server, which can call without a pause while the test steps the clock."""

    def __init__(
        self, stepped: SteppedServer, *, limit: int = LIMIT, window: float = WINDOW, buckets: int | None = None
    ) -> None:
        self.policy = SlidingWindow(limit, window=window, buckets=buckets)
        # Denials are remembered by real time, which a stepped clock leaves behind: test_denials.py has that.
        self.store = RedisStore.from_url(stepped.server.url, timeout=30, denial_ttl=0)
        self.limiter = Limiter(self.policy, store=self.store)
        self._server = stepped.server.client
        self._threads = ThreadPoolExecutor(1)

    def hammer(self, seconds: float):
        """Start to call for one key. Returns a function that waits for the end and returns the records."""
        calls = self._threads.submit(worker.hammer, self.limiter, ["a"], seconds, threads=2)
        return lambda: [Record(*fields) for fields in calls.result()]

    def take(self, cost: int = 1) -> Decision:
        """Take, and see that the server keeps the key until it is idle, so for every wait that it may return."""
        began = time.monotonic()
        decision = self.limiter.take("a", cost)
        assert decision.retry_after <= decision.reset_after
        assert self.ttl() >= decision.reset_after - (time.monotonic() - began)
        return decision

    def ttl(self) -> float:
        """Return for how many seconds yet the server keeps the key."""
        return self._server.pttl(stored_key("sluicegate:", self.policy.namespace, "a")) / 1000

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown()
        self.store.close()


# A client's clock


def test_a_clients_clock_an_hour_off_has_no_effect(server: servers.Server, prefix: str):
    if why_not():
        pytest.skip(why_not())
    task = {"url": server.url, "prefix": prefix, "limit": LIMIT, "window": WINDOW}
    task |= {"keys": ["a", "b", "c"], "threads": 1, "seconds": 3}
    clocks = {"true": {}, "an hour ahead": off_by(3600), "an hour behind": off_by(-3600)}
    with ExitStack() as stack:
        workers = {clock: stack.enter_context(Worker(task, **faked)) for clock, faked in clocks.items()}
        offsets = {clock: each.reads() - time.time() for clock, each in workers.items()}
        assert offsets == pytest.approx({"true": 0, "an hour ahead": 3600, "an hour behind": -3600}, abs=30)
        began = time.monotonic()

        def play(*_: int) -> list[tuple[str, Record]]:
            for each in workers.values():
                each.begin()
            return [(clock, record) for clock, each in workers.items() for record in each.records()]

        def judged(seen: list[tuple[str, Record]]) -> list[str]:
            outcomes = {(clock, record.allowed) for clock, record in seen}
            missing = [
                f"{outcome} for the clock {clock}"
                for clock in clocks
                for outcome in (True, False)
                if (clock, outcome) not in outcomes
            ]
            return missing + judge([record for _, record in seen], LIMIT, WINDOW, of="three clocks")

        seen = until_proven(play, judged)
    # They recorded by a clock that was true.
    assert all(began <= record.start <= record.end <= time.monotonic() for _, record in seen)


# A step of the server's clock, back


@pytest.mark.parametrize(("back", "lasts", "repaired"), [(0.6, WINDOW + 0.6, 0), (30, WINDOW, 1)])
def test_after_a_step_back_a_limit_is_never_exceeded_and_soon_works_as_before(
    stepped: SteppedServer, back: float, lasts: float, repaired: int
):
    with Client(stepped) as client:
        finish = client.hammer(4)
        time.sleep(1.6)
        stepped_at = stepped.step(-back)
        seen_at = time.monotonic()
        records = finish()
        report(f"{back} s back", records)
        assert client.store.repaired == repaired
    assert over(records, LIMIT, WINDOW)[:3] == []
    too_long = unjustified(records, LIMIT, WINDOW)
    assert too_long, "no unit was held longer: the clock was not stepped"
    assert stepped_at <= min(record.end for record in too_long)
    assert max(record.start for record in too_long) <= first_end(records, seen_at) + lasts + 0.005
    assert full(between(records, stepped_at)) == LIMIT


def test_a_step_back_of_less_than_a_window_holds_units_as_much_longer_and_the_wait_says_so(
    stepped: SteppedServer,
):
    with Client(stepped, limit=5, window=2.0) as client:
        began = time.monotonic()
        assert client.take(5).allowed
        stepped.step(-1.5)
        denied = client.take()
        answered_at = time.monotonic()
        assert denied.retry_after == pytest.approx(2.0 + 1.5, abs=answered_at - began + 0.001)
        assert denied.retry_after > 2.0
        while True:
            called_at = time.monotonic()
            if client.take().allowed:
                break
            assert called_at <= answered_at + denied.retry_after, "denied after the wait that was returned"
            time.sleep(0.005)
        assert time.monotonic() >= began + 2.0 + 1.5
        assert client.store.repaired == 0


def test_a_step_back_of_30_s_in_a_window_of_60_is_a_wait_of_90(stepped: SteppedServer):
    with Client(stepped, window=60) as client:
        began = time.monotonic()
        assert client.take(LIMIT).allowed
        stepped.step(-30)
        denied = client.take()
        assert denied.retry_after == pytest.approx(90, abs=time.monotonic() - began + 0.001)
        assert client.ttl() >= 89


@pytest.mark.parametrize(("back", "repaired"), [(1.5, 0), (2.5, None), (30, 1)])
def test_units_rounded_up_by_buckets_do_not_come_back_early_after_a_step_back(
    stepped: SteppedServer, back: float, repaired: int | None
):
    with Client(stepped, limit=2, window=2.0, buckets=2) as client:
        _, microseconds = stepped.server.client.time()
        time.sleep((0.95 - microseconds / 1_000_000) % 1)  # just before a grain of a second ends
        began = time.monotonic()
        assert client.take().allowed
        time.sleep(0.1)  # and just after it: the stamp is nearly a second ahead
        assert client.take().allowed
        stepped.step(-back)
        while not (decision := client.take()).allowed:
            assert decision.retry_after <= 2 * 2.0 + 1.0
            time.sleep(min(decision.retry_after, 0.02))
        assert time.monotonic() >= began + 2.0
        assert repaired in (None, client.store.repaired)


# A step forward


def test_a_step_forward_gives_at_most_one_more_limit(stepped: SteppedServer):
    with Client(stepped) as client:
        finish = client.hammer(4)
        time.sleep(1.5)
        stepped_at = stepped.step(30)
        records = finish()
        report("30 s forward", records)
        assert client.store.repaired == 0
    assert over(records, LIMIT, WINDOW), "the step gave nothing: the clock was not stepped"
    assert over(records, 2 * LIMIT, WINDOW)[:3] == []
    for part in (between(records, 0, stepped_at), between(records, stepped_at)):
        assert full(part) == LIMIT
    assert unjustified(records, LIMIT, WINDOW)[:3] == []


# A glitch of a year


@pytest.mark.parametrize("lasts", [0.3, 1.7])
def test_a_year_forward_and_back_gives_at_most_one_more_limit_and_has_no_effect_a_window_later(
    stepped: SteppedServer, lasts: float
):
    with Client(stepped) as client:
        finish = client.hammer(3.5 + lasts)
        time.sleep(1.5)
        forward_at = stepped.step(YEAR)
        time.sleep(lasts)
        back_at = stepped.step(0)
        seen_at = time.monotonic()
        records = finish()
        report(f"a year forward, and back after {lasts} s", records)
        assert client.store.repaired == 1
    assert over(records, LIMIT, WINDOW), "the step gave nothing: the clock was not stepped"
    assert over(records, 2 * LIMIT, WINDOW)[:3] == []
    # The step forward gave one, the step back none.
    assert full(between(records, 0, forward_at)) == LIMIT
    assert full(between(records, forward_at)) == LIMIT
    assert full(between(records, back_at)) == LIMIT
    too_long = unjustified(records, LIMIT, WINDOW)
    assert max(record.start for record in too_long) <= first_end(records, seen_at) + WINDOW + 0.005


def test_a_key_stamped_a_year_ahead_is_repaired_once_and_works_as_before_after_a_window(stepped: SteppedServer):
    with Client(stepped) as client:
        stamp_a_year_ahead(stepped, client)
        denied = client.take()
        assert not denied.allowed
        assert denied.retry_after == WINDOW
        assert client.store.repaired == 1
        time.sleep(denied.retry_after)
        assert client.take().remaining == LIMIT - 1
        assert client.ttl() <= 1.2 * WINDOW
        assert client.store.repaired == 1


def test_a_key_stamped_a_year_ahead_expires_after_about_a_window_once_it_is_repaired(stepped: SteppedServer):
    with Client(stepped) as client:
        stamp_a_year_ahead(stepped, client)
        assert not client.take().allowed
        assert client.store.repaired == 1
        assert client.ttl() <= 1.2 * WINDOW


def test_a_peek_at_a_key_stamped_a_year_ahead_repairs_nothing_and_counts_nothing(stepped: SteppedServer):
    with Client(stepped) as client:
        stamp_a_year_ahead(stepped, client)
        assert not client.limiter.peek("a").allowed
        assert client.ttl() > YEAR
        assert client.store.repaired == 0


def stamp_a_year_ahead(stepped: SteppedServer, client: Client) -> None:
    """Let a glitch of a year begin, fill the limit of the key, let it end."""
    stepped.step(YEAR)
    assert client.take(LIMIT).allowed
    stepped.step(0)
    assert client.ttl() > YEAR


def test_after_any_steps_a_key_outlives_its_wait_and_no_wait_is_longer_than_two_windows(
    stepped: SteppedServer,
):
    with Client(stepped, limit=4) as client:
        outcomes = Counter()
        for off_by_ in (0, -0.7, 0.2, -0.5, -30, 30, YEAR, 0, YEAR, YEAR + 0.4, YEAR - 0.5, -YEAR, 0, -0.9):
            stepped.step(off_by_)
            for _ in range(8):
                decision = client.take()  # which looks at the key's TTL
                outcomes[decision.allowed] += 1
                assert decision.retry_after <= 2 * WINDOW
                time.sleep(0.04)
        assert min(outcomes[True], outcomes[False]) > 20


def between(records: list[Record], begin: float, end: float = float("inf")) -> list[Record]:
    return [record for record in records if begin <= record.start and record.end < end]


def first_end(records: list[Record], since: float) -> float:
    """Return by when the first request that was sent after ``since`` was decided."""
    return min(record.end for record in records if record.start >= since)


def full(records: list[Record]) -> int:
    """Return the most that was certainly allowed to a key in less than a window."""
    return max(span.units for span in spans(records, WINDOW))


def report(what: str, records: list[Record]) -> None:
    allowed = sum(record.allowed for record in records)
    print(f"{what}: {allowed} allowed, {len(records) - allowed} denied; at most {full(records)} in less than a window")
