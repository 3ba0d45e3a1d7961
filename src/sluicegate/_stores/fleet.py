"""The fleet: the instances that share a store, and the share of a limit that each has while the store is down. No I/O.

Each instance is a store object. While the store is well, each announces itself there, and so learns who else is alive.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Sequence
from fractions import Fraction

from sluicegate._core.keys import CounterKey, key_bytes
from sluicegate._core.policy import Policy


class Fleet:
    """What one instance knows of its fleet.

    Attributes:
        id: The name under which it announces itself: random, and new for every store object and process.
        size: The live instances when it last announced itself, itself included; None if it never has.
    """

    def __init__(self) -> None:
        self.leave()

    def leave(self) -> None:
        """Forget the fleet, and be another instance from now on: in a forked child."""
        self.id = secrets.token_hex(8)
        self.size: int | None = None
        self._members: Sequence[bytes] = ()
        self._held_until = 0.0

    def hold(self, seconds: float) -> None:
        """Let the fleet not shrink for a while: after an outage its instances come back one after the other."""
        self._held_until = time.monotonic() + seconds

    def learn(self, size: int, members: Sequence[bytes]) -> None:
        """Take over how many instances are alive, and the names of all, or of the first of very many."""
        if self.size is not None and size < self.size and time.monotonic() < self._held_until:
            return
        self.size = max(size, 1)
        self._members = members

    def share(self, policy: Policy, units: int, key: CounterKey) -> int:
        """Return this instance's share of a limit: floor(units / size).

        With fewer units than instances that would be none for anybody. Then ``units`` of the instances have one each,
        chosen by a hash of the counter and the instance: others for every key.
        """
        if self.size is None:
            return units
        share = units // self.size
        if not share and len(self._members) == self.size:
            mine = self.id.encode()
            counter = policy.namespace.encode() + b"\0" + key_bytes(key)
            rank = _place(counter, mine)
            share = int(sum(_place(counter, each) < rank for each in self._members if each != mine) < units)
        return share


def fraction(share: float) -> Fraction:
    """Return a share as it is written in decimals, and not as the nearest binary number."""
    return Fraction(str(share))


def fixed_share(share: Fraction, units: int) -> int:
    """Return a fixed fraction of a limit, rounded down."""
    return share.numerator * units // share.denominator


def _place(counter: bytes, member: bytes) -> bytes:
    return hashlib.blake2b(counter + b"\0" + member, digest_size=8).digest()
