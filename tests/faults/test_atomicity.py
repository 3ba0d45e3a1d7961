"""All or nothing under load: each counter is charged exactly what was allowed, also when processes are killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random

import pytest

import servers
from faults import atomicity_worker
from faults.atomicity_worker import COOL, HOT, Answer, answered, key_of, plans, policies
from sluicegate import Limiter, MemoryStore, RedisStore
from sluicegate._core.policy import Policy

PROCESSES, TASKS, REQUESTS, KILLS = 4, 64, 16, 5
LIMIT, MOST = 40, 1300

Units = Counter[tuple[str, str]]
"""Units by the name of a policy, and what it counted under: "" for what all share."""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sliding", "mixed"])
def test_each_counter_was_charged_exactly_what_the_processes_were_allowed(
    server: servers.Server, prefix: str, tmp_path: Path, kind: str
):
    task = task_of(server, prefix, kind) | {"limit": LIMIT, "most": MOST, "mixed": True, "requests": REQUESTS}
    with ExitStack() as stack:
        workers = [stack.enter_context(worker(task, tmp_path, number)) for number in range(PROCESSES)]
        for each in workers:
            each.ready()
        for each in workers:
            each.go()
        assert [each.process.wait() for each in workers] == [0] * PROCESSES
        answers = [answer for each in workers for answer in each.answers()]
    report(f"{PROCESSES} processes, {kind} policies", answers)
    assert len(answers) == PROCESSES * TASKS * REQUESTS
    judge(answers, charged_on(server, task), policies_of(task))
    assert without_ttl(server, prefix) == []


@pytest.mark.slow
def test_a_request_whose_process_is_killed_is_charged_to_all_of_its_policies_or_to_none(
    server: servers.Server, prefix: str, tmp_path: Path
):
    task = task_of(server, prefix, "mixed") | {"limit": 100, "most": 10**9}
    task |= {"mixed": False, "requests": None}
    with ExitStack() as stack:
        killed, alive = raid(task, tmp_path, stack)
        for each in alive:
            each.stop()
        assert [each.process.wait() for each in killed] == [-signal.SIGKILL] * KILLS
        assert [each.process.wait() for each in alive] == [0] * PROCESSES
        answers = [answer for each in [*killed, *alive] for answer in each.answers()]
    await_no_connection(server, name=prefix)  # so the server has read all that the dead had sent
    charged, known = charged_on(server, task), allowed(answers)
    unheard = (charged - known).total() // len(policies_of(task))
    report(f"{KILLS} processes killed, {unheard} charged requests unheard of", answers)
    assert lost(answers) == 0, "an answer was lost within 30 s: is the machine busy? Then nothing can be said"
    assert {len(each.answers()) > 0 for each in killed} == {True}
    # Each request cost one unit: so all policies have counted the same requests, whichever process was killed.
    totals = Counter()
    for (policy, _), units in charged.items():
        totals[policy] += units
    assert set(totals.values()) == {charged["everybody", ""]}
    # Known to be allowed, so charged; what is charged beyond that was in flight in a process that was killed.
    assert known - charged == Counter()
    assert unheard <= KILLS * TASKS
    assert unheard > 0, "no request was under way when a process was killed: nothing was proved"
    assert min(denials(answers)[policy] for policy in ("user", "tenant", "endpoint")) > 20
    assert without_ttl(server, prefix) == []
    with RedisStore.from_url(server.url, prefix=prefix, timeout=30) as store:
        after = Limiter(*policies_of(task), store=store).take(key_of(policies_of(task), "after"))
        assert [part.remaining for part in after.decisions[:3]] == [task["limit"] - 1] * 3


@pytest.mark.usefixtures("hasty_threads")
@pytest.mark.parametrize("kind", ["sliding", "mixed"])
def test_in_memory_each_counter_was_charged_exactly_what_the_threads_were_allowed(kind: str):
    threads, requests = 16, PROCESSES * TASKS * REQUESTS // 16
    limits = policies(kind, time.time(), LIMIT, MOST)
    limiter = Limiter(*limits, store=MemoryStore())
    answers: list[Answer] = []
    start = threading.Barrier(threads)

    def work(number: int) -> None:
        endless = plans(limits, Random(number), mixed=True)
        mine = [next(endless) for _ in range(requests)]
        start.wait()
        answers.extend([answered(plan, limiter.take(plan.key, plan.cost)) for plan in mine])

    running = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    report(f"{threads} threads, {kind} policies", answers)
    assert len(answers) == threads * requests
    judge(answers, charged_in(limiter), limits)


# Processes


class Worker:
    """A process that makes requests, and its answers so far."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process = process
        self._log = log

    def ready(self) -> None:
        assert self.process.stdout.readline() == "ready\n"

    def go(self) -> None:
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def stop(self) -> None:
        self.process.stdin.close()

    def has_answers(self) -> bool:
        assert self.process.poll() is None, "a worker ended by itself"
        return self._log.exists() and self._log.stat().st_size > 0

    def answers(self) -> list[Answer]:
        whole, _, _ = self._log.read_text().rpartition("\n")  # a line may be cut
        return [Answer(*json.loads(line)) for line in whole.splitlines()]


def task_of(server: servers.Server, prefix: str, kind: str) -> dict:
    # Its connections have the prefix as their name.
    url = f"{server.url}?client_name={prefix}"
    return {"url": url, "prefix": prefix, "policies": kind, "now": time.time(), "tasks": TASKS}


def policies_of(task: dict) -> tuple[Policy, ...]:
    return policies(task["policies"], task["now"], task["limit"], task["most"])


@contextmanager
def worker(task: dict, directory: Path, number: int) -> Iterator[Worker]:
    """Run a worker; it ends with its input, if not before."""
    log = directory / f"{number}.jsonl"
    command = [sys.executable, atomicity_worker.__file__, json.dumps(task | {"log": str(log), "seed": number})]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Worker(process, log)


def raid(task: dict, directory: Path, stack: ExitStack) -> tuple[list[Worker], list[Worker]]:
    """Kill one worker after the other at some moment while others go on, each in its turn replaced.

    Returns those that were killed, and those that are alive.
    """
    chance, killed, alive = Random(), [], []
    end_at = time.monotonic() + 60

    def fill() -> None:
        while len(alive) < PROCESSES:
            alive.append(stack.enter_context(worker(task, directory, len(killed) + len(alive))))
            alive[-1].go()

    fill()
    while len(killed) < KILLS:
        at_work = [each for each in alive if each.has_answers()]
        if len(at_work) < 2:
            assert time.monotonic() < end_at, "the workers do not begin: is the machine slow, or busy?"
            time.sleep(0.01)
            continue
        time.sleep(chance.uniform(0, 0.2))
        victim = chance.choice(at_work)
        victim.process.kill()
        alive.remove(victim)
        killed.append(victim)
        fill()
    return killed, alive


def await_no_connection(server: servers.Server, name: str) -> None:
    end_at = time.monotonic() + 60
    while any(client["name"] == name for client in server.client.client_list()):
        assert time.monotonic() < end_at, "the server still serves a process that has ended"
        time.sleep(0.01)


# What was answered, and what was charged


def judge(answers: Sequence[Answer], charged: Units, limits: Sequence[Policy]) -> None:
    """Hold what was charged to what was allowed; and refuse to say so where a policy hardly denied anything."""
    assert lost(answers) == 0, "an answer was lost within 30 s: is the machine busy? Then nothing can be said"
    known = allowed(answers)
    wrong = {counter: (known[counter], charged[counter]) for counter in known | charged}
    assert {counter: units for counter, units in wrong.items() if units[0] != units[1]} == {}
    assert min(denials(answers)[policy.name] for policy in limits) > 100
    dry = [(policy, name) for policy in limits for name in (HOT if policy.per else [""])]
    assert {charged[policy.name, name] - policy.burst for policy, name in dry} == {0}


def allowed(answers: Sequence[Answer]) -> Units:
    """Return what the requests that are known to be allowed cost."""
    units: Units = Counter()
    for key, costs, denied_by in answers:
        if denied_by == []:
            units.update({(policy, key.get(policy, "")): cost for policy, cost in costs.items()})
    return units


def lost(answers: Sequence[Answer]) -> int:
    return sum(answer.denied_by is None for answer in answers)


def denials(answers: Sequence[Answer]) -> Counter[str]:
    """Count the requests that one policy alone denied."""
    return Counter(answer.denied_by[0] for answer in answers if answer.denied_by and len(answer.denied_by) == 1)


def charged_on(server: servers.Server, task: dict) -> Units:
    with RedisStore.from_url(server.url, prefix=task["prefix"], timeout=30) as store:
        return charged_in(Limiter(*policies_of(task), store=store))


def charged_in(limiter: Limiter) -> Units:
    """Return what each counter holds that can hold anything."""
    units: Units = Counter()
    for name in [*HOT, *COOL]:
        key = key_of(limiter.policies, name)
        for policy, part in zip(limiter.policies, limiter.peek(key).decisions, strict=True):
            units[policy.name, key.get(policy.name, "")] = policy.burst - part.remaining
    return units


def without_ttl(server: servers.Server, prefix: str) -> list[bytes]:
    """List the keys that would stay for ever; there must be some keys."""
    stored = list(server.client.scan_iter(f"{prefix}*", count=10_000))
    assert stored
    with server.client.pipeline(transaction=False) as pipeline:
        for key in stored:
            pipeline.pttl(key)
        return [key for key, ttl in zip(stored, pipeline.execute(), strict=True) if ttl <= 0]


def report(what: str, answers: Sequence[Answer]) -> None:
    denied = sum(answer.denied_by != [] for answer in answers)
    alone = ", ".join(f"{policy} {times}" for policy, times in sorted(denials(answers).items()))
    print(f"{what}: {len(answers)} decisions, {denied} denied, by one policy alone: {alone}")
