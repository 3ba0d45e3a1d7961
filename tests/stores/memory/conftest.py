"""What the tests of the memory store share."""

from __future__ import annotations

import pytest

from sluicegate.testing import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()
