"""A fleet under three kinds of limit at once: each is kept, and what one of them denies is charged to none.

The limits of all users and of the endpoint have two windows each: a short one, which denies many, and an hour, in
which all that was ever charged is still counted when the run has ended. The user's own is an hour, which a few use up.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import http_sf
import pytest
from fleet import ENOUGH, EXACT, Answer, hit, judge, service, until_proven

import servers
from sluicegate import Limiter, SlidingWindow
from sluicegate._core.rate import parse_rates

SECONDS = 5

# So small that each short window is soon full, and nothing is allowed for a while: it is plain what such windows hold.
OF_USER = SlidingWindow(12, window=3600)
OF_ALL = "40/s;100000/h"
OF_ENDPOINT = "4/500ms;10000/h"
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

        def play(round_: int, clients: int) -> list[Answer]:
            return asyncio.run(hit([one, two], asked(round_), SECONDS, clients))

        answers = until_proven(play, judged)
    assert {answer.status for answer in answers} == {200, 429}
    check_charged(own_server, answers)


def asked(round_: int) -> list[str]:
    """List users in the order in which they ask: four eager ones in three of five requests. Each round has its own."""
    eager = [f"eager-{round_}-{n}" for n in range(4)]
    users = [*eager * 14, *(f"other-{round_}-{n}" for n in range(36))]
    random.Random(1).shuffle(users)
    return users


def denied_by(answer: Answer) -> Iterator[str]:
    """Yield the names of the policies that denied: they have a wait."""
    for name, params in http_sf.parse(answer.fields[b"ratelimit"], tltype="list"):
        if "t" in params:
            yield name


def judged(answers: Sequence[Answer]) -> list[str]:
    """Hold what was answered to each of the policies; and return what is missing for a proof.

    From below it is held to a policy where that says that it denied. An hour is too long for its limit to be reached.
    """
    denials = Counter(tuple(denied_by(answer)) for answer in answers if answer.status == 429)
    print(f"three limits: {len(answers)} answers, denied by {dict(denials)}")
    missing = []
    for policy in POLICIES:
        records = [
            answer.record._replace(key="all") if policy.shared else answer.record
            for answer in answers
            if answer.status == 200 or policy.name in denied_by(answer)
        ]
        lacks = judge(records, policy.limit, policy.window, of=policy.name)
        if policy.limit < 1000:
            missing += lacks
            # Alone, so that there are denials which the other limits had room for, and could have charged.
            if denials[(policy.name,)] < ENOUGH:
                missing.append(f"denials by {policy.name} alone")
    return missing


def check_charged(server: servers.Server, answers: Sequence[Answer]) -> None:
    """Compare the units that the server still holds with those that were allowed. All of the run is within an hour."""
    allowed = Counter(answer.record.key for answer in answers if answer.status == 200)
    with Limiter(*(policy for policy in POLICIES if policy.window == 3600), store=server.url) as limiter:
        for user in {answer.record.key for answer in answers}:
            held = {part.policy: part.limit - part.remaining for part in limiter.peek(user).decisions}
            for name in (OF_USER.name, "endpoint-ping-3600s"):
                assert held[name] == allowed[user], f"{name} of {user}"
            assert held["global-3600s"] == allowed.total()
