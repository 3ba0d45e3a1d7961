"""Where counters live. The protocol is in ``base.py``."""
