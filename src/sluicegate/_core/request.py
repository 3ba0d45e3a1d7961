"""What one request asks a store to charge: values, made from a key and a cost that have been checked."""

from __future__ import annotations

from typing import NamedTuple

from sluicegate._core.keys import CounterKey
from sluicegate._core.policy import Policy


class Counter(NamedTuple):
    """One policy's counter for one key."""

    policy: Policy
    key: CounterKey


class Charge(NamedTuple):
    """Units to take from one policy's counter for one key."""

    policy: Policy
    key: CounterKey
    cost: int
