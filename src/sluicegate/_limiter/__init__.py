"""Limiters: policies and the store their counters live in."""
