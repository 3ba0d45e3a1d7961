"""`RubricLine`, the six lines of the rubric, with a description of each and the questions to ask about it."""

from __future__ import annotations

from enum import StrEnum


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

QUESTIONS = {
    RubricLine.CORRECTNESS: (
        "Which sequence of requests is the worst for this code?",
        "Why is that comparison strict (or why is it not)?",
        "I send 1000 denied requests. When am I allowed again?",
    ),
    RubricLine.CONCURRENCY: (
        "Doesn't the GIL make this safe?",
        "One lock, or one per user? Who deletes the lock?",
        "Why does a script help where MULTI does not?",
    ),
    RubricLine.PERFORMANCE: (
        "A million users come once each. What is in memory an hour later?",
        "N is 100 000. How large is a key, and what would you give up to make it smaller?",
        "Which callers cost the server more: allowed ones or denied ones?",
    ),
    RubricLine.RESILIENCE: (
        "Redis is down for a minute. Who notices, and how?",
        "One host runs 60 seconds fast. What happens?",
        "The reply was lost on its way back. Was the request counted?",
    ),
    RubricLine.QUALITY: (
        "If I break this line, which test fails?",
        "Where would a second algorithm go?",
        "What would you delete?",
    ),
    RubricLine.COMMUNICATION: (
        "When would you take a token bucket instead?",
        "All users share one limit and one of them is very busy. Then what?",
        "A thousand clients were told to retry in 5 seconds. What happens in 5 seconds?",
    ),
}
