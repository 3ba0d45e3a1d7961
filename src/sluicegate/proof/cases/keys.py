"""Cases on keys: each user has a limit of its own, and so has each limiter."""

from __future__ import annotations

import secrets
from dataclasses import replace

from sluicegate.proof.case import case
from sluicegate.proof.cases.evidence import answers_exact, answers_match_model, failure_if_raised, worst
from sluicegate.proof.environment import Environment
from sluicegate.proof.requirement import Requirement
from sluicegate.proof.rubric import RubricLine
from sluicegate.proof.verdict import CaseVerdict, Finding
from sluicegate.proof.workers import ScenarioResult, call, call_each

_LONG = 60.0
"""A window in seconds that does not end while a case runs."""

_ENDINGS = (
    "a", "A", "a:b", "a:b:c", "a/b", "a b", "a,b", "{a}", "{a}b", "a}", "*", "a*", "a%3Ab", "%", "a|b", "a\\b", "a'b",
    'a"b', "caf\u00e9", "cafe\u0301", "\u0430", "\U0001f600", "a\u200b", "0", "00", "None", "a.b", "a-b", "a_b", "[a]",
    "a;b", "a=b", " ", "  ", "\t", "a ", "ab", "stra\u00dfe", "strasse", "\ufb01", "fi", "a+b", "a%20b", "a@b", "a#b",
    ":seq", ":count", ":lock", ":meta", "\uff41",
)  # fmt: skip
"""What is put after a key that no one has used."""

_BEGINNINGS = ("a:", "{a}", "a/", " ", "  ", "0", "00", "+", "-", "#")
"""What is put before it."""


def _like_numbers() -> list[str]:
    """Return ids that are one number if they are read as one, and that no one has used."""
    # Not the same in each run: a service may still count what an earlier one used.
    number, long = str(secrets.randbelow(9 * 10**14) + 10**14), secrets.randbelow(9 * 10**18) + 10**18
    return [
        f"{number}000",
        f"{number}e3",
        str(long),
        str(long + 1),
        number,
        f"0{number}",
        f"00{number}",
        f"+{number}",
        f"{number}.0",
        f" {number}",
        f"{number[:3]}_{number[3:]}",
    ]


def _long(mark: str) -> list[str]:
    """Return pairs of ids of 160, 300 and 1000 characters that differ in the last one only."""
    return [f"{mark}{'x' * (length - len(mark) - 1)}{end}" for length in (160, 300, 1000) for end in "12"]


@case(
    "correctness/keys/apart",
    "Users do not share a limit, whatever characters their ids contain.",
    RubricLine.CORRECTNESS,
)
def keys_apart(env: Environment) -> Finding:
    mark = env.key()
    names = [f"{mark}{text}" for text in _ENDINGS] + [f"{text}{mark}" for text in _BEGINNINGS]
    names += [*_like_numbers(), *_long(mark), mark]
    here = Requirement.CONSTRUCTOR in env.survey.met
    limit, window = (2, _LONG) if here else (env.limit, env.window)
    # One after the other: calls that get in each other's way would be slow, and prove less.
    clients = ([call(n * 0.02, name, limit + 1)] for n, name in enumerate(names))
    result = env.worker(limit=limit, window=window).run(*clients, lasts=2)
    # A limiter that rejects a strange id does not confuse it with another: leave out ids that never got an answer.
    known = {record.key for record in result.records if record.allowed is not None}
    answered = ScenarioResult([record for record in result.records if record.key in known])
    rejected = len(names) - len(known)
    if rejected > len(names) / 2:
        return Finding(CaseVerdict.UNDECIDED, _rejected(rejected, len(names), result))
    history = env.history(answered, limit=limit, window=window)
    says = f"{len(names)} ids, each with its own limit" + (f"; {rejected} of them were rejected" if rejected else "")
    return answers_exact(history, answered, denied=len(names) - rejected, says=says)


def _rejected(rejected: int, number: int, result: ScenarioResult) -> str:
    error = f": {result.errors[0].what}" if result.errors else ""
    return f"{rejected} of {number} ids were rejected, too many to tell whether users share a limit{error}"


@case(
    "correctness/keys/many",
    "Each of many users has a limit of its own.",
    RubricLine.CORRECTNESS,
    Requirement.CONSTRUCTOR,
)
def keys_many(env: Environment) -> Finding:
    # At random, as a checksum keeps apart what differs in its last digits only.
    others = [f"{key}-{env.random.getrandbits(64):x}" for key in env.keys(4000)]
    result = env.worker(limit=1, window=_LONG).run([call_each(0, others), call_each(0, others[:50])], lasts=30)
    says = f"each of {len(others)} users was allowed once, and 50 of them no second time"
    return answers_exact(env.history(result, limit=1, window=_LONG), result, denied=50, says=says)


@case(
    "correctness/keys/sprayed",
    "A denied key is not forgotten, however many other keys are used.",
    RubricLine.CORRECTNESS,
    Requirement.CONSTRUCTOR,
)
def keys_sprayed(env: Environment) -> Finding:
    limit, key, number, manual = 3, env.key(), 20_000, Requirement.MANUAL_CLOCK in env.survey.met
    window = 600.0 if manual else _LONG
    # On a manual clock most of the window passes meanwhile: some limiters choose by age whom they forget.
    spray = call_each(0, env.keys(number), pause=0.9 * window / number if manual else 0.0)
    worker = env.worker(limit=limit, window=window, clock="manual" if manual else "real")
    result = worker.run([call(0, key, limit + 1), spray, call(0, key, 3)], lasts=45)
    # Others may be refused: what is judged is what this key got.
    mine = ScenarioResult([record for record in result.records if record.key == key])
    history = env.history(mine, limit=limit, window=window)
    if any(record.allowed is None for record in mine.records):
        return failure_if_raised(replace(result, records=mine.records)) or Finding(
            CaseVerdict.UNDECIDED, "the key got no answer", history
        )
    says = f"still denied after {number} other keys"
    if manual:
        return answers_match_model(history, mine, [call(0, key, limit + 4)], says)
    return answers_exact(history, mine, denied=4, says=says)


@case(
    "correctness/limiters/apart",
    "Two limiters in one process count apart.",
    RubricLine.CORRECTNESS,
    Requirement.MEMORY,
    Requirement.CONSTRUCTOR,
)
def limiters_apart(env: Environment) -> Finding:
    limits, keys = (3, 5), env.keys(3)
    worker = env.worker(limit=limits[0], window=_LONG)
    results = [worker.run([call_each(0, keys, len(keys) * (limits[0] + 1))])]
    worker.beside(limits[1], _LONG)
    results.append(worker.run([call_each(0, keys, len(keys) * (limits[1] + 1))]))
    worker.turn()
    results.append(worker.run([call_each(0, keys)]))
    found = worst(
        _one_limiter(env, [results[0], results[2]], limits[0], 2), _one_limiter(env, [results[1]], limits[1], 1)
    )
    if found.verdict is not CaseVerdict.PASSED and _counts_elsewhere(env, keys, limits[0]):
        return Finding(
            CaseVerdict.SKIPPED, "the target counts outside of its process, so its limiters may share a limit"
        )
    return found


def _one_limiter(env: Environment, results: list[ScenarioResult], limit: int, denials: int) -> Finding:
    history = env.history(*results, limit=limit, window=_LONG)
    says = "each limiter allowed its own limit to each of 3 users, and no more"
    return answers_exact(history, *results, denied=denials * len({r.key for r in history.records}), says=says)


def _counts_elsewhere(env: Environment, keys: list[str], limit: int) -> bool:
    """Tell whether another process finds the keys full: then the state is in a file, and shared on purpose."""
    with env.worker(limit=limit, window=_LONG) as other:
        return any(record.allowed is False for record in other.run([call_each(0, keys)]).records)
