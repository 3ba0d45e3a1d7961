"""A fleet on real processes and a real server, and what its clients saw: never over, and never under."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest
from fleet import EXACT, hit, service

import servers
from sluicegate.proof.history import Record
from sluicegate.proof.judge import over, spans, unjustified

LIMIT, WINDOW, SECONDS = 50, 1, 10
USERS = [f"user-{n}" for n in range(10)]  # so few that also a busy machine has each of them ask for more than its limit

pytestmark = pytest.mark.slow


def test_two_instances_of_the_service_allow_each_user_the_limit_and_not_one_more(
    own_server: servers.Server, tmp_path: Path
):
    settings = {"RATE_LIMIT_REQUESTS": str(LIMIT), "RATE_LIMIT_WINDOW_SECONDS": str(WINDOW), **EXACT}
    with (
        service(own_server.url, tmp_path / "one", **settings) as one,
        service(own_server.url, tmp_path / "two", **settings) as two,
    ):
        answers = asyncio.run(hit([one, two], USERS, SECONDS))
    assert {answer.status for answer in answers} == {200, 429}
    for answer in answers:
        retry_after = answer.fields.get(b"retry-after", b"")
        assert retry_after == b"" if answer.status == 200 else retry_after.isdigit() and int(retry_after) >= 1
    judge([answer.record for answer in answers], source="two instances of the service")


def test_four_processes_that_use_the_library_allow_each_user_the_limit_and_not_one_more(
    server: servers.Server, prefix: str
):
    task = {"url": server.url, "prefix": prefix, "limit": LIMIT, "window": WINDOW}
    task |= {"keys": USERS, "threads": 4, "seconds": SECONDS}
    with ExitStack() as stack:
        workers = [stack.enter_context(worker(task)) for _ in range(4)]
        for each in workers:
            each.stdout.readline()  # it is ready
        for each in workers:
            each.stdin.write("go\n")
            each.stdin.flush()
        records = [Record(*fields) for each in workers for fields in json.load(each.stdout)]
        assert [each.wait() for each in workers] == [0] * 4
    judge(records, source="four processes")


def judge(records: list[Record], *, source: str) -> None:
    """Hold all that was answered to the limit, from above and from below; and refuse to say so of too little."""
    allowed = Counter(record.key for record in records if record.allowed)
    denied = Counter(record.key for record in records if not record.allowed)
    fullest = max(span.units for span in spans(records, WINDOW))
    print(
        f"{source}: {len(records)} decisions, {denied.total()} denied; each user was allowed "
        f"{min(allowed.values())} to {max(allowed.values())}, and certainly at most {fullest} in less than a window"
    )
    assert over(records, LIMIT, WINDOW)[:3] == []
    assert unjustified(records, LIMIT, WINDOW)[:3] == []

    full = LIMIT * SECONDS // WINDOW
    too_slow = f"{len(records)} decisions in {SECONDS} s are too few to prove anything: is the machine slow, or busy?"
    assert len(records) > 1.05 * full * len(USERS), too_slow
    assert min(denied[user] for user in USERS) >= 20, f"a user was hardly ever denied. {too_slow}"
    assert min(allowed[user] for user in USERS) >= 0.8 * full, f"a user was not allowed its rate. {too_slow}"
    assert max(allowed.values()) <= full + LIMIT
    # Allowed within less than a window, beyond doubt: so the delays were short enough to see a unit too many.
    assert fullest == LIMIT, f"no window was seen full, only {fullest} of {LIMIT}. {too_slow}"


def worker(task: dict) -> subprocess.Popen[str]:
    command = [sys.executable, str(Path(__file__).with_name("worker.py")), json.dumps(task)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
