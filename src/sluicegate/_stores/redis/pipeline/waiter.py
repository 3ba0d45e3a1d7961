"""One caller of a pipeline, and what it waits for."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, NamedTuple, Protocol

Command = list[Any]
"""A Redis command, its name first."""


class Alone(Command):
    """A command until whose reply no other batch is sent."""


Steps = Generator[Command, Any, list[Any]]


class Effect(NamedTuple):
    """What the errors of a verb say that it did.

    Attributes:
        none: If it did nothing.
        unknown: If it may have been done.
    """

    none: str
    unknown: str


class Verb(Protocol):
    """Does one thing for a batch of callers, given the argument of each.

    It yields each command, and is sent the reply or thrown the server's refusal. It returns a result for each caller,
    never None; a result that is a `StoreError` is the failure of that caller alone.
    """

    effect: Effect

    def __call__(self, batch: list[Any], /) -> Steps: ...


class Failed(NamedTuple):
    """A failure that many callers may share. Each of them raises its own copy of the error."""

    error: Exception


class Waiter:
    """One caller, from its call to its outcome.

    Attributes:
        verb: What to do. Callers of the same verb may share a batch.
        argument: What to do it with, in the form that the verb takes.
        charges: How many charges it is, for the size of a batch.
        deadline: When the caller must have its outcome, in seconds of its pipeline's clock.
        wake_up: What the caller sleeps on, if it does. Only its pipeline knows the type.
        seen: How many failures there had been when it called.
        sent: Whether it has left the queue.
        outcome: The result, or a `Failed`; None while it waits.
        unheard: Called with the argument and the result if the caller did not wait for it, unless it is None.
    """

    __slots__ = ("argument", "charges", "deadline", "outcome", "seen", "sent", "unheard", "verb", "wake_up")

    def __init__(self, verb: Verb, argument: Any, charges: int, deadline: float, wake_up: Any = None) -> None:
        self.verb = verb
        self.argument = argument
        self.charges = charges
        self.deadline = deadline
        self.wake_up = wake_up
        self.seen = 0
        self.sent = False
        self.outcome: Any = None
        self.unheard: Callable[[Any, Any], None] | None = None
