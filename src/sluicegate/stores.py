"""What you need to write a store or a clock of your own. Re-exports only."""

from sluicegate._core.clock import Clock
from sluicegate._core.decision import NEVER, Verdict
from sluicegate._core.request import Charge, Counter, Request
from sluicegate._stores.base import AsyncStore, Fallback, Remembered, Store

__all__ = ["NEVER", "AsyncStore", "Charge", "Clock", "Counter", "Fallback", "Remembered", "Request", "Store", "Verdict"]
