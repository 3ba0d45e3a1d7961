"""A fleet under three kinds of limit at once: each is kept, and what one of them denies is charged to none.

The limits of all users and of the endpoint have two windows each: a short one, which denies many, and an hour, in
which all that was ever charged is still counted when the run has ended. The user's own is an hour, which a few use up.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import http_sf
import pytest
from fleet import EXACT, Answer, hit, service

import servers
from sluicegate import Limiter, SlidingWindow
from sluicegate._core.rate import parse_rates
from sluicegate.proof.judge import over, spans, unjustified

EAGER = [f"eager-{n}" for n in range(4)]
OTHERS = [f"other-{n}" for n in range(36)]
SECONDS = 5

OF_USER = SlidingWindow(40, window=3600)
OF_ALL = "150/s;100000/h"
OF_ENDPOINT = "10/500ms;10000/h"
POLICIES = (OF_USER, *parse_rates(OF_ALL, stem="global", shared=True), *parse_rates(OF_ENDPOINT, stem="endpoint-ping"))

pytestmark = pytest.mark.slow


def test_each_of_three_limits_is_kept_and_what_one_denies_is_charged_to_none(
    own_server: servers.Server, tmp_path: Path
):
    settings = {
        "RATE_LIMIT_REQUESTS": str(OF_USER.limit),
        "RATE_LIMIT_WINDOW_SECONDS": str(OF_USER.window),
        "RATE_LIMIT_GLOBAL": OF_ALL,
        "RATE_LIMIT_ENDPOINTS": f'{{"/ping": "{OF_ENDPOINT}"}}',
        **EXACT,
    }
    with (
        service(own_server.url, tmp_path / "one", **settings) as one,
        service(own_server.url, tmp_path / "two", **settings) as two,
    ):
        answers = asyncio.run(hit([one, two], asked(), SECONDS))
    assert {answer.status for answer in answers} == {200, 429}

    denials = Counter(tuple(denied_by(answer)) for answer in answers if answer.status == 429)
    print(f"three limits: {len(answers)} answers, denied by {dict(denials)}")
    for name in (OF_USER.name, "global-1s", "endpoint-ping-0.5s"):
        # Alone, so that there are denials which the other limits had room for, and could have charged.
        assert denials[(name,)] >= 20, f"{name} hardly denied anything alone: is the machine slow, or busy?"
    for policy in POLICIES:
        judge(policy, answers)
    for user in EAGER + OTHERS:
        check_charged(own_server, user, answers)


def asked() -> list[str]:
    """List users in the order in which they ask: the eager ones in three of five requests."""
    users = [*EAGER * 14, *OTHERS]
    random.Random(1).shuffle(users)
    return users


def denied_by(answer: Answer) -> Iterator[str]:
    """Yield the names of the policies that denied: they have a wait."""
    for name, params in http_sf.parse(answer.fields[b"ratelimit"], tltype="list"):
        if "t" in params:
            yield name


def judge(policy: SlidingWindow, answers: list[Answer]) -> None:
    """Hold what was answered to one of the policies: from above, and from below where it says that it denied."""
    records = [
        answer.record._replace(key="all") if policy.shared else answer.record
        for answer in answers
        if answer.status == 200 or policy.name in denied_by(answer)
    ]
    assert over(records, policy.limit, policy.window)[:3] == []
    assert unjustified(records, policy.limit, policy.window)[:3] == []
    if policy.limit < 1000:  # it was full, beyond doubt: so the delays were short enough to see a unit too many
        fullest = max(span.units for span in spans(records, policy.window))
        assert fullest == policy.limit, f"no window of {policy.name} was seen full, only {fullest} of {policy.limit}"


def check_charged(server: servers.Server, user: str, answers: list[Answer]) -> None:
    """Compare the units that the server still holds with those that were allowed. All of the run is within an hour."""
    with Limiter(*(policy for policy in POLICIES if policy.window == 3600), store=server.url) as limiter:
        held = {part.policy: part.limit - part.remaining for part in limiter.peek(user).decisions}
    of_user = [answer for answer in answers if answer.record.key == user]
    for name, mine in ((OF_USER.name, of_user), ("endpoint-ping-3600s", of_user), ("global-3600s", answers)):
        assert held[name] == sum(answer.status == 200 for answer in mine), f"{name} of {user}"
