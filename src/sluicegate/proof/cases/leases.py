"""Cases on leases: of permits that are held, released and renewed, no more than N are held at a time."""

from __future__ import annotations

from sluicegate.proof.case import case
from sluicegate.proof.cases.evidence import answers_exact, limit_not_exceeded, unless, unless_paused
from sluicegate.proof.cases.story import Part, compared, steps_of
from sluicegate.proof.environment import Environment
from sluicegate.proof.requirement import Requirement
from sluicegate.proof.rubric import RubricLine
from sluicegate.proof.verdict import Finding
from sluicegate.proof.workers import Client, Worker, call

_LONG = 60.0
_SHORT = 1.0


def _acquire(key: str, answers: str, at: float = 0.0) -> Part:
    return Part([call(at, key, len(answers), verb="acquire")], answers)


def _release(key: str, number: int) -> Part:
    """Release the permit that was the first, second, ... to be acquired for the key."""
    return Part([call(0, key, cost=number, verb="release")])


def _renew(key: str, number: int, times: int = 1, at: float = 0.0) -> Part:
    return Part([call(at, key, times, cost=number, verb="renew")])


def _worker(env: Environment, limit: int, ttl: float) -> Worker:
    """Start a worker whose clock only the kit moves, if the target reads it."""
    manual = ttl < _LONG and Requirement.MANUAL_CLOCK in env.survey.met
    return env.worker(limit=limit, window=ttl, clock="manual" if manual else "real")


@case(
    "concurrency/lease/limit",
    "No more than N permits are held at a time, and one that is released can be had again, once.",
    RubricLine.CONCURRENCY,
    Requirement.LEASES,
)
def limit(env: Environment) -> Finding:
    key, other = env.keys(2)
    says = "2 of 2 were lent; after one was released, one more was, also when it was released twice"
    first = [_acquire(key, "aad"), _release(key, 1), _acquire(key, "ad")]
    twice = [_acquire(other, "aad"), _release(other, 1), _release(other, 1), _acquire(other, "ad")]
    parts = [*first, *twice]
    result = _worker(env, 2, _LONG).run(steps_of(parts), lasts=5)
    return compared(env.history(result, limit=2, window=_LONG, save=False), result, parts, says)


@case(
    "concurrency/lease/ends",
    "The permit of a holder that has crashed comes back when its lease ends, and not before.",
    RubricLine.CONCURRENCY,
    Requirement.LEASES,
)
def ends(env: Environment) -> Finding:
    # Without releases and renewals a lease is what a unit is to a sliding window of that length.
    number, ttl = 2, _SHORT
    times = [share * ttl for share in (0.0, 0.5, 0.6, 0.9, 1.1, 1.2, 1.55, 1.6)]
    keys = env.keys(3)
    clients: list[Client] = [[call(at, key, verb="acquire") for at in times] for key in keys]
    if Requirement.MANUAL_CLOCK in env.survey.met:  # its clients run one after the other
        clients = [[call(at, key, verb="acquire") for at in times for key in keys]]
    result = _worker(env, number, ttl).run(*clients, lasts=2)
    history = env.history(result, limit=number, window=ttl)
    return answers_exact(history, result, denied=9, says="each permit came back when its lease ended")


@case(
    "concurrency/lease/renewed",
    "A lease that is renewed lasts for one more term from then on, and not for several.",
    RubricLine.CONCURRENCY,
    Requirement.LEASES,
    alone=True,
    timed=True,
)
def renewed(env: Environment) -> Finding:
    key, ttl = env.key(), _SHORT
    says = "a permit that was renewed six times at half of its term was held at 1.2 terms, and free at 1.7"
    parts = [
        _acquire(key, "a"),
        _renew(key, 1, 6, at=0.5 * ttl),
        _acquire(key, "d", at=1.2 * ttl),
        _acquire(key, "a", at=1.7 * ttl),
    ]
    result = _worker(env, 1, ttl).run(steps_of(parts), lasts=5)
    found = compared(env.history(result, limit=1, window=ttl, save=False), result, parts, says)
    return unless_paused(found, result, for_=0.1)


@case(
    "concurrency/lease/late",
    "When a lease has ended, neither a release nor a renewal by its holder touches the permits of others.",
    RubricLine.CONCURRENCY,
    Requirement.LEASES,
)
def late(env: Environment) -> Finding:
    key, other, ttl = *env.keys(2), _SHORT
    at = 1.2 * ttl
    says = (
        "a permit was lent anew when its lease had ended; a release by the first holder freed nothing, and a renewal "
        "by it held nothing"
    )
    released = [_acquire(key, "a", at), _release(key, 1), _acquire(key, "d")]
    revived = [_acquire(other, "a"), _renew(other, 1), _release(other, 2), _acquire(other, "ad")]
    parts = [_acquire(key, "a"), _acquire(other, "a"), *released, *revived]
    result = _worker(env, 1, ttl).run(steps_of(parts), lasts=5)
    history = env.history(result, limit=1, window=ttl, save=False)
    first, again = history.records[:2], history.records[2:]
    in_time = again and again[0].start >= first[-1].end + ttl and again[-1].end < again[0].start + ttl
    return unless(compared(history, result, parts, says), "" if in_time else "the calls came too late")


@case(
    "concurrency/lease/threads",
    "However many threads ask at once, no more than N permits are held.",
    RubricLine.CONCURRENCY,
    Requirement.LEASES,
    Requirement.SYNC,
    alone=True,
)
def threads(env: Environment) -> Finding:
    number, keys = 2, env.keys(100)
    clients: list[Client] = [[call(n * 0.015, key, verb="acquire") for n, key in enumerate(keys)]] * 6
    worker = env.worker(limit=number, window=_LONG)
    result = worker.run(*clients, preempt=Requirement.FILE in env.survey.met, lasts=10)
    return limit_not_exceeded(env.history(result, limit=number, window=_LONG), result)
