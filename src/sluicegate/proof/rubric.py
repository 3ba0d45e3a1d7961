"""`RubricLine`, the six lines of the rubric, with a description of each and the questions to ask about it."""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum
from typing import NamedTuple


class RubricLine(StrEnum):
    """A line of the rubric. The kit judges the first four, the interviewer all six."""

    CORRECTNESS = "correctness"
    CONCURRENCY = "concurrency"
    PERFORMANCE = "performance"
    RESILIENCE = "resilience"
    QUALITY = "code quality"
    COMMUNICATION = "communication"


DESCRIPTIONS = {
    RubricLine.CORRECTNESS: "At most N in any T seconds, and no denial while there is room, right up to the edges.",
    RubricLine.CONCURRENCY: "Thread-safe in one process, atomic on Redis.",
    RubricLine.PERFORMANCE: "Amortised O(1) or O(log n) a decision; memory bounded by trimming and TTLs.",
    RubricLine.RESILIENCE: "Redis outages, clocks that disagree, keys that expire.",
    RubricLine.QUALITY: "Readable and tested, with small functions, good names and comments where needed.",
    RubricLine.COMMUNICATION: "Trade-offs: sliding window or token bucket, fairness, cost.",
}


class Question(NamedTuple):
    """A question for the interview.

    Attributes:
        text: The question.
        about: The cases after whose failure it is asked first, by their ids or the beginnings of these.
    """

    text: str
    about: tuple[str, ...] = ()

    def is_about(self, id_: str) -> bool:
        """Whether it is about a case."""
        return any(id_ == prefix or id_.startswith(f"{prefix}/") for prefix in self.about)


QUESTIONS = {
    RubricLine.CORRECTNESS: (
        Question(
            "Which sequence of requests is the worst for this code?",
            ("correctness/window", "correctness/edge", "correctness/limit", "correctness/rate"),
        ),
        Question("Why is that comparison strict (or why is it not)?", ("correctness/edge", "correctness/limit")),
        Question(
            "I send 1000 denied requests. When am I allowed again?",
            ("correctness/denied", "correctness/cost", "honesty/wait"),
        ),
    ),
    RubricLine.CONCURRENCY: (
        Question("Doesn't the GIL make this safe?", ("concurrency/threads", "concurrency/tasks")),
        Question(
            "One lock, or one per user? Who deletes the lock?",
            ("concurrency/threads", "concurrency/keys", "concurrency/wait"),
        ),
        Question("Why does a script help where MULTI does not?", ("concurrency/processes",)),
    ),
    RubricLine.PERFORMANCE: (
        Question(
            "A million users come once each. What is in memory an hour later?",
            ("performance/memory/idle-keys", "performance/memory/requests", "resilience/ttl"),
        ),
        Question(
            "N is 100 000. How large is a key, and what would you give up to make it smaller?",
            ("performance/memory/limit", "performance/time/limit"),
        ),
        Question(
            "Which callers cost the server more: allowed ones or denied ones?",
            ("performance/memory/denied", "performance/time"),
        ),
    ),
    RubricLine.RESILIENCE: (
        Question("Redis is down for a minute. Who notices, and how?", ("resilience/outage", "resilience/restart")),
        Question("One host runs 60 seconds fast. What happens?", ("resilience/clock",)),
        Question("The reply was lost on its way back. Was the request counted?", ("resilience/reply",)),
    ),
    RubricLine.QUALITY: (
        Question("If I break this line, which test fails?"),
        Question("Where would a second algorithm go?"),
        Question("What would you delete?"),
    ),
    RubricLine.COMMUNICATION: (
        Question("When would you take a token bucket instead?"),
        Question("All users share one limit and one of them is very busy. Then what?"),
        Question("A thousand clients were told to retry in 5 seconds. What happens in 5 seconds?"),
    ),
}


def ordered(questions: Collection[Question], failed: Collection[str]) -> list[tuple[Question, list[str]]]:
    """Return each question with the failed cases that it is about; those that are about any come first."""
    found = [(question, [id_ for id_ in failed if question.is_about(id_)]) for question in questions]
    return sorted(found, key=lambda each: not each[1])
