"""Counters in this process: the store, its lock, the key tables, and the fast path of ``allow``."""
