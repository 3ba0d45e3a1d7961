"""What both Redis stores share: each verb, written once, as a generator of commands.

A verb does one thing for a batch of callers. It yields each command, is sent the reply or thrown the server's refusal,
and returns a result for each caller. A `Pipeline` gathers the callers and carries the commands; so the same body serves
threads and tasks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from functools import wraps
from itertools import chain
from typing import Any, Protocol, TypeVar, cast

from redis.exceptions import NoScriptError

from sluicegate._core import codes
from sluicegate._core.errors import StoreError, StoreUnavailable
from sluicegate._core.request import Charge, Counter, Request, Settlement
from sluicegate._stores.base import Remembered
from sluicegate._stores.fleet import Fleet
from sluicegate._stores.health import Health
from sluicegate._stores.local import Local
from sluicegate._stores.outage import Outage
from sluicegate._stores.process_local import ProcessLocal, renew_after_fork
from sluicegate._stores.redis.address import address, server
from sluicegate._stores.redis.announcing import Announcing
from sluicegate._stores.redis.denials import Denials, forgetting
from sluicegate._stores.redis.diagnoses import CLOCK_STEPPED, NO_PERMISSION, OTHER_DATA
from sluicegate._stores.redis.facts import look
from sluicegate._stores.redis.failures import REFUSALS, from_reply, refused
from sluicegate._stores.redis.node import ONLY_NODE, Node
from sluicegate._stores.redis.pipeline.base import Pipeline
from sluicegate._stores.redis.pipeline.guard import Guard
from sluicegate._stores.redis.pipeline.waiter import Command, Effect, Steps, Verb
from sluicegate._stores.redis.script import (
    Announced,
    Answer,
    Arguments,
    Charges,
    ClockMismatch,
    Line,
    Script,
    Scripts,
    ServerClockEstimate,
    block_arguments,
    counter_keys,
    decide_arguments,
    faults,
    parse_announced,
    parse_reply,
    parse_reserved,
    parse_settled,
    reserve_arguments,
    settle_arguments,
    with_announcement,
)
from sluicegate._stores.redis.stored_keys import lies_in_one_slot, members_key

PREFIX = "sluicegate:"
_MAX_TIMEOUT = 3600


_logged_servers: set[tuple[str, int]] = set()  # by all stores of this process


def check_timeout(timeout: float) -> None:
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout <= _MAX_TIMEOUT:
        raise ValueError(f"timeout must be a number of seconds above 0, an hour at most, got {timeout!r}")


MOST_OWED = 256
"""Counters for which one call enters what is owed."""

TAKE = Effect("nothing was taken", "the cost may have been taken")
PEEK = Effect("nothing was taken", "nothing was taken")
FORGET = Effect("nothing was dropped", "it may have been dropped")
BLOCK = Effect("nothing was changed", "the block may have been changed")
SETTLE = Effect("nothing was settled", "it may have been settled")
PROBE = Effect("nothing was taken", "nothing was taken")


class _Method(Protocol):
    def __get__(self, store: Any, owner: type | None = None) -> Verb: ...


def _verb(effect: Effect) -> Callable[[Callable[[Any, list[Any]], Steps]], _Method]:
    """Make a method of a store a verb."""

    def decorate(method: Callable[[Any, list[Any]], Steps]) -> _Method:
        @wraps(method)
        def verb(store: Body, batch: list[Any]) -> Steps:
            return store._after_look(method(store, batch), effect)  # noqa: SLF001 - a decorator of its methods

        verb.effect = effect  # type: ignore[attr-defined] # to be read on the bound method
        return cast("_Method", verb)

    return decorate


_Pipeline = TypeVar("_Pipeline", bound=Pipeline)

Lane = tuple[Node, float]
"""A node, and the seconds that callers wait: the callers of a pipeline are late in the order in which they called."""

PROBES = -1.0
"""The seconds that stand for probes: these wait for the store's time-out, and leave their connection to others."""


class Body(ProcessLocal):
    """Base class of the Redis stores: all but the carrying of commands."""

    _client: Any
    _guard: Guard

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
        self._has_looked = False  # whether it is known what kind of server it is
        self._to_log: list[Callable[[], None]] = []
        self._health = Health()
        self._fleet = Fleet()
        self._announcing = Announcing(self._fleet)
        self._local = Local(self._fleet)
        renew_after_fork(self)

    def after_fork(self) -> None:
        """Become an instance of its own, in a forked child: one that has allowed nothing by itself."""
        self._health.after_fork()
        self._fleet.leave()
        self._local.after_fork()
        self._announcing.after_fork()

    @property
    def outage(self) -> Outage:
        """What a limiter uses to answer while the store is down."""
        return Outage(self._health, self._fleet, self._local)

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

    def _lane(self, counters: Sequence[Charge | Counter], within: float | None) -> Lane:
        """Return the lane of callers that want to use these counters and can wait so many seconds."""
        if within is None or within > self._timeout:
            within = self._timeout
        return self._node(counters), within

    def _in_use(self, pipelines: Mapping[Lane, _Pipeline], counters: Sequence[Counter]) -> _Pipeline | None:
        """Return the first of these pipelines that callers of the node of these counters use."""
        node = self._node(counters)
        return next((each for (to, within), each in pipelines.items() if to == node and within != PROBES), None)

    def _settings(self, lane: Lane, *, owned: bool) -> dict[str, Any]:
        """Return the arguments of the pipeline of a lane."""
        _, within = lane
        return {
            "pool": self._client.connection_pool,
            "timeout": self._timeout if within == PROBES else within,
            "max_waiting": self._max_waiting,
            "keeps": owned and within != PROBES,
            "connects_within": self._timeout,
            "guard": None if within == PROBES else self._guard,
        }

    def _recovery(self) -> Generator[Verb, Any, bool]:
        """Probe the store; if it answers in time, close the breaker and send what is owed.

        Yields verbs without arguments, to be run within the store's own time-out; is sent the result, or thrown the
        `StoreError`. Returns whether the store is up.
        """
        for _ in range(2):  # the second one needs no new connection
            began_at = time.monotonic()
            try:
                yield self._probe
            except StoreError:
                return False
            if time.monotonic() - began_at <= self._health.within:
                break
        else:
            return False
        self._announcing.expect_return()
        with suppress(StoreError):
            yield self._announce
        self._health.recovered()
        with suppress(StoreError):
            while self._local.owes and (yield self._repay):
                pass
        return True

    def _after_look(self, steps: Steps, effect: Effect) -> Steps:
        return steps if self._has_looked else self._look_first(steps, effect)

    def _look_first(self, steps: Steps, effect: Effect) -> Steps:
        """Look at the server, once a store, before anything is done there.

        Raises:
            StoreUnavailable: It is a node of a cluster, and the keys would lie in many slots.
        """
        facts = yield from look()
        if facts.is_cluster and not lies_in_one_slot(self._prefix):
            raise from_reply("cluster_enabled:1", effect.none)
        pool = self._client.connection_pool
        host, port, _ = server(pool)
        if facts.evicts and (host, port) not in _logged_servers:
            _logged_servers.add((host, port))
            text = _evicting(address(pool), facts.policy)
            self._to_log.append(lambda: codes.log("evicting-server", text))
        self._has_looked = True
        return (yield from steps)

    def _log(self) -> None:
        """Log what was found out about the server. Not in a pipeline: a handler may call the limiter, or be slow."""
        with suppress(IndexError):  # another thread has logged it
            while self._to_log:
                self._to_log.pop(0)()

    # The fleet

    @_verb(PROBE)
    def _probe(self, batch: list[None]) -> Steps:
        """Run the script of a decision, for no request: the server refuses it if it would refuse a decision.

        With a key, as a node of a cluster that is down refuses keys alone. A user who may not use that key is answered
        all the same.
        """
        try:
            yield from _run_script(self._scripts.decide, ["1", members_key(self._prefix)])
        except REFUSALS as refusal:
            error = refused(refusal, PROBE)
            return [error if error.reason != NO_PERMISSION else True for _ in batch]
        return [True for _ in batch]

    @_verb(PROBE)
    def _announce(self, batch: list[None]) -> Steps:
        """Announce this instance, and decide nothing."""
        yield from self._decide([], commit=True, announce=True)
        return [True for _ in batch]

    def _is_due(self) -> bool:
        """Tell whether a decision is to announce this instance; about once a second, free what no outage will need."""
        if not self._announcing.is_due():
            return False
        self._local.known.forget_idle()
        return self._announcing.is_permitted

    def _note_fleet(self, announced: Announced | StoreError) -> None:
        """Take note of the answer to an announcement."""
        if isinstance(announced, StoreError):
            self._announcing.is_permitted = announced.reason != NO_PERMISSION
            if self._health.is_first("unknown-fleet"):
                text = _unknown_fleet(announced)
                self._to_log.append(lambda: codes.log("unknown-fleet", text))
            return
        happened = self._announcing.learn(announced)
        if happened == "state-lost":
            self._local.known.clear()
            self._denials.clear()
            self._to_log.append(self._health.lost_state)
        elif happened == "failed-over":
            self._to_log.append(self._health.failed_over)

    @_verb(PROBE)
    def _repay(self, batch: list[None]) -> Steps:
        """Enter what is owed, for as many counters as one call takes. Returns whether more is owed."""
        before = len(self._local)
        yield from self._decide_owing([], self._local.any_owed(MOST_OWED))
        return [0 < len(self._local) < before for _ in batch]

    # Decisions

    @_verb(TAKE)
    def _take(self, batch: list[Charges]) -> Steps:
        announce = self._is_due()
        if not self._local.owes:
            return self._decide(batch, commit=True, announce=announce)
        owed = self._local.owed([charge for each in batch for charge in each], MOST_OWED)
        if announce:  # about once a second: of isolated failures no recovery sends the rest
            owed += self._local.any_owed(MOST_OWED - len(owed))
        return self._decide_owing(batch, owed, announce=announce)

    def _decide_owing(self, batch: list[Charges], owed: list[Charges], *, announce: bool = False) -> Steps:
        """Enter what is owed, and decide a batch after it, in one call. Returns the answers to the batch."""
        answers = yield from self._decide([*owed, *batch], commit=True, announce=announce)
        of_owed, of_batch = answers[: len(owed)], answers[len(owed) :]
        self._local.owe_again(
            request
            for request, answer in zip(owed, of_owed, strict=True)
            if isinstance(answer, StoreUnavailable) and answer.reason not in (OTHER_DATA, NO_PERMISSION)
        )
        return of_batch

    @_verb(PEEK)
    def _peek(self, batch: list[Charges]) -> Steps:
        return self._decide(batch, commit=False)

    def _decide(self, batch: list[Charges], *, commit: bool, announce: bool = False) -> Steps:
        """Decide a batch of requests. Returns an `Answer` for each, in order.

        Args:
            batch: The requests.
            commit: Whether to enter those that are allowed.
            announce: Whether to announce this instance in the same call. No decision fails for that.
        """
        script = self._scripts.decide if commit else self._scripts.peek
        answers: list[Any] = [None] * len(batch)
        pending: Sequence[int] = range(len(batch))
        if commit and self._denials.kept:  # again: another caller may have been denied the same while this one waited
            answers = [self._denials.find_before_sending(charges) for charges in batch]
            pending = [index for index, answer in enumerate(answers) if answer is None]
        for _ in range(2):  # a request may be sent again once: after a clock mismatch nothing was taken for it
            if not pending and not announce:
                break
            requests = batch if len(pending) == len(batch) else [batch[index] for index in pending]
            arguments = self._arguments(requests, announce)
            sent_ns = time.monotonic_ns()
            try:
                reply = yield from _run_script(script, arguments)
            except REFUSALS as refusal:
                effect = TAKE if commit else PEEK
                if announce and (error := refused(refusal, effect)).reason == NO_PERMISSION:
                    self._note_fleet(error)  # perhaps it was for the members' key alone, and nothing ran
                    announce = False
                    continue
                for index in pending:  # of these alone: the others have their answers
                    answers[index] = refused(refusal, effect)
                break
            parsed = self._read(requests, reply, sent_ns, commit=commit, announce=announce)
            if requests is batch and ClockMismatch not in map(type, parsed):  # nearly always, and without a loop
                return parsed
            pending = self._place(parsed, pending, answers)
            announce = False
        return answers

    def _arguments(self, requests: list[Charges], announce: bool) -> Arguments:
        arguments = decide_arguments(self._prefix, requests, self._server_clock)
        if not announce:
            return arguments
        return with_announcement(arguments, self._prefix, self._fleet.id)

    def _read(
        self, requests: list[Charges], reply: list[Any], sent_ns: int, *, commit: bool, announce: bool
    ) -> list[Answer | ClockMismatch]:
        """Read a reply, and learn from it."""
        if announce:
            self._note_fleet(parse_announced(reply.pop()))
        repaired, parsed = parse_reply(requests, reply)
        self.repaired += repaired
        if commit:
            self._denials.learn(requests, parsed, sent_ns)
            self._local.learn(requests, parsed)
        return parsed

    def _place(self, parsed: list[Answer | ClockMismatch], pending: Sequence[int], answers: list[Any]) -> Sequence[int]:
        """Put answers where they belong. Returns the indexes of those that have to be sent again."""
        mismatched: list[int] = []
        for index, answer in zip(pending, parsed, strict=True):
            if isinstance(answer, ClockMismatch):
                self._server_clock.correct(answer.now_us)
                mismatched.append(index)
                answers[index] = _stepped_again()  # unless the second reply says otherwise
            else:
                answers[index] = answer
        return mismatched

    @_verb(TAKE)
    def _reserve(self, batch: list[Line]) -> Steps:
        """Decide a batch of lines. Returns for each the answers to its requests, up to the first that is denied."""
        announce = self._is_due()
        if self._local.owes:
            owed = self._local.owed([charge for line in batch for charge in line[0]], MOST_OWED)
            if announce:
                owed += self._local.any_owed(MOST_OWED - len(owed))
            yield from self._decide_owing([], owed, announce=announce)
        elif announce:
            yield from self._decide([], commit=True, announce=True)
        answers: list[list[Any]] = [[] for _ in batch]
        errors: dict[int, StoreError] = {}
        pending: Sequence[int] = range(len(batch))
        lines = batch
        for _ in range(2):  # what is left of a line may be sent again once: after a clock mismatch nothing was taken
            sent_ns = time.monotonic_ns()
            try:
                arguments = reserve_arguments(self._prefix, lines, self._server_clock)
                reply = yield from _run_script(self._scripts.reserve, arguments)
            except REFUSALS as refusal:
                errors |= {index: refused(refusal, TAKE) for index in pending}
                break
            parsed = self._read_lines(lines, reply, sent_ns)
            if lines is batch and all(isinstance(answered[-1], list) for answered in parsed):  # nearly always
                return parsed
            pending = self._place_lines(parsed, pending, answers, errors)
            if not pending:
                break
            lines = [batch[index][len(answers[index]) :] for index in pending]
        # An error is the outcome of a caller only if nothing was taken for it.
        return [answer or errors[index] for index, answer in enumerate(answers)]

    def _read_lines(self, lines: Sequence[Line], reply: list[Any], sent_ns: int) -> list[list[Answer | ClockMismatch]]:
        """Read the reply to lines, and learn from it."""
        repaired, parsed = parse_reserved(lines, reply)
        self.repaired += repaired
        requests = [request for line, answers in zip(lines, parsed, strict=True) for request in line[: len(answers)]]
        answers = list(chain.from_iterable(parsed))
        self._denials.learn(requests, answers, sent_ns)
        self._local.learn(requests, answers)
        return parsed

    def _place_lines(
        self,
        parsed: Sequence[list[Answer | ClockMismatch]],
        pending: Sequence[int],
        answers: list[list[Any]],
        errors: dict[int, StoreError],
    ) -> Sequence[int]:
        """Put the answers to lines where they belong. Returns the indexes of lines that have to be sent again."""
        mismatched: list[int] = []
        for index, answered in zip(pending, parsed, strict=True):
            last = answered[-1]
            if isinstance(last, list):
                answers[index] += answered
                continue
            answers[index] += answered[:-1]
            errors[index] = _stepped_again() if isinstance(last, ClockMismatch) else last
            if isinstance(last, ClockMismatch):
                self._server_clock.correct(last.now_us)
                mismatched.append(index)
        return mismatched

    @_verb(SETTLE)
    def _settle(self, batch: list[Sequence[Settlement]]) -> Steps:
        """Settle charges. Returns for each caller whether each of its charges was there."""
        settlements = [each for given in batch for each in given]
        lowered = counters_of([each for each in settlements if each.actual < each.cost])
        with forgetting(lowered):
            reply = yield from _run_script(
                self._scripts.settle, settle_arguments(self._prefix, settlements, self._server_clock)
            )
        for policy, key, cost, _, actual in settlements:
            if actual < cost:
                self._local.known.lower(policy, key, cost - actual)
        settled = iter(parse_settled(reply))
        results = [[next(settled) for _ in given] for given in batch]
        return [next((one for one in result if isinstance(one, StoreError)), result) for result in results]

    @_verb(FORGET)
    def _forget(self, batch: list[Sequence[Counter]]) -> Steps:
        counters = [counter for each in batch for counter in each]
        with forgetting(counters):
            yield ["DEL", *counter_keys(self._prefix, counters)]
        return [True for _ in batch]

    @_verb(BLOCK)
    def _block(self, batch: list[tuple[Sequence[Counter], int]]) -> Steps:
        results: list[Any] = []
        for counters, span_us in batch:
            arguments = block_arguments(self._prefix, counters, span_us, self._server_clock)
            try:
                with forgetting(counters):  # a block that ends, or is shorter than the one before, gives units back
                    reply = yield from _run_script(self._scripts.block, arguments)
            except REFUSALS as refusal:
                results.append(refused(refusal, BLOCK))
            else:
                results.append(_not_blocked(faults(reply), len(counters)) or True)
        return results


def _run_script(script: Script, arguments: Arguments) -> Generator[Command, Any, list[Any]]:
    reply: list[Any]
    try:
        reply = yield ["EVALSHA", script.sha, *arguments]
    except NoScriptError:  # after a restart, a failover or a SCRIPT FLUSH. Nothing ran, so nothing is sent twice
        reply = yield ["EVAL", script.source, *arguments]
    return reply


def line_of(requests: Sequence[Request]) -> tuple[Line, int]:
    """Return requests in the form in which they are sent, and how many charges they are."""
    if len(requests) == 1:  # nearly always, and in a third of the time
        charges = requests[0].charges
        return (charges,), len(charges)
    line = tuple([request.charges for request in requests])
    return line, sum(map(len, line))


def counters_of(settlements: Sequence[Settlement]) -> list[Counter]:
    """Return the counters that are settled."""
    return [Counter(each.policy, each.key) for each in settlements]


def _stepped_again() -> StoreUnavailable:
    return StoreUnavailable(
        "the store's clock was stepped between two calls, nothing was taken", reason=CLOCK_STEPPED.reason
    )


def _not_blocked(wrong: list[str], counters: int) -> StoreUnavailable | None:
    if not wrong:
        return None
    some = f"{len(wrong)} of {counters} counters were not changed"
    return from_reply(wrong[0], BLOCK.none if len(wrong) == counters else some)


def _unknown_fleet(error: StoreError) -> str:
    return (
        f"this instance cannot announce itself to its fleet, so while the store is down each instance allows the whole "
        f"limit, or its share=: {error}"
    )


def _evicting(url: str, policy: str) -> str:
    return (
        f"{url} evicts counters and blocks when its memory is full, as its maxmemory-policy is {policy}; an evicted "
        f"counter is a fresh limit; set the policy to noeviction, or give the limits a server of their own"
    )
