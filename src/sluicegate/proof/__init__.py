"""The proof kit: grades any rate limiter and shows the evidence. This file only re-exports."""

from sluicegate.proof.history import History, InvalidHistory, Record
from sluicegate.proof.verdict import Finding, Verdict

__all__ = ["Finding", "History", "InvalidHistory", "Record", "Verdict"]
