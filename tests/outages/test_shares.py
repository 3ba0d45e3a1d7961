"""The share of a limit that each instance of a fleet has while the store is down."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate import FixedWindow, SlidingWindow
from sluicegate._core.policy import MAX_UNITS
from sluicegate._stores.fleet import Fleet, fixed_share, fraction

POLICY = SlidingWindow(100, window=60)
MANY = [f"user-{number}" for number in range(40)]


def fleet_of(size: int) -> list[Fleet]:
    """All instances of a fleet, each of which knows all of them."""
    fleet = [Fleet() for _ in range(size)]
    for instance in fleet:
        instance.learn(size, [each.id.encode() for each in fleet])
    return fleet


def shares(fleet: list[Fleet], units: int, key="a", policy=POLICY) -> list[int]:
    return [instance.share(policy, units, key) for instance in fleet]


@pytest.mark.parametrize(("units", "size", "share"), [(100, 1, 100), (100, 4, 25), (100, 3, 33), (7, 7, 1), (13, 7, 1)])
def test_each_instance_has_an_equal_share_rounded_down(units: int, size: int, share: int):
    assert shares(fleet_of(size), units) == [share] * size


@given(units=st.integers(1, 200) | st.integers(1, MAX_UNITS), size=st.integers(1, 40), key=st.text(max_size=9))
def test_all_shares_together_are_never_more_than_the_limit(units: int, size: int, key: str):
    given_out = sum(shares(fleet_of(size), units, key))
    assert given_out <= units
    assert given_out == (units if units < size else units // size * size)


@pytest.mark.parametrize("units", [1, 2, 5, 8])
def test_with_fewer_units_than_instances_just_so_many_have_one(units: int):
    fleet = fleet_of(9)
    for key in MANY:
        assert sorted(shares(fleet, units, key)) == [0] * (9 - units) + [1] * units


def test_other_instances_have_a_unit_of_other_keys_and_other_policies():
    fleet = fleet_of(9)
    of_keys = [tuple(shares(fleet, 3, key)) for key in MANY]
    assert len(set(of_keys)) > 10
    assert all(map(any, zip(*of_keys, strict=True)))  # each instance has its turn
    assert of_keys != [tuple(shares(fleet, 3, key, FixedWindow(100, window=60))) for key in MANY]


def test_who_has_a_unit_does_not_depend_on_the_order_of_the_names():
    fleet = fleet_of(9)
    before = [shares(fleet, 3, key) for key in MANY]
    for turn, instance in enumerate(fleet):
        names = [each.id.encode() for each in fleet]
        instance.learn(9, names[turn:] + names[:turn])
    assert [shares(fleet, 3, key) for key in MANY] == before


def test_keys_of_attributes_and_shared_counters_have_shares_too():
    fleet = fleet_of(5)
    for key in (("alice", "acme"), ()):
        assert sum(shares(fleet, 2, key)) == 2
    apart = [[shares(fleet, 2, (f"{n}a", "b")), shares(fleet, 2, (f"{n}", "ab"))] for n in range(40)]
    assert any(one != other for one, other in apart)  # they are two keys


def test_an_instance_that_knows_of_no_fleet_has_the_whole_limit():
    fleet = Fleet()
    assert (fleet.size, fleet.share(POLICY, 100, "a"), fleet.share(POLICY, 1, "a")) == (None, 100, 1)


def test_in_a_fleet_of_more_instances_than_names_nobody_has_a_unit_if_there_are_too_few():
    fleet = Fleet()
    fleet.learn(1000, [fleet.id.encode(), *(b"other-%d" % n for n in range(500))])
    assert fleet.share(POLICY, 2000, "a") == 2
    # Who the first of all are cannot be told, and two may not take one unit.
    assert {fleet.share(POLICY, 999, key) for key in MANY} == {0}


def test_what_was_learned_last_counts():
    fleet = Fleet()
    for size in (4, 2, 5):
        fleet.learn(size, [fleet.id.encode()])
        assert fleet.share(POLICY, 100, "a") == 100 // size
    fleet = fleet_of(9)
    gone = fleet.pop()
    for instance in fleet:
        instance.learn(8, [each.id.encode() for each in fleet])
    assert {sum(shares(fleet, 3, key)) for key in MANY} == {3}  # what the one that is gone would have had, others have
    assert any(gone.share(POLICY, 3, key) for key in MANY)


def test_a_fleet_has_one_member_at_least():
    fleet = Fleet()
    fleet.learn(0, [])
    assert fleet.share(POLICY, 100, "a") == 100


def test_every_instance_has_a_name_of_its_own_and_after_leaving_another_one():
    fleet = Fleet()
    fleet.learn(4, [fleet.id.encode()])
    names = {fleet.id, *(Fleet().id for _ in range(100))}
    fleet.leave()
    assert len({*names, fleet.id}) == 102
    assert (fleet.size, fleet.share(POLICY, 100, "a")) == (None, 100)


@pytest.mark.parametrize(
    ("share", "units", "expected"),
    [(0.29, 100, 29), (0.1, 30, 3), (0.57, 100, 57), (1, 7, 7), (1.0, 7, 7), (0.5, 1, 0), (1e-05, MAX_UNITS, 10**6)],
)
def test_a_fixed_share_is_exact_for_decimals_and_rounded_down(share: float, units: int, expected: int):
    assert fixed_share(fraction(share), units) == expected


@given(percent=st.integers(1, 100), units=st.integers(0, MAX_UNITS))
def test_fixed_shares_that_add_up_to_one_share_out_no_more_than_the_limit(percent: int, units: int):
    share = percent / 100
    assert fixed_share(fraction(share), units) == units * percent // 100
    assert fixed_share(fraction(share), units) <= Fraction(percent, 100) * units
