"""The scripts that run on a Redis server: their source, their arguments, and how to read their replies. No I/O.

``decide.lua`` decides a batch; one twin commits nothing, and is marked ``no-writes``; another tells where it entered
what it allowed, and decides lines. ``settle.lua`` settles that, and ``block.lua`` puts a block on counters. Before each
stand ``clock.lua`` and the files of all algorithms, each of which runs when it is opened; so does ``announce.lua``,
which a decision opens to announce its sender to the fleet.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib.resources import files
from itertools import chain, groupby, repeat
from operator import not_
from typing import Any, NamedTuple

from sluicegate import _algorithms as algorithms
from sluicegate._core.decision import Verdict, verdict_of
from sluicegate._core.errors import StoreError, StoreUnavailable
from sluicegate._core.policy import Policy
from sluicegate._core.request import Charge, Counter, Settlement
from sluicegate._stores.base import Reserved
from sluicegate._stores.redis.failures import from_reply
from sluicegate._stores.redis.stored_keys import members_key, stored_key, stored_keys

Charges = tuple[Charge, ...]
"""One request of a batch."""

Answer = list[Verdict] | StoreError
"""The answer to one request: a verdict for each charge, or the error that is its alone."""

Line = tuple[Charges, ...]
"""Requests that are decided in their order, up to the first that is denied."""

Arguments = list[bytes | str]
"""The words after the script. No numbers: hiredis (3.5) crashes if a signal handler raises while it packs one."""


class ClockMismatch(NamedTuple):
    """An answer to a request whose arguments were made for another time than the server's. Nothing was taken.

    Attributes:
        now_us: The time on the server's clock, µs since 1970.
    """

    now_us: int


@cache
def _file(name: str) -> str:
    return files("sluicegate._stores.redis").joinpath(name).read_text("utf-8")


class Script:
    """One script, for ``EVAL`` and ``EVALSHA``.

    Args:
        verb: The file that it ends with: ``decide``, ``block`` or ``settle``.
        commit: False for a script that commits nothing.
        reserve: Whether what it enters can be settled.
        clock: The source of ``now_us``. By default the server's ``TIME``; tests replace it.

    Attributes:
        source: Its text.
        sha: The SHA-1 of that, by which the server knows it.
    """

    def __init__(self, verb: str, *, commit: bool = True, reserve: bool = False, clock: str | None = None) -> None:
        # The first line makes a full server, a replica or a wrong slot refuse the script before it has written.
        parts = [
            "#!lua" if commit else "#!lua flags=no-writes",
            f"local COMMIT = {str(commit).lower()}",
            f"local RESERVE = {str(reserve).lower()}",
            "local repaired, entered, holder, numbered = 0, '', '', 0",
            clock or _file("clock.lua"),
            "local now = now_us()",
            _open(),
            _file(f"{verb}.lua"),
        ]
        self.source = _inline_constants("\n".join(parts))
        self.sha = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()


@cache
def _open() -> str:
    """Return the Lua function ``open``, which runs the file of a name with its arguments.

    A call of a script makes all of its functions anew, which takes longer than most of them run. The functions of a
    file inside ``open`` are made when it is opened: files that a call does not need cost it nothing.
    """
    opened = (f"if name == '{name}' then return (function(...)\n{source}end)(...) end" for name, source in sources())
    return "\n".join(["local function open(name, ...)", *opened, "end"])


def sources() -> Iterator[tuple[str, str]]:
    """Yield the name and source of each algorithm's file, and of the files that they open."""
    names = list(algorithms.BY_NAME)
    for name in names:
        source = algorithms.lua(name)
        names += [each for each in re.findall(r"open\('([a-z-]+)'", source) if each not in names]
        yield name, _inline_constants(source)
    yield "announce", _file("announce.lua")


def _inline_constants(source: str) -> str:
    """Replace the names of constants by their values: a function that captures a name takes longer to make."""
    for line, names, values in re.findall(r"^(local ([A-Z, ]+) = ([\w, ]+))$", source, re.MULTILINE):
        source = source.replace(line, "")
        for name, value in zip(names.split(", "), values.split(", "), strict=True):
            source = re.sub(rf"\b{name}\b", value, source)
    return source


class Scripts:
    """The scripts of a store.

    Args:
        clock: The source of ``now_us``; see `Script`.

    Attributes:
        decide: Decides a batch.
        peek: The same, and commits nothing.
        reserve: Decides lines, and tells where it entered what it allowed.
        settle: Settles that.
        block: Puts a block on counters.
    """

    def __init__(self, clock: str | None = None) -> None:
        self.decide = Script("decide", clock=clock)
        self.peek = Script("decide", commit=False, clock=clock)
        self.reserve = Script("decide", reserve=True, clock=clock)
        self.settle = Script("settle", clock=clock)
        self.block = Script("block", clock=clock)


class ServerClockEstimate:
    """An estimate of the server's clock, seeded from the host's. No decision depends on it."""

    def __init__(self) -> None:
        self._ahead_us = time.time_ns() // 1000 - _monotonic_us()

    def now_us(self) -> int:
        """Return the estimate, µs since 1970."""
        return self._ahead_us + _monotonic_us()

    def correct(self, now_us: int) -> None:
        """Take over the time that the server's clock reads now, µs since 1970."""
        self._ahead_us = now_us - _monotonic_us()


def _monotonic_us() -> int:
    return time.monotonic_ns() // 1000


def decide_arguments(prefix: str, requests: Sequence[Charges], server_clock: ServerClockEstimate) -> Arguments:
    """Return what follows the script in a call: the number of keys, KEYS and ARGV as ``decide.lua`` lists them."""
    keys: Arguments = []
    arguments: Arguments = []
    for run in _runs(requests):
        keys += _run_keys(prefix, run)
        arguments.append(str(len(run)))
        arguments += _run_arguments(run[0], server_clock)
    return [str(len(keys)), *keys, *arguments]


def reserve_arguments(prefix: str, lines: Sequence[Line], server_clock: ServerClockEstimate) -> Arguments:
    """Return what follows the script that reserves, for lines of requests."""
    arguments = decide_arguments(prefix, list(chain.from_iterable(lines)), server_clock)
    behind = "".join(["0" + "1" * (len(line) - 1) for line in lines])
    first = 1 + int(arguments[0])
    arguments[first:first] = secrets.token_hex(8), behind
    return arguments


def settle_arguments(prefix: str, settlements: Sequence[Settlement], server_clock: ServerClockEstimate) -> Arguments:
    """Return what follows the script in a call: the number of keys, KEYS and ARGV as ``settle.lua`` lists them."""
    arguments: Arguments = []
    for policy, _, cost, mark, actual in settlements:
        arguments += policy.algorithm, *_policy_arguments(policy, cost, server_clock), mark, str(actual)
    return [str(len(settlements)), *counter_keys(prefix, settlements), *arguments]


def _runs(requests: Sequence[Charges]) -> Iterable[Sequence[Charges]]:
    """Return the requests in runs: neighbours with the same policies and costs."""
    if not requests:
        return []
    if len(requests) == 1 or _is_one_run(requests):  # nearly always, and in a fifth of the time
        return [requests]
    return [list(run) for _, run in groupby(requests, _shape)]


def _is_one_run(requests: Sequence[Charges]) -> bool:
    """Tell whether all have a single charge, of one policy and one cost."""
    first = requests[0][0]
    policy, cost = first.policy, first.cost
    for request in requests:  # all() of a generator takes twice as long
        if len(request) != 1 or request[0].policy is not policy or request[0].cost != cost:
            return False
    return True


_Shape = tuple[tuple[int, int], ...]


def _shape(request: Charges) -> _Shape:
    """Return what all requests of a run have in common, a policy by its id: hashing it takes longer."""
    return tuple([(id(charge.policy), charge.cost) for charge in request])


_MAX_CACHED = 1024
# Beside its policies: while they are in here, no other policy can have their ids.
_cached_arguments: dict[_Shape, tuple[list[Policy], Arguments]] = {}


def _run_arguments(request: Charges, server_clock: ServerClockEstimate) -> Arguments:
    """Return the number of charges of each request in a run, and each charge's algorithm with its arguments."""
    shape = _shape(request)
    cached = _cached_arguments.get(shape)
    if cached is not None:
        return cached[1]
    policies = [charge.policy for charge in request]
    arguments: Arguments = [str(len(request))]
    for charge in request:
        arguments += charge.policy.algorithm, *_policy_arguments(charge.policy, charge.cost, server_clock)
    if not any(algorithms.BY_NAME[policy.algorithm].CALENDAR_TIME for policy in policies):
        if len(_cached_arguments) >= _MAX_CACHED:
            _cached_arguments.clear()
        _cached_arguments[shape] = policies, arguments
    return arguments


def _run_keys(prefix: str, run: Sequence[Charges]) -> Iterable[bytes]:
    """Return the stored keys of the charges of a run, in order."""
    if len(run) == 1:
        return counter_keys(prefix, run[0])
    columns = [
        stored_keys(prefix, charge.policy.namespace, [request[place].key for request in run])
        for place, charge in enumerate(run[0])
    ]
    return columns[0] if len(columns) == 1 else chain.from_iterable(zip(*columns, strict=True))


def block_arguments(
    prefix: str, counters: Sequence[Counter], span_us: int, server_clock: ServerClockEstimate
) -> Arguments:
    """Return what follows the script in a call: the number of keys, KEYS and ARGV as ``block.lua`` lists them."""
    arguments: Arguments = [str(span_us)]
    for counter in counters:
        arguments += counter.policy.algorithm, *_policy_arguments(counter.policy, 1, server_clock)
    return [str(len(counters)), *counter_keys(prefix, counters), *arguments]


def _policy_arguments(policy: Policy, cost: int, server_clock: ServerClockEstimate) -> Iterable[str]:
    algorithm = algorithms.BY_NAME[policy.algorithm]
    signed = -cost if policy.forced else cost
    return map(str, algorithm.arguments(policy, signed, server_clock.now_us() if algorithm.CALENDAR_TIME else 0))


def counter_keys(prefix: str, counters: Iterable[Charge | Counter | Settlement]) -> list[bytes]:
    """Return the stored keys of counters, in order."""
    return [stored_key(prefix, counter.policy.namespace, counter.key).encode() for counter in counters]


def parse_reply(requests: Sequence[Charges], reply: list[Any]) -> tuple[int, list[Answer | ClockMismatch]]:
    """Read the reply of ``decide.lua`` to these requests. Returns how many logs it repaired, and an answer for each."""
    if type(reply) is not list:
        raise TypeError(f"a script's reply must be a list, got {reply!r:.100}")
    # A reply with faults is shorter: one string stands for all numbers of a request. And slices pay off for many only.
    if len(requests) == 1 or len(reply) < 1 + 3 * sum(map(len, requests)):
        numbers = iter(reply)
        return next(numbers), [_parse_answer(len(request), numbers) for request in requests]
    remaining, waits_us, resets_us = reply[1::3], reply[2::3], reply[3::3]
    fields = zip(map(not_, waits_us), remaining, waits_us, resets_us, strict=True)
    verdicts = list(map(tuple.__new__, repeat(Verdict), fields))
    answers: list[Answer | ClockMismatch]
    if len(verdicts) == len(requests):
        answers = [[verdict] for verdict in verdicts]
        return reply[0], answers
    answers = []
    start = 0
    for request in requests:
        end = start + len(request)
        answers.append(verdicts[start:end])
        start = end
    return reply[0], answers


def parse_reserved(lines: Sequence[Line], reply: list[Any]) -> tuple[int, list[list[Answer | ClockMismatch]]]:
    """Read the reply of the script that reserves. Returns how many states it repaired, and answers for each line.

    They end with the first one that is not allowed. Those that are, are `Reserved`.
    """
    if type(reply) is not list:
        raise TypeError(f"a script's reply must be a list, got {reply!r:.100}")
    # As in `parse_reply`: a reply with faults, or with requests that were not looked at, is shorter.
    if len(lines) > 1 and len(reply) == 1 + 4 * len(lines) and all(len(line) == len(line[0]) == 1 for line in lines):
        waits_us = reply[2::4]
        fields = zip(map(not_, waits_us), reply[1::4], waits_us, reply[3::4], strict=True)
        verdicts = map(tuple.__new__, repeat(Verdict), fields)
        return reply[0], [
            [[verdict] if verdict[2] else Reserved((verdict,), (mark,))]
            for verdict, mark in zip(verdicts, reply[4::4], strict=True)
        ]
    values = iter(reply)
    repaired: int = next(values)
    return repaired, [_parse_line(line, values) for line in lines]


def _parse_line(line: Line, values: Iterator[Any]) -> list[Answer | ClockMismatch]:
    answers: list[Answer | ClockMismatch] = []
    for request in line:
        answer = _parse_reserved(len(request), values)
        if answer is not None:
            answers.append(answer)
    return answers


def _parse_reserved(charges: int, values: Iterator[Any]) -> Answer | ClockMismatch | None:
    """Read the answer to one request; None if it was not looked at."""
    verdicts, marks = [], []
    for _ in range(charges):
        remaining = next(values)
        if not isinstance(remaining, int):
            return None if _text(remaining) == "BEHIND" else _parse_fault(remaining)
        wait_us, reset_us = next(values), next(values)
        verdicts.append(verdict_of((not wait_us, remaining, wait_us, reset_us)))
        marks.append(next(values))
    is_allowed = all(verdict.allowed for verdict in verdicts)
    return Reserved(verdicts, marks) if is_allowed else verdicts


def parse_settled(reply: list[Any]) -> list[bool | StoreUnavailable]:
    """Read the reply of ``settle.lua``: whether each charge was there, or what is wrong with its key."""
    return [bool(one) if isinstance(one, int) else from_reply(_text(one), "nothing was settled") for one in reply]


def _parse_answer(charges: int, numbers: Iterator[Any]) -> Answer | ClockMismatch:
    verdicts = []
    for _ in range(charges):
        remaining = next(numbers)
        if not isinstance(remaining, int):
            return _parse_fault(remaining)
        wait_us, reset_us = next(numbers), next(numbers)
        verdicts.append(verdict_of((not wait_us, remaining, wait_us, reset_us)))
    return verdicts


def _parse_fault(fault: bytes | str) -> StoreUnavailable | ClockMismatch:
    text = _text(fault)
    word, _, rest = text.partition(" ")
    if word == "CLOCK_MISMATCH":
        return ClockMismatch(int(rest))
    return from_reply(text, "nothing was taken")


class Announced(NamedTuple):
    """The reply of ``announce.lua``.

    Attributes:
        mark: A random text that is the same for as long as the server has its data.
        run: The id of the server's process, new with each start; empty if it does not say.
        size: How many instances are alive.
        members: Their names, or the first `MOST_NAMES` of them.
    """

    mark: str
    run: str
    size: int
    members: tuple[bytes, ...]


MEMBER_LIFE = 5.0
"""Seconds for which an instance is taken to be alive after it announced itself."""

MOST_NAMES = 1000
MEMBERS_TTL = 7 * 86400
"""Seconds for which the members' key outlives the last announcement."""


def with_announcement(arguments: Arguments, prefix: str, name: str) -> Arguments:
    """Return the arguments of ``decide.lua``, and behind them those that announce an instance of this name."""
    keys = int(arguments[0])
    life_us = round(MEMBER_LIFE * 1_000_000)
    fresh = f"mark-{secrets.token_hex(8)}"
    return [
        str(keys + 1),
        *arguments[1 : keys + 1],
        members_key(prefix),
        *arguments[keys + 1 :],
        *("announce", name, str(life_us), fresh, str(MEMBERS_TTL), str(MOST_NAMES)),
    ]


def parse_announced(reply: list[Any] | bytes | str) -> Announced | StoreUnavailable:
    """Read what ``announce.lua`` returned, or what was wrong with it."""
    if not isinstance(reply, list):
        return from_reply(_text(reply), "nothing was announced")
    mark, run, size, *members = reply
    names = tuple(name.encode() if isinstance(name, str) else name for name in members)
    return Announced(_text(mark), _text(run), size, names)


def faults(reply: list[bytes | str]) -> list[str]:
    """Read the reply of ``block.lua``. Returns what is wrong with each key that was left as it was."""
    return [_text(fault) for fault in reply if fault]


def _text(word: bytes | str) -> str:
    return word.decode("utf-8", "replace") if isinstance(word, bytes) else word
