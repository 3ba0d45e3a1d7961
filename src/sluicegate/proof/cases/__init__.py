"""The cases, one file a section."""

from sluicegate.proof.case import Case, entered
from sluicegate.proof.cases import concurrency, correctness, honesty, performance, resilience

_SECTIONS = (correctness, concurrency, performance, resilience, honesty)  # each enters its own; the order of reports


def cases() -> list[Case]:
    """Return all cases: by section, and in the order of their files."""
    order = [section.__name__.rpartition(".")[2] for section in _SECTIONS]
    return sorted(entered(), key=lambda each: order.index(each.section))
