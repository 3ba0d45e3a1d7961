"""Python imports this at the start of each program that has the folder in PYTHONPATH: its limiters wait long.

On a busy machine a store's answer may come after the program's deadline, and the program show what it does in outages.
"""

from __future__ import annotations

from sluicegate._limiter import async_limiter, limiter

PATIENT = 30.0

for module in (limiter, async_limiter):
    module.checked_deadline = lambda _: PATIENT
