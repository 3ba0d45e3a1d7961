"""The response fields that the web layer writes, read by two parsers of structured fields (RFC 9651 and RFC 8941)."""

from __future__ import annotations

import importlib.util
import math
from typing import Any

import http_sf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate import AsyncLimiter, CalendarWindow, Concurrency, FixedWindow, MemoryStore, SlidingWindow, TokenBucket
from sluicegate._core.decision import NEVER, Decision, Verdict, decision_of
from sluicegate._core.policy import MAX_UNITS, MAX_WINDOW_US, Policy
from sluicegate.web import headers
from sluicegate.web.limiters import LimiterOfSet, field_list

BOTH = ("RateLimit", "X-RateLimit")

Items = list[tuple[str, dict[str, Any]]]


def by_http_sf(value: bytes) -> Items:
    return [(name, dict(parameters)) for name, parameters in http_sf.parse(value, tltype="list")]


def by_http_sfv(value: bytes) -> Items:
    import http_sfv

    items = http_sfv.List()
    items.parse(value)
    return [(item.value, dict(item.params)) for item in items]


def parsed(value: bytes) -> Items:
    """Return a field's items, on which both parsers must agree."""
    items = by_http_sf(value)
    if importlib.util.find_spec("http_sfv") is not None:
        assert by_http_sfv(value) == items
    return items


names = st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True)
units = st.integers(1, 1000) | st.integers(1, MAX_UNITS)
windows = st.sampled_from([1.0, 60.0, 3600.0]) | st.integers(1, MAX_WINDOW_US).map(lambda us: us / 1_000_000)
waits_us = st.just(NEVER) | st.integers(1, 5_000_000) | st.integers(1, MAX_WINDOW_US)


@st.composite
def policies(draw: st.DrawFn, name: str) -> Policy:
    limit = draw(units)
    kind = draw(st.sampled_from(["sliding", "bucket", "fixed", "calendar", "permits"]))
    if kind == "calendar":
        return CalendarWindow(limit, every=draw(st.sampled_from(["hour", "day", "week", "month", "year"])), name=name)
    if kind == "permits":
        return Concurrency(min(limit, 1000), name=name)
    if kind == "bucket":
        return TokenBucket(min(limit, 1000), window=draw(st.sampled_from([1, 60, 3600])), name=name)
    return (SlidingWindow if kind == "sliding" else FixedWindow)(limit, window=draw(windows), name=name)


@st.composite
def decided(draw: st.DrawFn) -> list[tuple[LimiterOfSet, Decision]]:
    """Draw the one or two sets of policies that were decided for a request, and the decisions on them."""
    taken = draw(st.lists(names, min_size=1, max_size=5, unique=True))
    cut = draw(st.integers(1, len(taken)))
    found = []
    for own in filter(None, (taken[:cut], taken[cut:])):
        chosen = [draw(policies(name)) for name in own]
        verdicts = []
        for policy in chosen:
            allowed, remaining = draw(st.booleans()), draw(st.integers(0, policy.limit))
            wait_us = 0 if allowed else draw(waits_us)
            verdicts.append(Verdict(allowed, remaining, wait_us, draw(st.integers(0, MAX_WINDOW_US))))
        limits = [policy.limit for policy in chosen]
        limiter = AsyncLimiter(*chosen, store=MemoryStore())
        found.append((LimiterOfSet(limiter), decision_of(own, limits, verdicts)))
    return found


def quota(policy: Policy) -> dict[str, Any]:
    """Return the parameters of a policy, by the text of the draft."""
    if isinstance(policy, Concurrency):
        return {"q": policy.limit, "qu": "concurrent-requests"}
    if policy.window_us >= 1_000_000:
        return {"q": policy.limit, "w": math.ceil(policy.window_us / 1_000_000)}
    return {"q": min(policy.limit * 1_000_000 // policy.window_us, headers.MAX_INTEGER), "w": 1}


def service(part: Decision) -> dict[str, Any]:
    if part.allowed or math.isinf(part.retry_after):
        return {"r": part.remaining}
    return {"r": part.remaining, "t": max(1, math.ceil(part.retry_after))}


@given(decided())
def test_what_goes_into_the_fields_comes_out_of_them(found: list[tuple[LimiterOfSet, Decision]]):
    fields = dict(field_list(found, BOTH))
    every_policy = {policy.name: quota(policy) for each, _ in found for policy in each.limiter.policies}
    every_part = {part.policy: service(part) for _, decision in found for part in decision.decisions}

    quotas, services = parsed(fields[b"ratelimit-policy"]), parsed(fields[b"ratelimit"])
    assert dict(quotas) == every_policy and len(quotas) == len(every_policy)
    assert dict(services) == every_part and len(services) == len(every_part)


@given(decided())
def test_the_policy_that_decides_comes_first(found: list[tuple[LimiterOfSet, Decision]]):
    first = parsed(dict(field_list(found, BOTH))[b"ratelimit"])[0]
    deciding = min((decision for _, decision in found), key=lambda each: (each.allowed, each.remaining))
    assert first[0] in {
        decision.policy
        for _, decision in found
        if (decision.allowed, decision.remaining) == (deciding.allowed, deciding.remaining)
    }


@given(decided())
def test_the_older_fields_are_whole_numbers_of_the_policy_that_comes_first(found: list[tuple[LimiterOfSet, Decision]]):
    fields = dict(field_list(found, BOTH))
    name = parsed(fields[b"ratelimit"])[0][0]
    decision = next(decision for _, decision in found if decision.policy == name)
    limit, remaining, reset = (int(fields[b"x-ratelimit-" + each]) for each in (b"limit", b"remaining", b"reset"))
    assert (limit, remaining) == (decision.limit, decision.remaining)
    ends = decision.reset_after if decision.allowed or math.isinf(decision.retry_after) else decision.retry_after
    assert reset == math.ceil(ends)


@given(decided())
def test_the_quick_way_and_the_library_write_the_same(found: list[tuple[LimiterOfSet, Decision]]):
    """The web layer writes items by hand; `headers` has the library write them."""
    for each, decision in found:
        fields = dict(field_list([(each, decision)], ("RateLimit",)))
        by_library = headers.fields(decision, each.limiter.policies)
        assert fields[b"ratelimit-policy"].decode() == by_library["RateLimit-Policy"]
        assert sorted(parsed(fields[b"ratelimit"])) == sorted(by_http_sf(by_library["RateLimit"].encode()))


@given(decided())
def test_no_t_is_longer_than_the_retry_after_of_its_decision(found: list[tuple[LimiterOfSet, Decision]]):
    for each, decision in found:
        wait = headers.retry_after(decision)
        if wait:
            items = parsed(dict(field_list([(each, decision)], ("RateLimit",)))[b"ratelimit"])
            assert max(parameters.get("t", 0) for _, parameters in items) == wait


@given(decided())
def test_fields_are_of_those_sets_that_were_asked_for(found: list[tuple[LimiterOfSet, Decision]]):
    both = field_list(found, BOTH)
    assert field_list(found, ("RateLimit",)) == both[:2]
    assert field_list(found, ("X-RateLimit",)) == both[2:]
    assert field_list(found, ()) == []


@given(decided())
def test_what_was_not_limited_has_no_fields(found: list[tuple[LimiterOfSet, Decision]]):
    exempt = []
    for each, decision in found:
        parts = decision.decisions
        verdicts = [Verdict(True, part.remaining, 0, 0) for part in parts]
        bypass = decision_of([part.policy for part in parts], [part.limit for part in parts], verdicts, "bypass")
        exempt.append((each, bypass))
    assert field_list(exempt, BOTH) == []
    assert field_list([*exempt, found[0]], BOTH) == field_list([found[0]], BOTH)


@pytest.mark.parametrize("name", ["a", "-", ".", "Z9._-", "a" * 64])
def test_names_are_strings_and_never_tokens(name: str):
    assert headers.string(name) == f'"{name}"'
