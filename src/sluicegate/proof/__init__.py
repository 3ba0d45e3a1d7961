"""The proof kit: grade any rate limiter, with evidence for every verdict. This file only re-exports."""

from sluicegate.proof.history import History, InvalidHistory, Record
from sluicegate.proof.verdict import CaseVerdict, Finding

__all__ = ["CaseVerdict", "Finding", "History", "InvalidHistory", "Record"]
