"""What you need to write a store of your own: the protocols, and the values that pass through them. Re-exports only."""

from sluicegate._core.decision import NEVER, Verdict
from sluicegate._core.request import Charge, Counter, Request
from sluicegate._stores.base import AsyncStore, Remembered, Store

__all__ = ["NEVER", "AsyncStore", "Charge", "Counter", "Remembered", "Request", "Store", "Verdict"]
