"""The rubric: its six lines, and what only a person can judge, as questions to ask."""

from __future__ import annotations

from enum import StrEnum


class Line(StrEnum):
    """A line of the rubric. The kit judges the first four; the interviewer all of them."""

    CORRECTNESS = "correctness"
    CONCURRENCY = "concurrency"
    PERFORMANCE = "performance"
    RESILIENCE = "resilience"
    QUALITY = "code quality"
    COMMUNICATION = "communication"


SAYS = {
    Line.CORRECTNESS: "At most N in any T seconds, and no denial where there is room; edges near rollover.",
    Line.CONCURRENCY: "Thread-safe in one process, atomic on Redis.",
    Line.PERFORMANCE: "Amortised O(1) or O(log n) a decision; memory bounded by TTL and trim.",
    Line.RESILIENCE: "Redis away, clocks apart, keys that expire.",
    Line.QUALITY: "Readable, tested, small functions, names, comments where they are needed.",
    Line.COMMUNICATION: "Trade-offs: sliding window or token bucket, fairness, cost.",
}

QUESTIONS = {
    Line.CORRECTNESS: (
        "Which sequence of requests is the worst for this code?",
        "Why is that comparison strict, or not?",
        "I send 1000 denied requests. When am I allowed again?",
    ),
    Line.CONCURRENCY: (
        "Does the GIL not make this safe?",
        "One lock, or one per user? Who deletes the lock?",
        "Why does a script help where MULTI does not?",
    ),
    Line.PERFORMANCE: (
        "A million users come once each. What is in memory an hour later?",
        "N is 100 000. What does a key weigh, and what would you give up to make it smaller?",
        "Who makes the server work harder: allowed callers or denied ones?",
    ),
    Line.RESILIENCE: (
        "Redis is away for a minute. Who notices, and how?",
        "One host runs 60 seconds fast. What happens?",
        "The reply was lost on its way back. Was the request counted?",
    ),
    Line.QUALITY: (
        "Break this line: which test goes red?",
        "Where would a second algorithm go?",
        "What would you delete?",
    ),
    Line.COMMUNICATION: (
        "When would you take a token bucket instead?",
        "All users share one limit and one of them is very busy. Then what?",
        "A thousand clients were told to retry in 5 seconds. What happens in 5 seconds?",
    ),
}
