"""Reservations and permits that the worker holds: plain objects and context managers, ended once or twice."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, contextmanager
from typing import Self

import pytest

from sluicegate.proof.worker.held import Held, Permits


class Plain:
    """A reservation that refuses to be ended twice, and notes what is called."""

    allowed = True

    def __init__(self) -> None:
        self.log: list[object] = []

    def settle(self, actual: int) -> None:
        if self.log and self.log[-1] != "enter":
            raise ValueError("settled twice")
        self.log.append(actual)

    def cancel(self) -> None:
        self.settle(-1)


class Awaited(Plain):
    async def settle(self, actual: int) -> None:
        await asyncio.sleep(0)
        super().settle(actual)

    async def cancel(self) -> None:
        await self.settle(-1)


class Managed(Plain):
    def __enter__(self) -> Self:
        self.log.append("enter")
        return self

    def __exit__(self, *error: object) -> None:
        assert error == (None, None, None)
        self.log.append("exit")


class ManagedAsync(Awaited):
    async def __aenter__(self) -> Self:
        await asyncio.sleep(0)
        self.log.append("enter")
        return self

    async def __aexit__(self, *error: object) -> None:
        await asyncio.sleep(0)
        assert error == (None, None, None)
        self.log.append("exit")


async def entered_and_ended(reservation: object, *ends: tuple[str, int]) -> object:
    held = Held(reservation)
    entered = await held.enter()
    for verb, cost in ends:
        await held.end(verb, cost)
    return entered


@pytest.mark.parametrize("kind", [Plain, Awaited])
def test_a_plain_reservation_is_settled_with_what_was_used_and_a_second_end_is_no_error(kind: type[Plain]):
    settled, cancelled = kind(), kind()
    assert asyncio.run(entered_and_ended(settled, ("settle", 2), ("settle", 1), ("cancel", 1))) is settled
    asyncio.run(entered_and_ended(cancelled, ("cancel", 1), ("settle", 2)))
    assert (settled.log, cancelled.log) == ([2], [-1])


@pytest.mark.parametrize("kind", [Managed, ManagedAsync])
def test_a_context_manager_is_entered_at_once_and_left_once_when_it_is_ended(kind: type[Plain]):
    held, cancelled = kind(), kind()
    asyncio.run(entered_and_ended(held))
    assert held.log == ["enter"]
    asyncio.run(entered_and_ended(cancelled, ("cancel", 1), ("settle", 2)))
    assert cancelled.log == ["enter", -1, "exit"]


def test_a_context_manager_made_of_a_generator_is_left_as_well():
    inner = Plain()

    @contextmanager
    def reserve():
        yield inner
        inner.log.append("exit")

    @asynccontextmanager
    async def reserve_async():
        yield inner
        inner.log.append("exit")

    for made in (reserve(), reserve_async()):
        inner.log.clear()
        assert asyncio.run(entered_and_ended(made, ("settle", 3))) is inner
        assert inner.log == [3, "exit"]


# Permits


class Permit:
    def __init__(self) -> None:
        self.log: list[str] = []

    def release(self) -> None:
        if "release" in self.log:
            raise RuntimeError("released twice")
        self.log.append("release")

    async def renew(self) -> bool:
        self.log.append("renew")
        return True


def test_permits_are_ended_by_the_number_of_the_call_that_acquired_them():
    permits, first, third, other = Permits(), Permit(), Permit(), Permit()
    assert [permits.add("a", each) for each in (first, None, third)] == [True, False, True]
    assert permits.add("b", other)

    async def ends() -> None:
        await permits.end("renew", "a", 3)
        await permits.end("release", "a", 1)
        await permits.end("release", "a", 1)  # it raises, which is no fault of its own
        await permits.end("release", "a", 2)  # was denied

    asyncio.run(ends())
    assert (first.log, third.log, other.log) == (["release"], ["renew"], [])


@pytest.mark.parametrize(("acquired", "is_permit"), [(None, False), (False, False), (True, True), (0, True)])
def test_a_permit_is_anything_but_none_and_false(acquired: object, *, is_permit: bool):
    assert Permits().add("a", acquired) is is_permit
