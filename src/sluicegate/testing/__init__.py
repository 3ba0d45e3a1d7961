"""What you need in your own tests: a clock to move, a store to fail, and limits that do as a test says.

This file only re-exports. The pytest fixture ``sluicegate`` is in `sluicegate.testing.plugin`, which pytest finds by
itself.
"""

from sluicegate.testing.clock import ManualClock
from sluicegate.testing.failing import FailingStore
from sluicegate.testing.limits_in_test import LimitsInTest

__all__ = ["FailingStore", "LimitsInTest", "ManualClock"]

for _name in __all__:  # tracebacks, reprs and help() name the public path
    globals()[_name].__module__ = __name__
