"""A fleet on real processes and a real server, and what its clients saw: never over, and never under."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from fleet import ENOUGH, EXACT, Answer, Worker, hit, judge, service, until_proven

import servers
from sluicegate.proof.history import Record

LIMIT, WINDOW, SECONDS = 10, 1, 10
USERS = [f"user-{n}" for n in range(5)]  # so few that each asks for more than its limit on a busy machine, too

pytestmark = pytest.mark.slow


def test_two_instances_of_the_service_allow_each_user_the_limit_and_not_one_more(
    own_server: servers.Server, tmp_path: Path
):
    settings = {"RATE_LIMIT_REQUESTS": str(LIMIT), "RATE_LIMIT_WINDOW_SECONDS": str(WINDOW), **EXACT}
    with (
        service(own_server.url, tmp_path / "one", **settings) as one,
        service(own_server.url, tmp_path / "two", **settings) as two,
    ):

        def play(_: int, clients: int) -> list[Answer]:
            return asyncio.run(hit([one, two], USERS, SECONDS, clients))

        answers = until_proven(play, lambda answers: judged([answer.record for answer in answers]))
    assert {answer.status for answer in answers} == {200, 429}
    for answer in answers:
        retry_after = answer.fields.get(b"retry-after", b"")
        assert retry_after == b"" if answer.status == 200 else retry_after.isdigit() and int(retry_after) >= 1


def test_four_processes_that_use_the_library_allow_each_user_the_limit_and_not_one_more(
    server: servers.Server, prefix: str
):
    task = {"url": server.url, "prefix": prefix, "limit": LIMIT, "window": WINDOW}
    task |= {"keys": USERS, "threads": 4, "seconds": SECONDS}
    with ExitStack() as stack:
        workers = [stack.enter_context(Worker(task)) for _ in range(4)]
        for each in workers:
            each.reads()  # it is ready

        def play(*_: int) -> list[Record]:
            for each in workers:
                each.begin()
            return [record for each in workers for record in each.records()]

        until_proven(play, judged)
    assert [each.returncode for each in workers] == [0] * 4


def judged(records: Sequence[Record]) -> list[str]:
    """Hold all that was answered to the limit, and return what is missing for a proof."""
    missing = judge(records, LIMIT, WINDOW, of="the limit")
    denied = Counter(record.key for record in records if not record.allowed)
    if seldom := [user for user in USERS if denied[user] < ENOUGH]:
        missing.append(f"denials of {seldom}")
    return missing
