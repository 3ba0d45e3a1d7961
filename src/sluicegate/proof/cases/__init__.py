"""All cases: a file a topic, and five sections."""

from sluicegate.proof.case import Case, registered
from sluicegate.proof.cases import (
    concurrency,
    correctness,
    costs,
    honesty,
    keys,
    leases,
    performance,
    remaining,
    resilience,
    settling,
    waiting,
)

# Importing a topic registers its cases. Reports keep this order within a section.
_TOPICS = (
    correctness,
    keys,
    costs,
    settling,
    concurrency,
    waiting,
    leases,
    performance,
    resilience,
    honesty,
    remaining,
)
_SECTIONS = ("correctness", "concurrency", "performance", "resilience", "honesty")


def cases() -> list[Case]:
    """Return all cases by section, in the order of their files."""
    topics = [topic.__name__ for topic in _TOPICS]
    return sorted(registered(), key=lambda each: (_SECTIONS.index(each.section), topics.index(each.run.__module__)))
