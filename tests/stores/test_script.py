"""The scripts' arguments and replies, without a server: runs, cached arguments, faults."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate import CalendarWindow, Concurrency, FixedWindow, SlidingWindow, StoreUnavailable, TokenBucket
from sluicegate import _algorithms as algorithms
from sluicegate._core.decision import Verdict
from sluicegate._core.policy import MAX_UNITS as MOST
from sluicegate._core.policy import Policy
from sluicegate._core.request import Charge, Settlement
from sluicegate._stores.base import Reserved
from sluicegate._stores.redis import script as scripts
from sluicegate._stores.redis.script import (
    Charges,
    ClockMismatch,
    ServerClockEstimate,
    decide_arguments,
    parse_reply,
    parse_reserved,
    parse_settled,
    reserve_arguments,
    settle_arguments,
)
from sluicegate._stores.redis.stored_keys import stored_key
from stores.harness import charges

NOW_US = 1_700_000_000_000_000
SLIDING, OTHER = SlidingWindow(5, window=60), SlidingWindow(7, window=60, name="other")
BUCKET, FIXED, DAY = TokenBucket(5, window=60), FixedWindow(5, window=60), CalendarWindow(5, every="day")
LEASES = Concurrency(5, ttl=60)
POLICIES = [SLIDING, OTHER, BUCKET, FIXED, DAY, LEASES]


class Still(ServerClockEstimate):
    """An estimate that stands still."""

    def now_us(self) -> int:
        return NOW_US


def sent(*requests: Charges) -> list[str]:
    """Return ARGV."""
    count, *rest = [each.decode() if isinstance(each, bytes) else str(each) for each in _sent(*requests)]
    return rest[int(count) :]


def _sent(*requests: Charges) -> list[bytes | str]:
    words = decide_arguments("p:", requests, Still())
    assert {type(word) for word in words} <= {bytes, str}  # `Arguments` says why
    return words


def wanted(policy: Policy, cost: int) -> list[str]:
    """Return the arguments of one charge."""
    arguments = algorithms.BY_NAME[policy.algorithm].arguments(policy, cost, NOW_US)
    return [policy.algorithm, *map(str, arguments)]


def read(requests: Sequence[Charges]) -> Iterator[tuple[bytes, list[str]]]:
    """Yield key and arguments of each charge as decide.lua finds them."""
    first, *rest = _sent(*requests)
    count = int(first)
    keys, words = iter(rest[:count]), iter([_text(each) for each in rest[count:]])
    for size in words:
        run = [[(word := next(words)), *itertools.islice(words, _argc(word))] for _ in range(int(next(words)))]
        for _ in range(int(size)):
            yield from [(next(keys), arguments) for arguments in run]
    assert list(keys) == []


def _text(word: bytes | str | int) -> str:
    return word.decode() if isinstance(word, bytes) else str(word)


def _argc(name: str) -> int:
    return len(next(wanted(policy, 1) for policy in POLICIES if policy.algorithm == name)) - 1


KEYS = st.sampled_from(["a", "b", "c d", "x" * 200, ("a", "b\n"), ()])
COSTS = st.sampled_from([1, 1, 1, 2])
SETS = st.lists(st.sampled_from(POLICIES), min_size=1, max_size=3, unique=True)
REQUESTS = SETS.flatmap(
    lambda policies: st.tuples(*(st.builds(Charge, st.just(each), KEYS, COSTS) for each in policies))
)


@given(st.lists(REQUESTS, min_size=1, max_size=12))
def test_each_charge_of_a_batch_is_sent_with_its_key_and_arguments_in_order(requests: list[Charges]):
    assert list(read(requests)) == [
        (stored_key("p:", policy.namespace, key).encode(), wanted(policy, cost))
        for request in requests
        for policy, key, cost in request
    ]


def test_neighbours_with_the_same_policies_and_costs_share_their_arguments():
    same = [charges((SLIDING, key, 1)) for key in "abc"]
    assert sent(*same) == ["3", "1", *wanted(SLIDING, 1)]
    dearer, other = charges((SLIDING, "d", 2)), charges((OTHER, "d", 1))
    assert sent(*same, dearer, same[0], other) == [
        *("3", "1", *wanted(SLIDING, 1)),
        *("1", "1", *wanted(SLIDING, 2)),
        *("1", "1", *wanted(SLIDING, 1)),
        *("1", "1", *wanted(OTHER, 1)),
    ]
    pairs = [charges((SLIDING, key, 1), (DAY, key, 3)) for key in "ab"]
    assert sent(*pairs, same[0]) == ["2", "2", *wanted(SLIDING, 1), *wanted(DAY, 3), "1", "1", *wanted(SLIDING, 1)]


def test_cached_arguments_are_bounded_and_never_used_for_another_policy():
    """A policy that is collected leaves its id to the next one."""
    scripts._cached_arguments.clear()
    for limit in range(1, 2 * scripts._MAX_CACHED):
        policy = SlidingWindow(limit, window=60)
        assert sent(charges((policy, "a", 1))) == ["1", "1", *wanted(policy, 1)]
        assert len(scripts._cached_arguments) <= scripts._MAX_CACHED
        del policy
        if limit % 256 == 0:
            gc.collect()
    assert len(scripts._cached_arguments) > 1


@pytest.mark.parametrize("beside", [(), (SLIDING,)])
def test_arguments_that_depend_on_the_time_are_never_cached(beside: tuple[Policy, ...]):
    request = charges(*((policy, "a", 1) for policy in (*beside, DAY)))
    today = sent(request)
    server_clock = Still()
    server_clock.now_us = lambda: NOW_US + 86400 * 1_000_000  # type: ignore[method-assign]
    tomorrow = [_text(each) for each in decide_arguments("p:", [request], server_clock)]
    assert tomorrow[-6:-4] == today[-6:-4]  # cost and limit
    assert [int(each) - int(day) for each, day in zip(tomorrow[-4:], today[-4:], strict=True)] == [86400 * 10**6] * 4


ONE, TWO = charges((SLIDING, "a", 1)), charges((SLIDING, "a", 1), (BUCKET, "a", 1))


def test_a_reply_is_parsed_into_the_verdicts_of_each_request():
    repaired, (first, second, third) = parse_reply([ONE, TWO, ONE], [3, 4, 0, 60, 0, 7, 9, 5, 0, 8, 2, -1, 1])
    assert repaired == 3
    assert first == [Verdict(True, 4, 0, 60)]
    assert second == [Verdict(False, 0, 7, 9), Verdict(True, 5, 0, 8)]
    assert third == [Verdict(False, 2, -1, 1)]
    for answer in (first, second, third):
        assert type(answer) is list
        for verdict in answer:
            assert type(verdict) is Verdict
            assert type(verdict.allowed) is bool


@pytest.mark.parametrize("kind", [str, str.encode])
def test_a_fault_in_a_reply_affects_its_own_request_alone(kind):
    reply = [0, kind("CLOCK_MISMATCH 1700000000000000"), 4, 0, 60, 1, 2, 3, kind("WRONGTYPE of a key"), 0, 5, 6]
    repaired, (first, second, third, last) = parse_reply([TWO, TWO, ONE, ONE], reply)
    assert (repaired, first) == (0, ClockMismatch(NOW_US))
    assert second == [Verdict(True, 4, 0, 60), Verdict(False, 1, 2, 3)]
    assert isinstance(third, StoreUnavailable)
    assert "nothing was taken: WRONGTYPE of a key" in str(third)
    assert last == [Verdict(False, 0, 5, 6)]


def test_lines_are_sent_as_one_batch_that_says_which_requests_wait_behind_others():
    lines = [(ONE, ONE), (TWO,), (charges((SLIDING, "a", 2)), ONE, ONE)]
    count, *rest = [_text(each) for each in reserve_arguments("p:", lines, Still())]
    (batch_count, *batch) = [_text(each) for each in _sent(*(request for line in lines for request in line))]
    keys = int(count)
    assert (count, rest[:keys]) == (batch_count, batch[:keys])
    holder, behind, *words = rest[keys:]
    assert (behind, words) == ("010011", batch[keys:])
    assert holder != _text(reserve_arguments("p:", lines, Still())[1 + keys])  # no two calls lend as one holder


def test_a_settlement_is_sent_with_the_arguments_of_its_charge_its_mark_and_what_it_turned_out_to_be():
    settlements = [Settlement(SLIDING, "a", 5, "17 18", 0), Settlement(DAY, "b", 3, b"19", MOST)]
    count, first, second, *words = map(_text, settle_arguments("p:", settlements, Still()))
    assert count == "2"
    assert [first, second] == [stored_key("p:", each.policy.namespace, each.key) for each in settlements]
    assert words == [*wanted(SLIDING, 5), "17 18", "0", *wanted(DAY, 3), "19", str(MOST)]


@pytest.mark.parametrize("kind", [str, str.encode])
def test_a_reply_to_lines_is_parsed_up_to_the_first_request_that_is_not_allowed(kind):
    reply = [1, 4, 0, 60, kind("m1"), 0, 7, 9, kind("m1"), kind("BEHIND"), kind("WRONGTYPE of a key"), kind("BEHIND")]
    reply += [3, 0, 60, kind("m2"), 5, 0, 8, kind("m3")]
    repaired, (first, second, third) = parse_reserved([(ONE, ONE, ONE), (TWO, ONE), (TWO,)], reply)
    assert repaired == 1
    assert first == [[Verdict(True, 4, 0, 60)], [Verdict(False, 0, 7, 9)]]
    assert [type(answer) for answer in first] == [Reserved, list]
    assert first[0].marks == [kind("m1")]
    assert [type(answer) for answer in second] == [StoreUnavailable]
    assert third == [[Verdict(True, 3, 0, 60), Verdict(True, 5, 0, 8)]]
    assert third[0].marks == [kind("m2"), kind("m3")]


def test_a_reply_to_lines_of_one_request_each_is_parsed_alike_with_and_without_a_fault():
    reply = [2, 4, 0, 60, "m1", 0, 7, 9, "m1", 3, 0, 60, "m2"]
    lines = [(ONE,)] * 3
    repaired, (first, second, third) = parse_reserved(lines, reply)
    assert repaired == 2
    assert [first, second, third] == [
        [[Verdict(True, 4, 0, 60)]],
        [[Verdict(False, 0, 7, 9)]],
        [[Verdict(True, 3, 0, 60)]],
    ]
    assert [type(line[0]) for line in (first, second, third)] == [Reserved, list, Reserved]
    assert [*first[0].marks, *third[0].marks] == ["m1", "m2"]
    _, (*others, faulty) = parse_reserved([*lines, (ONE,)], [*reply, "CLOCK_MISMATCH 1700000000000000"])
    assert others == [first, second, third]
    assert faulty == [ClockMismatch(NOW_US)]


@pytest.mark.parametrize("kind", [str, str.encode])
def test_a_reply_to_settlements_says_of_each_whether_it_was_there_or_what_is_wrong_with_its_key(kind):
    there, gone, wrong = parse_settled([1, 0, kind("WRONGTYPE of a key")])
    assert (there, gone) == (True, False)
    assert isinstance(wrong, StoreUnavailable)
    assert "nothing was settled: WRONGTYPE of a key" in str(wrong)


def test_each_verb_has_one_script_with_all_algorithms_and_inlined_constants():
    made = scripts.Scripts()
    every = made.decide, made.peek, made.reserve, made.settle, made.block
    assert len({script.sha for script in every}) == 5
    assert made.peek.source.startswith("#!lua flags=no-writes\n")
    for source in (script.source for script in every):
        assert all(f"if name == '{name}' then" in source for name in algorithms.BY_NAME)
        code = "\n".join(line.split("--")[0] for line in source.splitlines())
        assert "COMMIT" not in code
        assert "RESERVE" not in code
        assert "HEADER" not in code
