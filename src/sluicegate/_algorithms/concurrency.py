"""Concurrency: permits that are lent, each until it is given back or its lease ends. Same rule as ``concurrency.lua``.

A lease ends ``ttl`` after it was made or last renewed, never sooner than the newest one: so leases are in the order in
which they end, and when the clock steps back they are held longer, and never too many are held.

Settling a lease at 0 releases it, and at its cost renews it. One that has ended is neither: its holder has lost it.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import count, islice

from sluicegate._core.decision import NEVER, Verdict, verdict_of
from sluicegate._core.policy import Concurrency
from sluicegate._core.request import Mark

NAME = Concurrency.algorithm
CALENDAR_TIME = False

_next_number = count(1).__next__


class Leases:
    """The leases on one key's permits.

    Attributes:
        by_number: When each ends, nanoseconds, and its permits; in the order in which they end.
        used: The permits of all of them.
    """

    __slots__ = ("by_number", "used")

    def __init__(self) -> None:
        self.by_number: OrderedDict[int, tuple[int, int]] = OrderedDict()
        self.used = 0

    def newest_ns(self) -> int:
        """Return when the last of them ends."""
        return self.by_number[next(reversed(self.by_number))][0]

    def ended(self, now_ns: int) -> list[int]:
        """Return the numbers of the leases that have ended."""
        numbers = []
        for number, (ends_ns, _) in self.by_number.items():
            if ends_ns > now_ns:
                break
            numbers.append(number)
        return numbers

    def drop(self, number: int) -> None:
        """Forget one lease."""
        self.used -= self.by_number.pop(number)[1]


def decide(
    leases: Leases | None, policy: Concurrency, now_ns: int, cost: int, commit: bool
) -> tuple[Leases | None, Verdict]:
    """Lend ``cost`` permits, or not."""
    ended = [] if leases is None else leases.ended(now_ns)
    if leases is not None and commit:
        for number in ended:
            leases.drop(number)
        ended = []
    used, newest_ns = 0, now_ns
    if leases is not None and len(leases.by_number) > len(ended):
        used = leases.used - sum(leases.by_number[number][1] for number in ended)
        newest_ns = min(leases.newest_ns(), _latest_ns(leases, policy, now_ns))
    room = policy.limit - used
    if cost > room or not commit:
        reset_after_us = -((now_ns - newest_ns) // 1000)
        if cost <= room:
            return leases, verdict_of((True, room, 0, reset_after_us))
        wait_us = NEVER
        if leases is not None and cost <= policy.limit:
            ends_ns = min(_ends_ns(leases, len(ended), cost - room), _latest_ns(leases, policy, now_ns))
            wait_us = -((now_ns - ends_ns) // 1000)
        return leases, verdict_of((False, max(room, 0), wait_us, reset_after_us))
    if leases is None:
        leases = Leases()
    ends_ns = max(now_ns + policy.window_ns, newest_ns)
    leases.used += cost
    leases.by_number[_next_number()] = ends_ns, cost
    return leases, verdict_of((True, room - cost, 0, -((now_ns - ends_ns) // 1000)))


def _ends_ns(leases: Leases, ended: int, permits: int) -> int:
    """Return when so many permits have come back if nobody renews a lease, behind the ``ended`` first ones."""
    last_ns = 0
    for last_ns, lent in islice(leases.by_number.values(), ended, None):  # noqa: B007 - it is returned
        permits -= lent
        if permits <= 0:
            break
    return last_ns


def _latest_ns(leases: Leases, policy: Concurrency, now_ns: int) -> int:
    """Return when the last lease ends, as if those were repaired that a clock step left too far ahead."""
    newest_ns = leases.newest_ns()
    return newest_ns if newest_ns - now_ns <= 2 * policy.window_ns else now_ns + policy.window_ns


def mark(leases: Leases) -> tuple[Leases, Mark]:
    """Return the leases, and the number of the newest one."""
    return leases, next(reversed(leases.by_number))


def settle(
    leases: Leases, policy: Concurrency, now_ns: int, cost: int, mark: Mark, actual: int
) -> tuple[Leases | None, bool]:
    """Release a lease, or renew it."""
    ends_ns, _ = leases.by_number.get(mark, (now_ns, 0))
    if ends_ns <= now_ns:
        return leases, False
    if not actual:
        leases.drop(mark)
        return leases if leases.by_number else None, True
    repair(leases, policy, now_ns)
    leases.by_number[mark] = max(now_ns + policy.window_ns, leases.newest_ns()), cost
    leases.by_number.move_to_end(mark)
    return leases, True


def repair(leases: Leases, policy: Concurrency, now_ns: int) -> bool:
    """Move leases that a clock step left more than a window too far ahead back to a window from now (G8)."""
    if not leases.by_number or leases.newest_ns() - now_ns <= 2 * policy.window_ns:
        return False
    latest_ns = now_ns + policy.window_ns
    for number, (ends_ns, permits) in leases.by_number.items():
        if ends_ns > latest_ns:
            leases.by_number[number] = latest_ns, permits
    return True


def trim(leases: Leases, _: Concurrency, now_ns: int) -> None:
    """Forget the leases that have ended."""
    for number in leases.ended(now_ns):
        leases.drop(number)


def expires_at_ns(leases: Leases, _: Concurrency) -> int:
    """Return when the last lease ends."""
    return leases.newest_ns() if leases.by_number else 0


def arguments(policy: Concurrency, cost: int, _: int) -> tuple[int, ...]:
    """Return the ARGV of ``concurrency.lua``."""
    return cost, policy.limit, policy.window_us
