"""What an instance allows by itself: its share of each limit, less what is known to be used; and what it then owes."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outages.every_algorithm import LIMIT, each, fleet_of, local_of, monotonic, policies, request, within_time
from sluicegate import MemoryStore, SlidingWindow, TokenBucket
from sluicegate._core.decision import Verdict
from sluicegate._core.policy import Policy, boundless, with_share
from sluicegate._core.request import Charge, Counter, Request, Settlement
from sluicegate._stores import known as known_module
from sluicegate._stores import local as module
from sluicegate._stores.base import Fallback
from sluicegate._stores.fleet import Fleet, fraction
from sluicegate._stores.local import Local
from sluicegate.testing import ManualClock

PROBE_US = 50_000
"""The wait where an instance can allow nothing."""

POLICY = SlidingWindow(LIMIT, window=60)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    clock = ManualClock(1000)
    monkeypatch.setattr(known_module, "time", monotonic(clock))
    return clock


def decide(local: Local, asked: Request, *, share: float | None = None, owe: bool = True) -> Fallback:
    return local.decide(asked, share=None if share is None else fraction(share), owe=owe, wait_us=PROBE_US)


def allows(local: Local, *under: Policy, cost: int = 1, key: str = "a", **options) -> bool:
    return all(verdict.allowed for verdict in decide(local, request(*under, cost=cost, key=key), **options))


def allowed(local: Local, policy: Policy, times: int = 3 * LIMIT, **options) -> int:
    """Ask for single units, and count those that were allowed."""
    return sum(allows(local, policy, **options) for _ in range(times))


def learn(local: Local, policy: Policy, used: int, reset_after: float = 60, key: str = "a") -> None:
    verdict = Verdict(True, policy.burst - used, 0, round(reset_after * 1_000_000))
    local.known.learn([(Charge(policy, key, 1),)], [[verdict]])


def owed(local: Local, *under: Policy) -> list[tuple[Charge, ...]]:
    return local.owed([Charge(policy, "a", 1) for policy in under], 100)


def crowd() -> Fleet:
    """A fleet of more members than units and than names: nobody has one."""
    fleet = Fleet()
    fleet.learn(LIMIT + 1, [])
    return fleet


# The share


@each
def test_no_more_than_the_share_of_the_fleet_is_allowed_at_once(clock: ManualClock, policy: Policy):
    assert [allowed(local_of(fleet_of(size), clock), policy) for size in (None, 1, 3, 5)] == [12, 12, 4, 2]


@each
def test_no_more_than_a_fixed_share_is_allowed_at_once(clock: ManualClock, policy: Policy):
    shares = [allowed(local_of(fleet_of(3), clock), policy, share=share) for share in (1, 0.5, 0.29)]
    assert shares == [12, 6, 3]  # whatever the fleet is


@each
@given(spans=st.lists(st.tuples(st.floats(0, 90), st.integers(1, 4)), max_size=40))
def test_no_more_than_the_share_is_allowed_in_any_window(policy: Policy, spans: list[tuple[float, int]]):
    clock = ManualClock(1000)
    local = local_of(fleet_of(3), clock)
    taken: list[tuple[int, int]] = []
    for span, cost in spans:
        clock.advance(span)
        if allows(local, policy, cost=cost):
            taken.append((clock.now_us(), cost))
        in_window = sum(units for at_us, units in taken if at_us > clock.now_us() - policy.window_us)
        assert in_window <= with_share(policy, LIMIT // 3, LIMIT // 3).worst_case


@each
def test_the_share_is_back_when_its_wait_is_over_and_not_a_microsecond_before(clock: ManualClock, policy: Policy):
    local = local_of(fleet_of(4), clock)
    assert allows(local, policy, cost=3)
    (denied,) = decide(local, request(policy, cost=3))
    clock.advance((denied.retry_after_us - 1) / 1_000_000)
    assert not allows(local, policy, cost=3)
    clock.advance(0.000001)
    assert allows(local, policy, cost=3)


@each
def test_a_cost_above_the_share_waits_for_the_store_and_not_for_ever(clock: ManualClock, policy: Policy):
    local = local_of(fleet_of(4), clock)
    for cost in (4, LIMIT, LIMIT + 1):
        assert decide(local, request(policy, cost=cost)) == [Verdict(False, 3, PROBE_US, 0)]
    assert allowed(local, policy) == 3  # none was taken


@each
def test_without_any_share_all_is_denied_with_a_wait_for_the_store(clock: ManualClock, policy: Policy):
    for local, share in ((local_of(crowd(), clock), None), (local_of(fleet_of(2), clock), 0.01)):
        assert decide(local, request(policy), share=share) == [Verdict(False, 0, PROBE_US, 0)]
        assert not local.owes


def test_the_answer_is_of_the_kind_that_says_so(clock: ManualClock):
    local = local_of(fleet_of(4), clock)
    crowded = local_of(crowd(), clock)
    kinds = {type(decide(one, request(POLICY, cost=cost))) for one in (local, crowded) for cost in (1, 9)}
    assert kinds == {Fallback}


@each
def test_a_request_that_commits_nothing_takes_and_owes_nothing(clock: ManualClock, policy: Policy):
    local = local_of(fleet_of(4), clock)
    for _ in range(5):
        assert decide(local, request(policy, commit=False)) == [Verdict(True, 3, 0, 0)]
    assert not local.owes
    assert allowed(local, policy) == 3


def test_a_bucket_has_a_share_of_its_pace_and_of_its_burst(clock: ManualClock):
    bucket = TokenBucket(6, window=60, burst=30)
    local = local_of(fleet_of(3), clock)
    assert allowed(local, bucket) == 10
    clock.advance(60)
    assert allowed(local, bucket) == 2


def test_a_bucket_with_a_pace_for_none_allows_none(clock: ManualClock):
    local = local_of(fleet_of(3), clock)
    assert allowed(local, TokenBucket(1, window=60, burst=300), share=0.1) == 0


@each
def test_several_policies_are_charged_all_or_none(clock: ManualClock, policy: Policy):
    local = local_of(fleet_of(3), clock)
    narrow = SlidingWindow(6, window=1, name="narrow")
    answers = [[verdict.allowed for verdict in decide(local, request(policy, narrow))] for _ in range(4)]
    assert answers == [[True, True], [True, True], [True, False], [True, False]]
    assert allowed(local, policy) == 2  # of its four
    assert [charge.cost for (charge,) in owed(local, policy, narrow)] == [4, 2]


@each
def test_a_policy_without_a_share_denies_and_the_others_are_not_charged(clock: ManualClock, policy: Policy):
    local = local_of(fleet_of(3), clock)
    used_up = SlidingWindow(6, window=1, name="used-up")
    learn(local, used_up, 6)
    answer = decide(local, request(policy, used_up))
    assert [verdict.allowed for verdict in answer] == [True, False]
    assert answer[1].retry_after_us == PROBE_US
    assert (local.owes, allowed(local, policy)) == (False, 4)


def test_policies_that_come_and_go_have_their_own_shares(clock: ManualClock):
    local = local_of(fleet_of(2), clock)
    for window in range(1, 100):  # an object that is gone may leave its id to the next one
        assert allowed(local, SlidingWindow(8, window=window), 5, owe=False) == 4
    for limit in range(4, 3000):  # as with limits by key
        policy = POLICY.with_limit(limit)
        assert not allows(local, policy, cost=limit // 2 + 1, key=f"{limit}")
        assert allows(local, policy, cost=limit // 2, key=f"{limit}")
    assert len(local._shares) <= module._MOST_VARIANTS


def test_keys_are_counted_apart(clock: ManualClock):
    local = local_of(fleet_of(3), clock)
    assert [allowed(local, POLICY, key=key) for key in "abc"] == [4, 4, 4]


def test_threads_together_take_no_more_than_the_share_and_all_of_it_is_owed(hasty_threads: None):
    local = local_of(fleet_of(3), ManualClock(1000))
    policy = POLICY.with_limit(1500)
    counts: list[int] = []
    threads = [threading.Thread(target=lambda: counts.append(allowed(local, policy, 200))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts) == 500
    assert [charge.cost for (charge,) in owed(local, policy)] == [500]


# What is known to be used


@each
def test_what_is_known_to_be_used_is_taken_off_until_it_is_free_again(clock: ManualClock, policy: Policy):
    local = local_of(fleet_of(3), clock)
    learn(local, policy, 4, reset_after=50)
    assert allowed(local, policy) == 2  # of four: a third of the four used, rounded up
    clock.advance(3600)  # what was allowed here is free again, too
    assert allowed(local, policy) == 4


@each
def test_what_is_known_to_be_used_is_taken_off_a_fixed_share_likewise(clock: ManualClock, policy: Policy):
    local = local_of(fleet_of(3), clock)
    learn(local, policy, 5)
    assert allowed(local, policy, share=0.5) == 3  # six less two and a half, rounded down


@each
def test_nothing_is_allowed_where_all_was_used(clock: ManualClock, policy: Policy):
    local = local_of(fleet_of(3), clock)
    learn(local, policy, LIMIT, reset_after=50)
    assert decide(local, request(policy)) == [Verdict(False, 0, PROBE_US, 0)]
    clock.advance(50)
    assert allowed(local, policy) == 4


@each
@given(limit=st.integers(1, 60), size=st.integers(1, 8), part=st.floats(0, 1), cost=st.integers(1, 3))
def test_a_fleet_that_knows_the_same_allows_no_more_than_was_left(
    policy: Policy, limit: int, size: int, part: float, cost: int
):
    clock = ManualClock(1000)
    policy, used = policy.with_limit(limit), round(part * limit)
    fleet = [Fleet() for _ in range(size)]
    in_all = 0
    for instance in fleet:
        instance.learn(size, [member.id.encode() for member in fleet])
        local = local_of(instance, clock)
        if used:
            learn(local, policy, used)
        units = cost * allowed(local, policy, limit // cost + 1, cost=cost)
        if limit >= size and cost == 1:
            assert units == max(limit // size - -(-used // size), 0)  # nor less than its part
        in_all += units
    assert in_all + used <= limit


@each
@given(limit=st.integers(1, 60), size=st.integers(1, 8), part=st.floats(0, 1))
def test_instances_with_fixed_shares_allow_no_more_than_was_left(policy: Policy, limit: int, size: int, part: float):
    clock = ManualClock(1000)
    policy, used = policy.with_limit(limit), round(part * limit)
    share = (100 // size) / 100
    in_all = 0
    for _ in range(size):
        local = local_of(fleet_of(None), clock)
        if used:
            learn(local, policy, used)
        in_all += allowed(local, policy, limit + 1, share=share)
    assert in_all + used <= limit


# What is owed


@each
def test_what_was_allowed_is_owed_whatever_the_limit_and_taken_out_once(clock: ManualClock, policy: Policy):
    local = local_of(fleet_of(3), clock)
    assert (local.owes, len(local), owed(local, policy)) == (False, 0, [])
    assert allowed(local, policy) == 4
    assert (local.owes, len(local)) == (True, 1)
    assert owed(local, policy) == [(Charge(boundless(policy), "a", 4),)]
    assert (local.owes, len(local), owed(local, policy), local.any_owed(10)) == (False, 0, [], [])


@each
def test_denials_and_charges_of_unknown_outcome_are_not_owed(clock: ManualClock, policy: Policy):
    local = local_of(fleet_of(3), clock)
    assert allows(local, policy, cost=2, owe=False)
    assert not allows(local, policy, cost=3)
    assert (local.owes, owed(local, policy)) == (False, [])


@each
def test_what_was_put_back_is_owed_again_together_with_what_came_meanwhile(clock: ManualClock, policy: Policy):
    local = local_of(fleet_of(3), clock)
    assert allows(local, policy, cost=2)
    taken_out = owed(local, policy)
    assert allows(local, policy)
    local.owe_again(taken_out)
    assert local.owes
    assert owed(local, policy) == [(Charge(boundless(policy), "a", 3),)]


@each
def test_what_has_left_its_window_is_not_owed_any_more(clock: ManualClock, policy: Policy):
    local = local_of(fleet_of(3), clock)
    assert allowed(local, policy) == 4
    clock.advance(3600)
    assert local.owes  # nobody has looked yet
    assert (owed(local, policy), local.owes) == ([], False)
    assert allowed(local, policy) == 4
    clock.advance(3600)
    assert (local.any_owed(10), local.owes) == ([], False)


def test_what_is_still_in_its_window_is_owed(clock: ManualClock):
    local = local_of(fleet_of(3), clock)
    for cost in (3, 1):
        assert allows(local, POLICY, cost=cost)
        clock.advance(30)
    assert [charge.cost for (charge,) in owed(local, POLICY)] == [1]


def test_of_a_bucket_what_has_not_drained_is_owed(clock: ManualClock):
    bucket = TokenBucket(LIMIT, window=60)
    local = local_of(fleet_of(3), clock)
    assert allows(local, bucket, cost=4)
    clock.advance(9)  # at the pace of the whole, as on the store: 1.8 units
    assert [charge.cost for (charge,) in owed(local, bucket)] == [3]


def test_only_what_is_owed_for_the_counters_of_a_call_goes_with_it_and_no_more_than_it_takes(clock: ManualClock):
    local = local_of(fleet_of(3), clock)
    for key in "abcdef":
        assert allows(local, POLICY, key=key)
    asked = [Charge(POLICY, key, 1) for key in ("a", "nobody", "b", "a", "c")]
    assert [charge.key for (charge,) in local.owed(asked, 2)] == ["a", "b"]
    assert (len(local), local.owes) == (4, True)
    assert [charge.key for (charge,) in local.any_owed(3)] == ["c", "d", "e"]
    assert [charge.key for (charge,) in local.any_owed(3)] == ["f"]
    assert not local.owes


def test_each_policy_of_a_request_is_owed_by_itself(clock: ManualClock):
    local, several = local_of(fleet_of(3), clock), policies()
    assert allows(local, *several, cost=2)
    requests = local.any_owed(100)
    assert requests == [(Charge(boundless(policy), "a", 2),) for policy in several]


def test_owing_is_bounded_and_what_is_beyond_is_counted(clock: ManualClock, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "MAX_KEYS", 3)
    local = local_of(fleet_of(3), clock)
    for key in "abcde":
        assert allows(local, POLICY, cost=2, key=key)
    assert (len(local), local.unsent) == (3, 4)
    assert allows(local, POLICY, key="a")  # one that is owed for already needs no room
    assert (len(local), local.unsent) == (3, 4)
    assert [charge.cost for (charge,) in local.any_owed(10)] == [3, 2, 2]
    local.owe_again([(Charge(boundless(POLICY), key, 1),) for key in "vwxyz"])
    assert (len(local), local.unsent) == (3, 6)


def test_keys_in_memory_are_bounded_and_share_counters_beyond(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "MAX_KEYS", 3)
    local = Local(fleet_of(3))
    for number in range(50):
        allows(local, POLICY, key=f"{number}")
    assert len(local._store) == 3


# Forgetting, blocking, forking


@each
def test_forget_drops_what_was_counted_owed_and_known_of_a_counter_alone(clock: ManualClock, policy: Policy):
    local = local_of(fleet_of(3), clock)
    for key in "ab":
        learn(local, policy, 3, key=key)
        assert allowed(local, policy, key=key) == 3
    local.forget([Counter(policy, "a"), Counter(policy, "never-seen")])
    assert [charge.key for (charge,) in local.any_owed(10)] == ["b"]
    assert [allowed(local, policy, key=key) for key in "ab"] == [4, 0]


def test_forget_frees_the_share_and_leaves_nothing_owed(clock: ManualClock):
    local = local_of(fleet_of(3), clock)
    assert allowed(local, POLICY) == 4
    local.forget([Counter(POLICY, "a")])
    assert (local.owes, allowed(local, POLICY)) == (False, 4)


def test_forget_before_the_first_outage_makes_no_store():
    local = Local(fleet_of(3))
    local.forget([Counter(POLICY, "a")])
    assert local._memory is None


@each
def test_a_block_denies_here_too_until_it_ends_or_is_lifted(clock: ManualClock, policy: Policy):
    local = local_of(fleet_of(3), clock)
    local.block([Counter(policy, "a")], 20_000_000)
    ((allowed_, _, wait_us, _),) = decide(local, request(policy))
    assert (allowed_, wait_us, local.owes) == (False, 20_000_000, False)
    assert allows(local, policy, key="b")
    clock.advance(20)
    assert allows(local, policy)
    for span_us, expected in ((60_000_000, False), (0, True)):
        local.block([Counter(policy, "a")], span_us)
        assert allows(local, policy) is expected


@each
def test_a_block_that_is_lifted_is_not_taken_for_units_in_use(clock: ManualClock, policy: Policy):
    local = local_of(fleet_of(3), clock)
    learn(local, policy, LIMIT, reset_after=3600)  # so the store answers under a block
    local.block([Counter(policy, "a")], 0)
    assert allowed(local, policy) == 4


def test_a_child_owes_nothing_and_counts_anew_but_knows_what_the_store_answered(clock: ManualClock):
    local = local_of(fleet_of(3), clock)
    learn(local, POLICY, 3)
    assert allowed(local, POLICY) == 3
    held = threading.Lock()
    held.acquire()
    local._lock = held  # a thread of the parent had it, and is not in the child
    local.after_fork()
    assert within_time(lambda: (local.owes, len(local), local.any_owed(10))) == (False, 0, [])
    local._memory = MemoryStore(clock=clock)
    assert allowed(local, POLICY) == 3


def test_blocks_that_are_over_make_room_for_new_ones(monkeypatch: pytest.MonkeyPatch, clock: ManualClock):
    monkeypatch.setattr(module, "MAX_KEYS", 2)
    monkeypatch.setattr(module, "time", monotonic(clock))
    local = local_of(fleet_of(1), clock)
    for key in "abc":
        local.block([Counter(POLICY, key)], 10_000_000)
    assert [allows(local, POLICY, key=key) for key in "abc"] == [False, False, True]  # there was no room for the third
    clock.advance(11)
    local.block([Counter(POLICY, "d")], 10_000_000)
    assert not allows(local, POLICY, key="d")


def test_what_is_settled_in_an_outage_drains_at_the_pace_of_the_share():
    clock = ManualClock()
    local = Local(Fleet())
    local._memory = MemoryStore(clock=clock)
    charge = Charge(TokenBucket(100, window=1), "alice", 1)
    used = 0
    for _ in range(150):  # three seconds, at a tenth of a hundred a second, and a burst of ten
        answer = local.decide(Request((charge,), reserves=True), share=fraction(0.1), owe=False, wait_us=1)
        clock.advance(0.02)
        if answer[0].allowed:
            used += 2
            assert answer.marks is not None
            local.settle([Settlement(*charge, answer.marks[0], 2)])
    assert used <= 40
