"""What you need to write a store or a clock of your own. Re-exports only."""

from sluicegate._core.clock import Clock
from sluicegate._core.decision import NEVER, Verdict
from sluicegate._core.request import Charge, Counter, Mark, Request, Settlement
from sluicegate._stores.base import (
    AsyncReservingStore,
    AsyncStore,
    Fallback,
    Remembered,
    Reserved,
    ReservingStore,
    Store,
)

__all__ = [
    "NEVER",
    "AsyncReservingStore",
    "AsyncStore",
    "Charge",
    "Clock",
    "Counter",
    "Fallback",
    "Mark",
    "Remembered",
    "Request",
    "Reserved",
    "ReservingStore",
    "Settlement",
    "Store",
    "Verdict",
]
