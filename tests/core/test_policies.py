"""The policies of one limiter: what a key and a cost charge, and what is said of keys and costs that charge nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum

import pytest

from sluicegate import (
    CalendarWindow,
    FixedWindow,
    InvalidCost,
    InvalidKey,
    InvalidPolicy,
    InvalidRate,
    Limiter,
    MemoryStore,
    SlidingWindow,
    TokenBucket,
)
from sluicegate._core.keys import Key, key_bytes, memory_key
from sluicegate._core.policies import Policies
from sluicegate._core.request import Request
from sluicegate._stores.redis.stored_keys import stored_key

USER = TokenBucket(100, window=60, per="user")
TENANT = SlidingWindow(1000, window=60, per="tenant", name="tenant")
ENDPOINT = FixedWindow(20, window=60, per=("user", "endpoint"), name="endpoint")
ALL = CalendarWindow(5000, every="day", shared=True, name="all")
PLAIN = SlidingWindow(5, window=60)
BOTH = (PLAIN, TokenBucket(10, window=1))

FOUR = Policies([USER, TENANT, ENDPOINT, ALL])
KEY = {"user": "alice", "tenant": "acme", "endpoint": "/pay"}
WHOSE = {"user": USER.name, "tenant": TENANT.name, "endpoint": ENDPOINT.name}


class Word(str, Enum):  # noqa: UP042 - a StrEnum writes itself as its text, these as Word.USER
    USER = "user"
    ALICE = "alice"
    PARIS = "Europe/Paris"
    DAY = "day"


def test_text_of_a_class_of_its_own_is_taken_as_the_text_that_it_is():
    ((_, key, _),) = Policies([PLAIN]).charges(Word.ALICE)
    assert type(key) is str
    policy = SlidingWindow(5, window=60, per=Word.USER, name=Word.ALICE)
    assert policy.namespace == SlidingWindow(5, window=60, per="user", name="alice").namespace
    assert [type(text) for text in (policy.name, *policy.per)] == [str, str]
    ((_, key, _),) = Policies([policy]).charges({Word.USER: Word.ALICE})
    assert type(key) is str
    calendar = CalendarWindow(5, every=Word.DAY, timezone=Word.PARIS)
    assert (calendar.name, calendar.namespace) == (
        "calendar-window-day-Europe-Paris",
        "calendar-window:calendar-window-day-Europe-Paris:day@Europe/Paris",
    )


class Hostile(Mapping):
    """A mapping that would never end, and says so when it is read further than it need be."""

    def __init__(self, first: object) -> None:
        self.first = first

    def __iter__(self) -> Iterator[object]:
        yield self.first
        raise AssertionError("read on after an attribute that nobody counts by")

    def __len__(self) -> int:
        return 10**9

    def __getitem__(self, name: object) -> str:
        return "a"


# What is charged


def test_each_policy_charges_what_it_counts_by_in_its_own_order():
    assert FOUR.charges(KEY) == (
        (USER, "alice", 1),
        (TENANT, "acme", 1),
        (ENDPOINT, ("alice", "/pay"), 1),
        (ALL, (), 1),
    )
    assert FOUR.charges(dict(reversed(KEY.items()))) == FOUR.charges(KEY)
    turned = Policies([TokenBucket(5, window=1, per=("endpoint", "user"))])
    assert turned.charges({"user": "alice", "endpoint": "/pay"})[0][1] == ("/pay", "alice")


def test_a_plain_key_is_counted_by_all_policies_that_are_not_shared():
    assert Policies([*BOTH, ALL]).charges("alice", 3) == (
        (PLAIN, "alice", 3),
        (BOTH[1], "alice", 3),
        (ALL, (), 3),
    )


def test_shared_policies_alone_go_with_any_key_that_has_no_attributes():
    shared = Policies([ALL])
    assert shared.charges("alice") == shared.charges("") == shared.charges({}) == ((ALL, (), 1),)
    with pytest.raises(InvalidKey, match="counts by attribute 'user': expected none"):
        shared.charges({"user": "alice"})
    for key in (None, 5, b"alice", ("alice",)):
        with pytest.raises(InvalidKey, match="key must be a str, got "):
            shared.charges(key)


def test_one_number_is_the_cost_for_all_and_a_mapping_names_the_policies():
    assert [cost for _, _, cost in FOUR.charges(KEY, 7)] == [7] * 4
    assert [cost for _, _, cost in FOUR.charges(KEY, {"tenant": 7, "all": 10**11})] == [1, 7, 1, 10**11]
    assert [cost for _, _, cost in FOUR.charges(KEY, {})] == [1] * 4
    assert [cost for _, _, cost in Policies([PLAIN]).charges("a", {PLAIN.name: 2})] == [2]


def test_the_policies_say_what_their_keys_have_to_have():
    assert FOUR.names == ("token-bucket-60s-per-user", "tenant", "endpoint", "all")
    assert FOUR.attributes == ("user", "tenant", "endpoint")
    assert (FOUR.only_plain, Policies([PLAIN]).only_plain, Policies(BOTH).only_plain, Policies([ALL]).only_plain) == (
        None,
        PLAIN,
        None,
        None,
    )
    assert Policies([PLAIN]).attributes == ()


def test_rate_strings_stand_for_sliding_windows_in_their_order():
    assert Policies(["100/hour; 3/minute", USER.with_limit(5), "10/s"][::2]).all == (
        SlidingWindow(100, window=3600),
        SlidingWindow(3, window=60),
        SlidingWindow(10, window=1),
    )


def test_with_other_limits_only_the_policies_that_they_name_are_others():
    request = FOUR.with_limits(FOUR.charges(KEY, 2), {"tenant": 5, USER.name: 7})
    assert [policy.limit for policy, _, _ in request] == [7, 5, 20, 5000]
    assert [charge[1:] for charge in request] == [charge[1:] for charge in FOUR.charges(KEY, 2)]
    assert request[0][0].burst == 7
    assert FOUR.with_limits(FOUR.charges(KEY), {}) == FOUR.charges(KEY)
    with pytest.raises(InvalidPolicy, match="limit can be 150119987 at most"):
        FOUR.with_limits(FOUR.charges(KEY), {USER.name: 10**11})


def test_thousands_of_limits_take_no_more_room_than_a_thousand():
    policies = Policies([PLAIN])
    for limit in range(1, 5000):
        ((policy, _, _),) = policies.with_limits(policies.charges("a"), {PLAIN.name: limit})
        assert policy.limit == limit
        assert len(policies._variants) <= 1024


# Keys that are refused


NOT_TEXT = [None, 1, 1.5, True, b"alice", ["alice"], {"alice"}, ("alice",), object]


def shown(key: object) -> str:
    """Return what a message shows of a key, or of a value of one, which may be secret."""
    return repr(key) if key is None or type(key) in (int, float, bool) else f"one of type {type(key).__name__}"


@pytest.mark.parametrize("key", ["alice", *NOT_TEXT], ids=lambda key: repr(key)[:20])
def test_policies_with_attributes_refuse_a_key_that_is_no_mapping_and_say_which_they_need(key):
    expected = (
        "key must be a mapping with user, tenant, endpoint, as policy token-bucket-60s-per-user counts by user; got "
    )
    for ask in (FOUR.charges, FOUR.counters):
        with pytest.raises(InvalidKey) as caught:
            ask(key)
        assert str(caught.value) == expected + shown(key) + '; write {"user": ..., "tenant": ..., "endpoint": ...}'
        assert (caught.value.policy, caught.value.attribute) == (USER.name, "user")


@pytest.mark.parametrize("key", [{"user": "alice"}, {}, Hostile("user")], ids=["one", "empty", "hostile"])
def test_a_policy_of_plain_keys_refuses_a_mapping_and_says_how_it_would_take_one(key):
    for ask in (Policies(BOTH).charges, Policies(BOTH).counters):
        with pytest.raises(
            InvalidKey, match=r"key must be a str, got .* counts by a plain key; for a mapping"
        ) as caught:
            ask(key)
        assert str(caught.value).endswith("give it a per=")
        assert (caught.value.policy, caught.value.attribute) == (PLAIN.name, None)


@pytest.mark.parametrize(
    ("lacking", "policy", "had"),
    [
        ("user", USER.name, "tenant, endpoint"),
        ("tenant", "tenant", "user, endpoint"),
        ("endpoint", "endpoint", "user, tenant"),
    ],
)
def test_a_missing_attribute_is_named_with_the_policy_that_counts_by_it(lacking: str, policy: str, had: str):
    with pytest.raises(InvalidKey) as caught:
        FOUR.charges({name: value for name, value in KEY.items() if name != lacking})
    assert str(caught.value) == (
        f"key must be a mapping with user, tenant, endpoint, as policy {policy} counts by {lacking}; got one with {had}"
    )
    assert (caught.value.policy, caught.value.attribute) == (policy, lacking)


def test_a_key_without_any_attribute_lacks_the_first_one():
    with pytest.raises(InvalidKey, match="counts by user; got one with none") as caught:
        FOUR.charges({})
    assert (caught.value.policy, caught.value.attribute) == (USER.name, "user")


STRANGERS = ["ip", "User", "user ", "", "\ud800", "u" * 10**6, b"user", 5, None, True, ("user",)]


@pytest.mark.parametrize("stranger", STRANGERS, ids=lambda each: ascii(each)[:20])
def test_an_attribute_that_nobody_counts_by_is_refused_so_that_none_is_misspelt(stranger):
    for ask in (FOUR.charges, FOUR.counters):
        with pytest.raises(InvalidKey, match="no policy of this limiter counts by attribute ") as caught:
            ask({**KEY, stranger: "a"})
        assert str(caught.value).partition("; did you mean ")[0].endswith(": expected user, tenant, endpoint")
        assert (caught.value.policy, caught.value.attribute) == (None, stranger if isinstance(stranger, str) else None)
        assert len(str(caught.value)) < 200
        str(caught.value).encode()


def test_a_hostile_mapping_is_read_no_further_than_its_first_wrong_attribute():
    for ask in (FOUR.charges, FOUR.counters, Policies([ALL]).charges):
        with pytest.raises(InvalidKey, match="counts by attribute 'ip'"):
            ask(Hostile("ip"))


@pytest.mark.parametrize("attribute", ["user", "tenant", "endpoint"])
@pytest.mark.parametrize("value", [*NOT_TEXT, {"a": "b"}], ids=lambda value: repr(value)[:20])
def test_the_value_of_an_attribute_has_to_be_text(attribute: str, value):
    for ask in (FOUR.charges, FOUR.counters):
        with pytest.raises(InvalidKey) as caught:
            ask({**KEY, attribute: value})
        said = f"attribute {attribute} of the key must be a str, got {shown(value)}"
        assert str(caught.value).partition(";")[0] == said
        assert (caught.value.policy, caught.value.attribute) == (WHOSE[attribute], attribute)


@pytest.mark.parametrize("attribute", ["user", "tenant", "endpoint"])
def test_a_lone_surrogate_in_an_attribute_is_refused_and_not_shown(attribute: str):
    with pytest.raises(
        InvalidKey,
        match=f"attribute {attribute} of the key must be valid Unicode text, got one with a lone surrogate at 1$",
    ) as caught:
        FOUR.charges({**KEY, attribute: "a\ud800" + "b" * 10**5})
    assert (caught.value.policy, caught.value.attribute) == (WHOSE[attribute], attribute)


# Costs that are refused

NO_COSTS = [0, -1, 1.0, True, False, None, "1", [], 10**11 + 1, float("nan"), {"a": 1}]


@pytest.mark.parametrize("cost", NO_COSTS[:-1], ids=repr)
def test_a_cost_that_is_no_whole_number_is_refused_for_all_policies(cost):
    with pytest.raises(InvalidCost, match=r"^cost must be a whole number from 1 to 100000000000, got ") as caught:
        FOUR.charges(KEY, cost)
    assert caught.value.cost is cost
    assert caught.value.policy is None


@pytest.mark.parametrize("cost", NO_COSTS, ids=repr)
@pytest.mark.parametrize("name", ["tenant", "all"])
def test_a_cost_that_is_no_whole_number_is_refused_under_its_name(name: str, cost):
    with pytest.raises(
        InvalidCost, match=f"^cost of policy {name} must be a whole number from 1 to .*, got "
    ) as caught:
        FOUR.charges(KEY, {"endpoint": 2, name: cost})
    assert caught.value.cost is cost
    assert caught.value.policy == name


@pytest.mark.parametrize(
    "name", ["user", "Tenant", "", "\ud800", "n" * 10**6, 5, None, ("all",)], ids=lambda n: ascii(n)[:20]
)
def test_a_cost_for_a_policy_that_is_not_there_is_refused_and_those_that_are_there_are_named(name):
    cost = {"tenant": 2, name: 1}
    with pytest.raises(InvalidCost, match=r"^no policy of this limiter is named ") as caught:
        FOUR.charges(KEY, cost)
    assert (
        str(caught.value).partition("; did")[0].endswith(": there is token-bucket-60s-per-user, tenant, endpoint, all")
    )
    assert caught.value.cost is cost
    assert caught.value.policy == (name if isinstance(name, str) else None)
    assert len(str(caught.value)) < 200
    str(caught.value).encode()


def test_a_hostile_mapping_of_costs_is_read_no_further_than_its_first_wrong_name():
    with pytest.raises(InvalidCost, match="is named 'ip'"):
        FOUR.charges(KEY, Hostile("ip"))


# Policies that cannot stand together


def test_no_policy_is_refused():
    with pytest.raises(InvalidPolicy, match=r"policy must be one such as .* or a rate such as '100/minute', got none"):
        Policies([])


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ([PLAIN, PLAIN], "sliding-window-60s"),
        ([PLAIN, SlidingWindow(6, window=60)], "sliding-window-60s"),
        (["5/minute", "6/minute"], "sliding-window-60s"),
        (["5/minute", "6/60s"], "sliding-window-60s"),
        ([PLAIN, "100/hour;6/minute"], "sliding-window-60s"),
        ([SlidingWindow(5, window=60, name="a"), TokenBucket(5, window=1, name="a")], "a"),
        ([SlidingWindow(5, window=60, name="a", per="user"), SlidingWindow(5, window=60, name="a", per="ip")], "a"),
    ],
    ids=repr,
)
def test_two_policies_of_one_name_in_one_limiter_are_refused(given, name: str):
    with pytest.raises(InvalidPolicy, match=f"two policies of one limiter are both named {name}: give each a name="):
        Policies(given)


def test_one_window_twice_in_one_rate_string_is_refused_where_it_stands():
    with pytest.raises(InvalidRate, match="each window once"):
        Policies(["5/minute;6/60s"])


def test_a_policy_of_plain_keys_beside_one_of_attributes_is_refused():
    for given in ([PLAIN, USER], [USER, ALL, PLAIN], ["5/minute", ENDPOINT]):
        with pytest.raises(InvalidPolicy, match="no key could serve all policies of this limiter") as caught:
            Policies(given)
        assert "sliding-window-60s counts by a plain key, others by user" in str(caught.value)
        assert str(caught.value).endswith("give each a per=, or make it shared=True")
    Policies([USER, ALL])
    Policies([PLAIN, ALL])


# Counters, of a key or of a part of it


def test_a_key_names_the_counters_of_all_policies_but_never_a_shared_one():
    assert FOUR.counters(KEY) == [(USER, "alice"), (TENANT, "acme"), (ENDPOINT, ("alice", "/pay"))]
    assert Policies([*BOTH, ALL]).counters("alice") == [(PLAIN, "alice"), (BOTH[1], "alice")]
    for key in ("alice", {}):
        with pytest.raises(InvalidKey, match="all policies of this limiter are shared"):
            Policies([ALL]).counters(key)


def test_a_part_of_a_key_names_the_counters_of_the_policies_whose_attributes_it_has():
    assert FOUR.counters({"user": "alice"}) == [(USER, "alice")]
    assert FOUR.counters({"tenant": "acme"}) == [(TENANT, "acme")]
    assert FOUR.counters({"endpoint": "/pay", "user": "alice"}) == [
        (USER, "alice"),
        (ENDPOINT, ("alice", "/pay")),
    ]
    assert FOUR.counters({"endpoint": "/pay", "tenant": "acme"}) == [(TENANT, "acme")]


def test_a_part_that_no_policy_counts_by_alone_is_refused():
    for part, had in (({"endpoint": "/pay"}, "endpoint"), ({}, "nothing")):
        with pytest.raises(
            InvalidKey, match=f"counts by {had} alone: the key must have user, or tenant, or user and"
        ) as caught:
            FOUR.counters(part)
        assert (caught.value.policy, caught.value.attribute) == (USER.name, "user")


# Keys of several parts stay apart


def written(policies: Policies, key) -> list[str]:
    return [stored_key("sluicegate:", policy.namespace, counted) for policy, counted, _ in policies.charges(key)]


PAIR = SlidingWindow(1, window=60, per=("user", "endpoint"), name="pair")
CLOSE_PAIRS = [
    ("a/b", "c"),
    ("a", "b/c"),
    ("a,b", "c"),
    ("a", "b,c"),
    ("a", ""),
    ("", "a"),
    ("", ""),
    ("%", ""),
    ("a}", "b"),
    ("a", "}b"),
    ("1:a", "b"),
    ("a\0", "b"),
    ("a", "\0b"),
    ("a" * 300, "b"),
    ("a" * 299, "ab"),
    ("a" * 300, "c"),
    ("b", "a" * 300),
    ("é" * 200, "b"),
    ("é" * 199, "éb"),
]


def test_keys_whose_parts_join_to_one_text_are_counted_apart_in_memory_and_on_a_server():
    policies = Policies([PAIR])
    keys = [{"user": user, "endpoint": endpoint} for user, endpoint in CLOSE_PAIRS]
    assert len({written(policies, key)[0] for key in keys}) == len(keys)
    limiter = Limiter(PAIR)
    assert all(limiter.allow(key) for key in keys)
    assert not any(limiter.allow(key) for key in keys)


def allowed(store: MemoryStore, policies: Policies, key: Key) -> bool:
    (verdict,) = store.decide(Request(policies.charges(key)))
    return verdict.allowed


def test_a_plain_key_made_of_the_bytes_of_several_parts_is_another_key():
    # Two limiters in one process are refused: these are of two, or of one that was closed.
    store, pairs, plain = MemoryStore(), Policies([PAIR]), Policies([SlidingWindow(1, window=60, name="pair")])
    for user, endpoint in CLOSE_PAIRS:
        assert allowed(store, pairs, {"user": user, "endpoint": endpoint})
        parts = key_bytes((user, endpoint))
        for key in (
            parts.decode("latin-1"),
            parts.decode(errors="replace"),
            parts[1:].decode(),
            key_bytes(memory_key((user, endpoint))).hex(),
        ):
            assert allowed(store, plain, key), (user, endpoint)
            store.forget(plain.counters(key))
    assert not any(allowed(store, pairs, {"user": user, "endpoint": endpoint}) for user, endpoint in CLOSE_PAIRS)


def test_no_plain_key_is_written_like_the_shared_counter():
    shared, plain = (
        Policies([SlidingWindow(1, window=60, shared=True, name="a")]),
        Policies([SlidingWindow(1, window=60, name="a")]),
    )
    for key in ("*", "", "()", "%2A"):
        assert written(plain, key) != written(shared, key)
    store = MemoryStore()
    assert allowed(store, shared, "x")
    assert all(allowed(store, plain, key) for key in ("*", "", "()"))


# What is given in place of a policy


@pytest.mark.parametrize(
    ("came", "advice"),
    [
        ([USER], "got a list of 1: give them one by one, Limiter\\(\\*policies\\)$"),
        ((), "got a tuple of 0: give them one by one, Limiter\\(\\*policies\\)$"),
        (SlidingWindow, "got the class SlidingWindow$"),
        (100, "got 100$"),
        (MemoryStore(), "got a MemoryStore: give it as store=$"),
        ("redis://user:s3cret@h:6379/0", "got a URL: give it as store=$"),
    ],
    ids=["list", "tuple", "class", "number", "store", "url"],
)
def test_what_is_no_policy_is_refused_with_what_to_do(came, advice: str):
    with pytest.raises(InvalidPolicy, match="policy must be one such as .*, " + advice) as caught:
        Policies([USER, came])
    assert "s3cret" not in str(caught.value)


def test_a_word_that_is_nearly_right_is_proposed():
    for attempt, word in (
        (lambda: FOUR.charges({"usr": "a"}), "user"),
        (lambda: FOUR.charges({"user": "a", "tenant": "t", "endpoint": "e"}, {"Tenant": 1}), "tenant"),
    ):
        with pytest.raises((InvalidKey, InvalidCost), match=f"; did you mean {word}\\?$"):
            attempt()
