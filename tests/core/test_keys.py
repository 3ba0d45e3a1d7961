"""Keys: how they are written on a server and kept in memory: distinct, printable, bounded, the subject as hash tag."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate._core.keys import Digest, key_bytes, memory_key
from sluicegate._stores.redis.stored_keys import stored_key, stored_keys, subject

# Around what has a meaning: separators, escapes, the marks of an empty key and of a digest, and the length that is cut.
TEXT = st.one_of(st.text(), st.text("%~{}:0aZé\0", max_size=6), st.text("ab%", min_size=80, max_size=300))


@given(st.lists(TEXT, min_size=2, max_size=8, unique=True))
def test_no_two_keys_are_written_alike(keys: list[str]):
    assert len({subject(key) for key in keys}) == len(keys)
    assert len({memory_key(key) for key in keys}) == len(keys)


@given(TEXT)
def test_a_subject_is_printable_bounded_and_a_hash_tag(key: str):
    assert re.fullmatch(r"[A-Za-z0-9._@:/+=%~-]{1,256}", subject(key))
    tag = re.search(r"\{(.*?)\}", stored_key("sluicegate:", "sliding-window:x:1", key))
    assert tag
    assert tag[1] == subject(key)


PARTS = st.one_of(TEXT, st.text("a,b:1{}*%\xff", max_size=4))
COUNTED = st.one_of(PARTS, st.lists(PARTS, min_size=2, max_size=8).map(tuple), st.just(()))
NAMESPACES = st.sampled_from(
    ["sliding-window:x:1", "token-bucket:x-per-user:60000000", "calendar-window:m:month@Europe/Paris"]
)


@given(st.lists(st.tuples(NAMESPACES, COUNTED), min_size=2, max_size=8, unique=True))
def test_no_two_counters_are_written_alike_however_many_parts_they_are_of(
    counters: list[tuple[str, str | tuple[str, ...]]],
):
    assert len({stored_key("sluicegate:", namespace, counted) for namespace, counted in counters}) == len(counters)


@given(st.lists(COUNTED, min_size=2, max_size=8, unique=True))
def test_no_two_counters_are_held_alike_in_memory(counters: list[str | tuple[str, ...]]):
    assert len({memory_key(counted) for counted in counters}) == len(counters)
    assert len({key_bytes(counted) for counted in counters}) == len(counters)


@given(st.lists(PARTS, min_size=2, max_size=8).map(tuple))
def test_the_first_of_several_parts_is_the_hash_tag_and_the_others_follow_in_order(parts: tuple[str, ...]):
    first, *rest = map(subject, parts)
    assert stored_key(
        "sluicegate:", "fixed-window:x:1", parts
    ) == "sluicegate:{" + first + "}:fixed-window:x:1," + ",".join(rest)


@given(st.lists(COUNTED, min_size=1, max_size=8))
def test_many_keys_are_written_as_each_by_itself(keys: list[str | tuple[str, ...]]):
    for prefix, namespace in (
        ("sluicegate:", "fixed-window:x:1"),
        ("é{x}\\1:", "calendar-window:m:month@Europe/Paris"),
    ):
        each = [stored_key(prefix, namespace, key).encode() for key in keys]
        assert stored_keys(prefix, namespace, keys) == each


@pytest.mark.parametrize("odd", ["a\nb", "\n", "a\n", "\na", "", "x" * 129, "%", "é", ("a", "b"), ()])
def test_a_key_that_is_not_plain_among_plain_ones_is_written_as_by_itself(odd: str | tuple[str, ...]):
    for keys in ([odd, "a", "b"], ["a", odd, "b"], ["a", "b", odd], [odd], ["x" * 128, "a"]):
        assert stored_keys("p:", "n:1", keys) == [stored_key("p:", "n:1", key).encode() for key in keys]


def test_a_counter_of_several_parts_reads_like_them():
    assert (
        stored_key("sluicegate:", "token-bucket:pay:60000000", "alice")
        == "sluicegate:{alice}:token-bucket:pay:60000000"
    )
    assert stored_key("sluicegate:", "token-bucket:pay:60000000", ("alice", "/pay")) == (
        "sluicegate:{alice}:token-bucket:pay:60000000,/pay"
    )
    assert stored_key("sluicegate:", "token-bucket:pay:60000000", ()) == "sluicegate:{*}:token-bucket:pay:60000000"


def test_what_is_held_of_long_parts_is_bounded_and_told_from_any_text():
    long = memory_key(("a" * 200, "b" * 57))
    assert isinstance(long, Digest)
    assert len(long.value) == 32
    assert memory_key(("a" * 200, "b" * 56)) == ("a" * 200, "b" * 56)
    assert long != memory_key(("a" * 199, "b" * 58))
    assert key_bytes(("a", "b"))[:1] == b"\xff"  # which no UTF-8 begins with


def test_a_subject_reads_like_its_key():
    assert subject("user:alice@example.com/v1") == "user:alice@example.com/v1"
    assert subject("a b{c}") == "a%20b%7Bc%7D"
    assert subject("") == "%"
    assert subject("x" * 257).startswith("~")
