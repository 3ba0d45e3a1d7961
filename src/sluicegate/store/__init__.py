"""The stores: where counters live. The protocol is in ``protocol.py``; this file only re-exports."""

from sluicegate.store.memory import MemoryStore as MemoryStore
from sluicegate.store.protocol import Answer as Answer
from sluicegate.store.protocol import AsyncStore as AsyncStore
from sluicegate.store.protocol import Charge as Charge
from sluicegate.store.protocol import Counter as Counter
from sluicegate.store.protocol import Remembered as Remembered
from sluicegate.store.protocol import Request as Request
from sluicegate.store.protocol import Store as Store
