"""What both Redis stores share: each verb, written once, as a generator of commands.

A verb does one thing for a batch of callers. It yields each command, is sent the reply or thrown the server's refusal,
and returns a result for each caller. A `Pipeline` gathers the callers and carries the commands; so the same body serves
threads and tasks.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from typing import Any

from redis.exceptions import NoScriptError

from sluicegate._core.errors import StoreUnavailable
from sluicegate._core.request import Charge, Counter, Request
from sluicegate._stores.base import Remembered
from sluicegate._stores.process_local import ProcessLocal
from sluicegate._stores.redis.denials import Denials, forgetting
from sluicegate._stores.redis.failures import REFUSALS, refused
from sluicegate._stores.redis.node import ONLY_NODE, Node
from sluicegate._stores.redis.pipeline.waiter import Command, Steps
from sluicegate._stores.redis.script import (
    Arguments,
    Charges,
    ClockMismatch,
    Script,
    Scripts,
    ServerClockEstimate,
    block_arguments,
    counter_keys,
    decide_arguments,
    faults,
    parse_reply,
)

PREFIX = "sluicegate:"
TIMEOUT = 0.5
_MAX_TIMEOUT = 3600


def check_timeout(timeout: float) -> None:
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout <= _MAX_TIMEOUT:
        raise ValueError(f"timeout must be a number of seconds above 0, an hour at most, got {timeout!r}")


class Body(ProcessLocal):
    """Base class of the Redis stores: all but the carrying of commands."""

    def __init__(self, prefix: str, timeout: float, denial_ttl: float, max_waiting: int) -> None:
        if not isinstance(prefix, str) or not prefix or not prefix.isprintable():
            raise ValueError(f"prefix must be printable text, 1 character or more, got {prefix!r}")
        check_timeout(timeout)
        if isinstance(max_waiting, bool) or not isinstance(max_waiting, int) or max_waiting < 1:
            raise ValueError(f"max_waiting must be a whole number of 1 or more, got {max_waiting!r}")
        self.repaired = 0
        self._prefix = str.__str__(prefix)  # a subclass of str (an enum member, say) becomes plain str
        self._timeout = timeout
        self._max_waiting = max_waiting
        self._scripts = Scripts()
        self._server_clock = ServerClockEstimate()
        self._denials = Denials(denial_ttl)

    @property
    def remembered(self) -> int:
        """Requests denied so far without a call to the server."""
        return self._denials.given

    def _remembered(self, request: Request) -> Remembered | None:
        """Return the answer to a request that is remembered to be denied."""
        if not request.commit or not self._denials.kept:
            return None
        return self._denials.find(request.charges)

    def _node(self, _: Sequence[Charge | Counter]) -> Node:
        """Return the node that holds these counters."""
        return ONLY_NODE

    def _take(self, batch: list[Charges]) -> Steps:
        return self._decide(batch, commit=True)

    def _peek(self, batch: list[Charges]) -> Steps:
        return self._decide(batch, commit=False)

    def _decide(self, batch: list[Charges], *, commit: bool) -> Steps:
        """Decide a batch of requests. Returns an `Answer` for each, in order."""
        script = self._scripts.decide if commit else self._scripts.peek
        answers: list[Any] = [None] * len(batch)
        pending: Sequence[int] = range(len(batch))
        if commit and self._denials.kept:  # again: another caller may have been denied the same while this one waited
            answers = [self._denials.find(charges) for charges in batch]
            pending = [index for index, answer in enumerate(answers) if answer is None]
        for _ in range(2):  # a request may be sent again once: after a clock mismatch nothing was taken for it
            if not pending:
                break
            requests = batch if len(pending) == len(batch) else [batch[index] for index in pending]
            sent_ns = time.monotonic_ns()
            try:
                reply = yield from _run_script(script, decide_arguments(self._prefix, requests, self._server_clock))
            except REFUSALS as refusal:
                for index in pending:  # of these alone: the others have their answers
                    answers[index] = refused(refusal)
                break
            repaired, parsed = parse_reply(requests, reply)
            self.repaired += repaired
            if commit:
                self._denials.learn(requests, parsed, sent_ns)
            if requests is batch and ClockMismatch not in map(type, parsed):  # nearly always, and without a loop
                return parsed
            mismatched: list[int] = []
            for index, answer in zip(pending, parsed, strict=True):
                if isinstance(answer, ClockMismatch):
                    self._server_clock.correct(answer.now_us)
                    mismatched.append(index)
                    answers[index] = _stepped_again()  # unless the second reply says otherwise
                else:
                    answers[index] = answer
            pending = mismatched
        return answers

    def _forget(self, batch: list[Sequence[Counter]]) -> Steps:
        counters = [counter for each in batch for counter in each]
        with forgetting(counters):
            yield ["DEL", *counter_keys(self._prefix, counters)]
        return [True for _ in batch]

    def _block(self, batch: list[tuple[Sequence[Counter], int]]) -> Steps:
        results: list[Any] = []
        for counters, span_us in batch:
            arguments = block_arguments(self._prefix, counters, span_us, self._server_clock)
            try:
                with forgetting(counters):  # a block that ends, or is shorter than the one before, gives units back
                    reply = yield from _run_script(self._scripts.block, arguments)
            except REFUSALS as refusal:
                results.append(refused(refusal))
            else:
                results.append(_not_blocked(faults(reply)) or True)
        return results


def _run_script(script: Script, arguments: Arguments) -> Generator[Command, Any, list[Any]]:
    reply: list[Any]
    try:
        reply = yield ["EVALSHA", script.sha, *arguments]
    except NoScriptError:  # after a restart, a failover or a SCRIPT FLUSH. Nothing ran, so nothing is sent twice
        reply = yield ["EVAL", script.source, *arguments]
    return reply


def _stepped_again() -> StoreUnavailable:
    return StoreUnavailable("the store's clock was stepped between two calls, nothing was taken")


def _not_blocked(wrong: list[str]) -> StoreUnavailable | None:
    if not wrong:
        return None
    return StoreUnavailable(
        f"a counter holds something else on the server, it is not under the block, the others are: {wrong[0]}"
    )
