"""The cases, one file a section. Importing this enters all of them, in the order of the report."""

from headgate.proof.cases import correctness, concurrency, performance, resilience, honesty  # noqa: I001 - their order is the report's

__all__ = ["concurrency", "correctness", "honesty", "performance", "resilience"]
