"""Callers whose requests travel together: a verb that runs for all of them, one command and one reply at a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from sluicegate._stores.redis.pipeline.waiter import Alone, Command, Failed, Waiter


class Batch:
    """Callers of one verb, from the first command that is sent for them to their outcomes.

    Args:
        waiters: The callers, one or more.
        wake: Called with each caller that has its outcome.

    Attributes:
        waiters: The callers.
        charges: How many charges they have in all.
        deadline: When the last of them must have its outcome.
        effect: What their errors say that their verb did.
        is_alone: Whether no other batch may be sent until the reply to its last command.
        started_at: When it was made, by `time.monotonic`.
    """

    __slots__ = ("_steps", "_wake", "charges", "deadline", "effect", "is_alone", "started_at", "waiters")

    def __init__(self, waiters: list[Waiter], wake: Callable[[Waiter], None]) -> None:
        self.waiters = waiters
        self.charges = sum([waiter.charges for waiter in waiters])
        self.deadline = waiters[-1].deadline
        self.started_at = time.monotonic()
        self._wake = wake
        verb = waiters[0].verb
        self.effect = verb.effect
        self.is_alone = False
        self._steps = verb([waiter.argument for waiter in waiters])

    def start(self) -> Command | None:
        """Return the first command; None if all callers have their outcome without one."""
        return self.on_reply(None)

    def on_reply(self, reply: Any) -> Command | None:
        """Take the reply to the last command. Returns the next one; None once all callers have their outcome."""
        try:
            command = self._steps.send(reply)
        except StopIteration as stop:
            self._finish(stop.value)
            return None
        self.is_alone = type(command) is Alone
        return command

    def on_refusal(self, refusal: Exception) -> Command | None:
        """Take the server's refusal of the last command, as `on_reply` takes a reply.

        Raises:
            Exception: The refusal, if the verb does not handle it: it is the outcome of every caller.
        """
        try:
            command = self._steps.throw(refusal)
        except StopIteration as stop:
            self._finish(stop.value)
            return None
        self.is_alone = type(command) is Alone
        return command

    def fail(self, error: Exception) -> None:
        """Let every caller that has no outcome yet fail with the same error."""
        for waiter in self.waiters:
            if waiter.outcome is None:
                waiter.outcome = Failed(error)
                self._wake(waiter)

    def _finish(self, results: list[Any]) -> None:
        wake = self._wake
        for waiter, result in zip(self.waiters, results, strict=True):
            if waiter.outcome is None:  # it may have left by now, late or cancelled
                waiter.outcome = result
                wake(waiter)
            elif waiter.unheard is not None and not isinstance(result, Exception):
                waiter.unheard(waiter.argument, result)
