"""Budgets, plans and answers as values: names, keys that are decided together, bounds, pages and documents."""

from __future__ import annotations

import asyncio
import json
import string
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sluicegate import InvalidPolicy, MemoryStore, SlidingWindow, TokenBucket
from sluicegate._core.decision import NEVER, Decision, Verdict, decision_of
from sluicegate._core.keys import NO_KEY
from sluicegate._core.policies import Policies
from sluicegate.testing import ManualClock
from sluicegate.web import answers, plans
from sluicegate.web.answers import Answer, Refusal
from sluicegate.web.budget import LONGEST_NAME, Asked, Budget, fitted, joined, placed
from sluicegate.web.limiters import MOST_SETS, Limiters
from sluicegate.web.plans import Plans
from sluicegate.web.problem import Problem

# Names from few letters, so that those of two budgets are often nearly the same.
few_names = st.text("ab.-", min_size=1, max_size=6)
names = st.text(string.ascii_letters + string.digits + "._-", min_size=1, max_size=100)


def budget(name: str, *given_: Any, shared: bool = False) -> Budget:
    return Budget(name, placed(given_ or ("10/minute",), name, shared=shared))


# Names


@given(st.lists(names, unique=True, max_size=20))
def test_fitted_names_are_valid_unique_and_the_same_each_time(given_names: list[str]):
    found = [fitted(name) for name in given_names]
    assert len(set(found)) == len(given_names)
    assert all(1 <= len(name) <= LONGEST_NAME for name in found)
    assert found == [fitted(name) for name in given_names]
    assert all(name == each for name, each in zip(given_names, found, strict=True) if len(name) <= LONGEST_NAME)


def test_a_long_name_keeps_its_beginning_and_never_changes():
    # Over restarts and instances: another name would be another count.
    assert fitted("a" * 65) == "a" * 55 + "-635361c4"
    assert fitted("a" * 64) == "a" * 64


def test_one_policy_has_the_name_of_its_place_and_several_have_endings():
    assert [policy.name for policy in placed(["10/minute"], "search")] == ["search"]
    assert [policy.name for policy in placed(["10/minute;100/hour"], "search")] == ["search.60s", "search.3600s"]
    several = [SlidingWindow(5, window=1, name="burst"), TokenBucket(9, window=60)]
    assert [policy.name for policy in placed(several, "search")] == ["search.burst", "search.token-bucket-60s"]
    assert [policy.name for policy in placed([SlidingWindow(5, window=1, name="burst")], "search")] == ["search.burst"]


@given(st.lists(st.sampled_from(["1/s", "2/minute", "3/hour", "4/day"]), min_size=1, unique=True), names)
def test_policies_of_a_place_have_names_of_their_own_and_are_otherwise_as_given(rates: list[str], place: str):
    found = placed(rates, place)
    assert len({policy.name for policy in found}) == len(rates)
    assert [(each.limit, each.window) for each in found] == [(each.limit, each.window) for each in Policies(rates).all]


def test_one_rate_twice_at_a_place_is_refused():
    with pytest.raises(InvalidPolicy, match="both named"):
        placed(["10/minute", "20/minute"], "search")


# Keys that are decided together

keys = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@st.composite
def budgets_and_keys(draw: st.DrawFn) -> list[Asked]:
    """Draw what a request asks of several budgets: by text, by attributes, or together with all other clients."""
    asked = []
    for name in draw(st.lists(few_names, min_size=1, max_size=4, unique=True)):
        kind = draw(st.sampled_from(["text", "attributes", "shared"]))
        cost = draw(st.integers(1, 3))
        if kind == "attributes":
            per = tuple(draw(st.lists(few_names, min_size=1, max_size=3, unique=True)))
            own = budget(name, SlidingWindow(10, window=60, per=per))
            asked.append(Asked(own, own.policies, {each: draw(keys) for each in per}, cost))
        else:
            own = budget(name, shared=kind == "shared")
            asked.append(Asked(own, own.policies, NO_KEY if kind == "shared" else draw(keys), cost))
    return asked


def counted_by(asked: Asked) -> tuple[str, ...]:
    """Return the texts by which a budget is to count a request."""
    if asked.policies[0].shared:
        return ()
    return (asked.key,) if isinstance(asked.key, str) else tuple(asked.key.values())


@given(budgets_and_keys())
def test_each_budget_counts_by_its_own_key_however_many_are_decided_together(asked: list[Asked]):
    policies, key, cost = joined(asked)
    charges = Policies(policies).charges(key, cost)
    found = [(charge.key,) if isinstance(charge.key, str) else charge.key for charge in charges]
    assert found == [counted_by(each) for each in asked]
    assert [charge.cost for charge in charges] == [each.cost for each in asked]
    assert [charge.policy.name for charge in charges] == [each.budget.name for each in asked]


@given(budgets_and_keys(), budgets_and_keys())
def test_a_budget_counts_in_one_place_whether_it_is_decided_alone_or_with_others(one, other):
    alone = one[0]
    others = [each for each in other if each.budget.name != alone.budget.name]
    assume(others)

    async def remaining() -> list[int]:
        limiters = Limiters(MemoryStore(clock=ManualClock()), on_outage="local", deadline=1.0)
        found = []
        for asked in ([alone], [alone, *others], [alone]):
            policies, key, cost = joined(asked)
            decision = await limiters.of(policies).limiter.take(key, cost)
            found.append(decision.decisions[0].remaining)
        return found

    # Not under the same decision twice: ten are enough for three takes of at most three.
    assert asyncio.run(remaining()) == [10 - alone.cost, 10 - 2 * alone.cost, 10 - 3 * alone.cost]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("a", "b"), ("a.b", None)),
        (("a", "b."), ("a.b", None)),
        (("a", "b.c"), ("a.b", "c")),
        (("a", "1"), ("a.1", None)),
        (("1.a", None), ("1", "a")),
    ],
)
def test_places_whose_names_and_attributes_read_alike_do_not_share_a_key(one, other):
    asked = []
    for (place, attribute), who in ((one, "ann"), (other, "bob")):
        own = budget(place) if attribute is None else budget(place, SlidingWindow(1, window=60, per=attribute))
        asked.append(Asked(own, own.policies, who if attribute is None else {attribute: who}, 1))
    policies, key, _ = joined(asked)
    assert [charge.key for charge in Policies(policies).charges(key)] == ["ann", "bob"]


def test_a_budget_keeps_as_many_policies_as_it_says_and_no_more():
    own = budget("search")
    for limit in range(1, 3000):
        asked = [Asked(own, placed([SlidingWindow(limit, window=60)], "search"), {"user": "ann"}, 1)]
        (policy,) = own.joint(asked)
        assert policy.limit == limit
        assert own.joint(asked) is own.joint(asked)
    assert len(own._joint) <= 1024


# Plans


def test_a_function_may_return_a_plan_a_rate_policies_or_none():
    own = Plans({"free": "10/minute", "pro": ["100/minute", SlidingWindow(5, window=1, name="burst")]})
    place = budget("search")
    assert own.policies(place, None) == ()
    assert [(each.name, each.limit) for each in own.policies(place, "free")] == [("search.60s", 10)]
    assert [each.name for each in own.policies(place, "pro")] == ["search.60s", "search.burst"]
    assert [each.limit for each in own.policies(place, "7/minute")] == [7]
    assert [each.limit for each in own.policies(place, SlidingWindow(8, window=60))] == [8]
    assert [each.limit for each in own.policies(place, ["7/minute", "8/hour"])] == [7, 8]


def test_the_same_answer_is_the_same_policies_at_one_place_and_others_at_another():
    own = Plans({"free": "10/minute"})
    one, other = budget("search"), budget("login")
    assert own.policies(one, "free") is own.policies(one, "free")
    assert [own.policies(place, "free")[0].name for place in (one, other)] == ["search.60s", "login.60s"]


@pytest.mark.parametrize("answer", ["gold", "", 5, True, {"free": 1}, [], [["10/minute"]], object(), b"free", 1.5])
def test_another_answer_is_refused_with_the_plans_that_there_are(answer: Any):
    with pytest.raises(InvalidPolicy):
        Plans({"free": "10/minute"}).policies(budget("search"), answer)


@pytest.mark.parametrize("given_", [["free"], "free", {"free": []}, {"free": 5}, {"free": False}, {"free": 0.0}])
def test_invalid_plans_are_refused(given_: Any):
    with pytest.raises(InvalidPolicy):
        Plans(given_)


@pytest.mark.slow
def test_ever_new_answers_do_not_fill_the_memory():
    async def take() -> tuple[int, int]:
        own, place = Plans({}), budget("search")
        limiters = Limiters(MemoryStore(clock=ManualClock()), on_outage="local", deadline=1.0)
        for limit in range(1, 3000):
            policies = own.policies(place, f"{limit}/minute")
            decision = await limiters.of(policies).limiter.take("ann")
            assert decision.allowed == (limit >= 1 and decision.remaining >= 0)
        return len(own._kept), len(limiters._sets)

    kept, sets = asyncio.run(take())
    assert kept <= plans._MOST_KEPT
    assert sets <= MOST_SETS


def test_a_limit_that_changes_from_request_to_request_keeps_its_count():
    async def remaining() -> list[int]:
        own, place = Plans({}), budget("search")
        limiters = Limiters(MemoryStore(clock=ManualClock()), on_outage="local", deadline=1.0)
        rates = ["10/minute", "5/minute", "10/minute"]
        decisions = [await limiters.of(own.policies(place, rate)).limiter.take("ann") for rate in rates]
        return [decision.remaining for decision in decisions]

    assert asyncio.run(remaining()) == [9, 3, 7]


# Answers


def denial(wait_us: int = 30_000_000, name: str = "search") -> Decision:
    return decision_of([name], [10], [Verdict(False, 0, wait_us, max(0, wait_us))])


def sent(refusal: Refusal, *, as_page: bool = False, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    messages: list[Any] = []

    async def send(message: Any) -> None:
        messages.append(message)

    asyncio.run(Answer(refusal, as_page=as_page)({"type": "http", "method": method}, send, send))
    start, body = messages
    return start["status"], {k.decode(): v.decode("latin-1") for k, v in start["headers"]}, body["body"]


REFUSALS = {
    "over a limit": answers.over_limit(denial(), None, 0.0),
    "with a message": answers.over_limit(denial(), 'Slow down, "friend" <3', 0.5),
    "never": answers.over_limit(denial(NEVER), None, 0.5),
    "without a decision": answers.without_decision(),
    "without a key": answers.invalid_key("X-API-Key must be sent once; got none"),
}


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
def test_documents_are_as_rfc_9457_has_them(refusal: Refusal):
    status, headers, body = sent(refusal)
    assert headers["content-type"] == "application/problem+json"
    assert headers["content-length"] == str(len(body))
    assert headers["cache-control"] == "no-store"
    document = json.loads(body)
    # Section 3.1: a URI reference, a number that is the status of the response, and text.
    assert document["status"] == status == refusal.status
    assert document["type"] == "about:blank" or document["type"].startswith("https://")
    assert all(isinstance(document[name], str) and document[name] for name in ("title", "detail"))
    # Section 4.2.1: about:blank has the phrase of the status as its title.
    assert document["type"] != "about:blank" or document["title"] == "Bad Request"
    assert (status == 429) == ("violated-policies" in document)


def test_a_wait_that_never_ends_has_no_retry_after():
    assert "Retry-After" not in REFUSALS["never"].headers
    assert REFUSALS["over a limit"].headers["Retry-After"] == "30"


@given(st.integers(1, 10**14), st.floats(0, 1))
def test_jitter_adds_to_the_wait_at_most_its_fraction(wait_us: int, jitter: float):
    wait = -(-wait_us // 1_000_000)
    refusal = answers.over_limit(denial(wait_us), None, jitter)
    assert wait <= int(refusal.headers["Retry-After"]) <= wait * (1 + jitter) + 1


class _Texts(HTMLParser):
    """The tags of a page and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1))
def test_no_message_adds_a_tag_to_a_page(message: str):
    page, plain = _Texts(), _Texts()
    _, headers, body = sent(answers.over_limit(denial(), message, 0.0), as_page=True)
    page.feed(body.decode())
    plain.feed(sent(answers.over_limit(denial(), "a", 0.0), as_page=True)[2].decode())
    assert page.tags == plain.tags
    assert message in "".join(page.texts)
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert int(headers["content-length"]) == len(body)


def test_a_title_is_escaped_too():
    _, _, body = sent(Refusal(Problem(418, "<b>", "<i>")), as_page=True)
    assert b"<b>" not in body and b"<i>" not in body


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (b"text/html,application/xhtml+xml,*/*;q=0.8", True),
        (b"TEXT/HTML", True),
        (b"text/html, application/json", True),
        (b"application/json, text/html", False),
        (b"*/*", False),
        (b"", False),
        (b"\xff", False),
        (None, False),
    ],
)
def test_a_browser_names_html_before_json(accept: bytes | None, expected: bool):
    headers = [] if accept is None else [(b"accept", accept)]
    assert answers.wants_page({"type": "http", "headers": headers}) is expected


def test_a_head_request_has_the_headers_without_the_body():
    refusal = REFUSALS["over a limit"]
    status, headers, body = sent(refusal, method="HEAD")
    assert (status, headers) == sent(refusal)[:2]
    assert body == b""
