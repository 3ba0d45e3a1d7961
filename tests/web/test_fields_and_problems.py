"""Response fields and problem documents, from decisions made on a clock that stands still."""

from __future__ import annotations

import math

import http_sf
import pytest

from sluicegate import (
    CalendarWindow,
    Concurrency,
    Decision,
    FixedWindow,
    Limiter,
    MemoryStore,
    SlidingWindow,
    TokenBucket,
)
from sluicegate._core.decision import Verdict, decision_of
from sluicegate.testing import ManualClock
from sluicegate.web import headers, problem


def denied(policy: SlidingWindow, *, after: float = 0.0, cost: int = 1) -> Decision:
    """Fill ``policy`` for one key, let ``after`` seconds pass, and ask once more."""
    clock = ManualClock()
    limiter = Limiter(policy, store=MemoryStore(clock=clock))
    limiter.take("a", policy.limit)
    clock.advance(after)
    return limiter.take("a", cost)


def together(*parts: tuple[str, int, Verdict]) -> Decision:
    """Make the decision of several policies, each with its name, its limit and its verdict."""
    names, limits, verdicts = zip(*parts, strict=True)
    return decision_of(names, limits, verdicts)


def parsed(field: str) -> list:
    return http_sf.parse(field.encode(), tltype="list")


# RateLimit-Policy


def test_the_policy_field_names_each_policy_with_its_quota_and_window():
    policies = [SlidingWindow(100, window=60, name="burst"), SlidingWindow.per_day(1000)]
    field = headers.rate_limit_policy(policies)
    assert field == '"burst";q=100;w=60, "sliding-window-86400s";q=1000;w=86400'
    assert parsed(field) == [("burst", {"q": 100, "w": 60}), ("sliding-window-86400s", {"q": 1000, "w": 86400})]


@pytest.mark.parametrize(
    ("limit", "window", "expected"),
    [
        (10, 1, {"q": 10, "w": 1}),
        (10, 1.000001, {"q": 10, "w": 2}),
        (10, 2.5, {"q": 10, "w": 3}),
        (10, 0.25, {"q": 40, "w": 1}),
        (10, 0.3, {"q": 33, "w": 1}),
        (1, 0.999999, {"q": 1, "w": 1}),
        (1, 0.000001, {"q": 10**6, "w": 1}),
    ],
)
def test_a_window_that_is_no_whole_number_of_seconds_becomes_one_that_never_promises_more(limit, window, expected):
    ((_, params),) = parsed(headers.rate_limit_policy([SlidingWindow(limit, window=window)]))
    assert params == expected


def test_a_quota_stays_within_what_a_structured_field_can_carry():
    field = headers.rate_limit_policy([SlidingWindow(10**11, window=0.000001)])
    assert parsed(field)[0][1]["q"] == 999_999_999_999_999


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (TokenBucket(100, window=60, burst=5), {"q": 100, "w": 60}),
        (TokenBucket(10, window=0.25), {"q": 40, "w": 1}),
        (FixedWindow(100, window=3600), {"q": 100, "w": 3600}),
        (CalendarWindow(100, every="day", timezone="Europe/Paris"), {"q": 100, "w": 86_400}),
        (CalendarWindow(100, every="month"), {"q": 100, "w": 31 * 86_400}),
        (CalendarWindow(100, every="month", day=15, hour=6), {"q": 100, "w": 31 * 86_400}),
    ],
)
def test_policies_of_every_kind_tell_their_limit_in_their_window(policy, expected):
    assert parsed(headers.rate_limit_policy([policy])) == [(policy.name, expected)]


def test_permits_are_a_quota_of_concurrent_requests_and_of_no_window():
    policies = [Concurrency(8, name="running"), SlidingWindow(100, window=60, name="started")]
    field = headers.rate_limit_policy(policies)
    assert field == '"running";q=8;qu="concurrent-requests", "started";q=100;w=60'
    assert parsed(field)[0] == ("running", {"q": 8, "qu": "concurrent-requests"})


def test_fields_of_a_reservation_say_how_many_permits_remain():
    limiter = Limiter(
        Concurrency(3, name="running"),
        limits=lambda key: 2 if key == "small" else None,
        limits_ttl=0,
        store=MemoryStore(clock=ManualClock()),
    )
    with limiter.reserve("small") as first, limiter.reserve("small"), limiter.reserve("small") as third:
        allowed, denied = (headers.fields(each.decision, limiter.policies) for each in (first, third))
    quota = '"running";q=2;qu="concurrent-requests"'
    assert allowed == {"RateLimit-Policy": quota, "RateLimit": '"running";r=1'}
    assert denied == {"RateLimit-Policy": quota, "RateLimit": '"running";r=0;t=30', "Retry-After": "30"}


def test_a_quota_that_differs_by_key_is_the_one_that_this_key_is_held_to():
    policies = [SlidingWindow(5, window=60), TokenBucket(50, window=60, name="flow")]
    limiter = Limiter(*policies, limits=lambda key: {"flow": 500} if key == "vip" else None)
    quotas = {key: headers.fields(limiter.take(key), limiter.policies)["RateLimit-Policy"] for key in ("vip", "any")}
    assert quotas == {
        "vip": '"sliding-window-60s";q=5;w=60, "flow";q=500;w=60',
        "any": '"sliding-window-60s";q=5;w=60, "flow";q=50;w=60',
    }


@pytest.mark.parametrize("options", [{"enabled": False}, {"exempt": {"a"}}], ids=["off", "exempt"])
def test_who_is_not_limited_is_told_of_no_limit(options: dict):
    limiter = Limiter(SlidingWindow(5, window=60), **options)
    assert headers.fields(limiter.take("a"), limiter.policies) == {}


# RateLimit


def test_an_allowed_request_is_told_what_remains_and_no_time_that_is_not_known():
    decision = Limiter(SlidingWindow(5, window=60)).take("a", 2)
    assert headers.rate_limit(decision) == '"sliding-window-60s";r=3'


def test_a_denied_request_is_told_when_there_is_more():
    decision = denied(SlidingWindow(5, window=60), after=20.5)
    assert headers.rate_limit(decision) == '"sliding-window-60s";r=0;t=40'


def test_a_cost_that_can_never_fit_is_told_no_time_at_all():
    decision = Limiter(SlidingWindow(5, window=60)).take("a", 6)
    assert decision.retry_after == math.inf
    fields = headers.fields(decision, [SlidingWindow(5, window=60)])
    assert fields == {"RateLimit-Policy": '"sliding-window-60s";q=5;w=60', "RateLimit": '"sliding-window-60s";r=5'}


def test_with_several_policies_no_t_is_longer_than_retry_after_and_only_those_that_deny_have_one():
    slow = ("slow", 10, Verdict(False, 0, 12_200_000, 60_000_000))
    quick = ("quick", 2, Verdict(False, 0, 400_000, 1_000_000))
    idle = ("idle", 100, Verdict(True, 98, 0, 60_000_000))
    decision = together(slow, quick, idle)
    assert headers.rate_limit(decision) == '"slow";r=0;t=13, "quick";r=0;t=1, "idle";r=98'
    assert headers.retry_after(decision) == 13


# Retry-After


@pytest.mark.parametrize(
    ("after", "expected"), [(0.0, 60), (0.000001, 60), (0.1, 60), (1.0, 59), (58.9, 2), (59.0, 1), (59.999999, 1)]
)
def test_retry_after_is_rounded_up_and_never_0_on_a_denial(after, expected):
    decision = denied(SlidingWindow(3, window=60), after=after)
    assert not decision.allowed
    assert headers.retry_after(decision) == expected


def test_a_client_that_waits_for_retry_after_is_allowed():
    clock = ManualClock()
    limiter = Limiter(SlidingWindow(1, window=2.3), store=MemoryStore(clock=clock))
    limiter.take("a")
    clock.advance(0.7)
    wait = headers.retry_after(limiter.take("a"))
    assert wait == 2
    clock.advance(wait)
    assert limiter.take("a").allowed


def test_an_allowed_request_has_no_retry_after_field():
    policy = SlidingWindow(5, window=60)
    decision = Limiter(policy).take("a")
    assert headers.retry_after(decision) == 0
    assert headers.fields(decision, [policy]).keys() == {"RateLimit-Policy", "RateLimit"}


def test_fields_of_a_decision_on_other_policies_are_refused():
    mine, other = SlidingWindow(5, window=60, name="mine"), SlidingWindow(5, window=60, name="other")
    decision = Limiter(mine).take("a")
    for policies in ([other], [mine, other], []):
        with pytest.raises(ValueError, match="policies must be those of the limiter that decided, mine; got "):
            headers.fields(decision, policies)


# Problem documents


def test_a_denial_names_the_policies_that_denied_and_the_wait():
    decision = together(
        ("slow", 10, Verdict(False, 0, 12_200_000, 60_000_000)),
        ("idle", 100, Verdict(True, 98, 0, 60_000_000)),
        ("quick", 2, Verdict(False, 0, 400_000, 1_000_000)),
    )
    document = problem.quota_exceeded(decision).document()
    assert document == {
        "type": "https://iana.org/assignments/http-problem-types#quota-exceeded",
        "title": "Quota Exceeded",
        "status": 429,
        "detail": "Denied by policy slow, whose limit is 10. Try again in 13 s.",
        "violated-policies": ["slow", "quick"],
    }


def test_a_denial_for_ever_does_not_say_try_again():
    for policy in (SlidingWindow(5, window=60), TokenBucket(500, window=60, burst=5)):
        decision = Limiter(policy).take("a", 6)
        assert problem.quota_exceeded(decision).detail.endswith(" It costs more than is ever allowed at once.")


def test_an_outage_is_a_503_that_blames_no_policy():
    document = problem.temporary_reduced_capacity().document()
    assert document["type"] == "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity"
    assert document["status"] == 503
    assert "violated-policies" not in document


def test_a_problem_without_a_type_of_its_own_is_about_blank():
    document = problem.Problem(422, "Unprocessable Content", "Expected a number.").document()
    assert document == {
        "type": "about:blank",
        "title": "Unprocessable Content",
        "status": 422,
        "detail": "Expected a number.",
    }
