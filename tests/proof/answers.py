"""Read what a target saw, for tests of the worker: the target answers with text instead of a bool."""

from __future__ import annotations

from sluicegate.proof.target import Target
from sluicegate.proof.workers import Worker, call


def text_answered(target: Target, **how: object) -> str:
    """Return the text that a target answers where a bool is expected."""
    with Worker(target, patience=10) as worker:
        worker.load(3, 1.0, **how)
        result = worker.run([call(0, "a")])
    assert not result.errors
    [text] = result.unexpected
    return text.removeprefix("str ").strip("'")
