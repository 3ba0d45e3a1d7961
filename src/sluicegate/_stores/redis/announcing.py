"""When an instance announces itself to its fleet, and what it makes of the answer. No I/O: a decision carries both."""

from __future__ import annotations

import math
import time
from typing import Literal

from sluicegate._stores.fleet import Fleet
from sluicegate._stores.health import LAST_DELAY
from sluicegate._stores.redis.script import MEMBER_LIFE, MEMBERS_TTL, Announced

EVERY = 1.0
"""Seconds between two announcements of an instance that is used. A second late is soon enough: see `MEMBER_LIFE`."""

RETURN = MEMBER_LIFE + LAST_DELAY
"""Seconds after an outage within which all instances have announced themselves again."""


class Announcing:
    """The announcements of one instance.

    Args:
        fleet: What it knows of its fleet.

    Attributes:
        is_permitted: Whether the server lets it announce itself, as far as is known.
    """

    is_permitted = True

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._sent_at = self._heard_at = -math.inf  # by `time.monotonic`
        self._last: Announced | None = None

    def is_due(self) -> bool:
        """Tell whether the next decision is to carry an announcement, and take it as sent."""
        now = time.monotonic()
        if now - self._sent_at < EVERY:
            return False
        self._sent_at = now
        return True

    def expect_return(self) -> None:
        """Let the fleet not shrink until its instances had time to come back from an outage."""
        self._fleet.hold(RETURN)

    def learn(self, announced: Announced) -> Literal["state-lost", "failed-over"] | None:
        """Take over what an announcement returned. Returns what has happened to the server since the last one."""
        self.is_permitted = True
        before, self._last = self._last, announced
        since, self._heard_at = self._heard_at, time.monotonic()
        happened: Literal["state-lost", "failed-over"] | None = None
        if before is not None and self._heard_at - since < MEMBERS_TTL:  # an older mark may have expired by itself
            if before.mark != announced.mark:
                self.expect_return()  # the members are lost, too
                happened = "state-lost"
            elif before.run != announced.run:
                happened = "failed-over"
        self._fleet.learn(announced.size, announced.members)
        return happened

    def after_fork(self) -> None:
        """Announce the instance that a forked child is."""
        self._sent_at = -math.inf
