"""All cases, one file a section."""

from sluicegate.proof.case import Case, registered
from sluicegate.proof.cases import concurrency, correctness, honesty, performance, resilience

# Importing a section registers its cases. Reports keep this order.
_SECTIONS = (correctness, concurrency, performance, resilience, honesty)


def cases() -> list[Case]:
    """Return all cases by section, in the order of their files."""
    order = [section.__name__.rpartition(".")[2] for section in _SECTIONS]
    return sorted(registered(), key=lambda each: order.index(each.section))
