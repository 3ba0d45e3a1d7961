"""Limiters: policies, and the store that their counters live in."""
