"""The stores: where counters live. The protocol is in ``protocol.py``; this file only re-exports."""

from headgate.store.memory import MemoryStore as MemoryStore
from headgate.store.protocol import Answer as Answer
from headgate.store.protocol import AsyncStore as AsyncStore
from headgate.store.protocol import Charge as Charge
from headgate.store.protocol import Counter as Counter
from headgate.store.protocol import Remembered as Remembered
from headgate.store.protocol import Request as Request
from headgate.store.protocol import Store as Store
