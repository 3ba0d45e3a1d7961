"""The scripts that run on a Redis server: their source, their arguments, and how to read what they return. No I/O.

``decide.lua`` decides a batch; its twin only looks, and is marked ``no-writes``. ``block.lua`` puts a block on
counters. Before each stand ``clock.lua`` and the files of all algorithms, each to be run when it is opened.
"""

from __future__ import annotations

import hashlib
import re
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
from sluicegate._core.keys import CounterKey, stored_key, stored_keys
from sluicegate._core.policy import Policy
from sluicegate._core.request import Charge, Counter

Charges = tuple[Charge, ...]
Answer = list[Verdict] | StoreError

Arguments = list[bytes | str]
"""Words. No numbers: hiredis (3.5) crashes where a signal's handler raises while it writes one."""


class ClockMismatch(NamedTuple):
    """In place of an answer: the arguments were made for another time than the store's clock reads. Nothing was taken.

    Attributes:
        now_us: What it reads.
    """

    now_us: int


@cache
def _file(name: str) -> str:
    return files("sluicegate._stores.redis").joinpath(name).read_text("utf-8")


class Script:
    """One script: what ``EVAL`` and ``EVALSHA`` need of it.

    Args:
        verb: The file that it ends with: ``decide`` or ``block``.
        charging: False for one that only looks.
        clock: The source of ``now_us``; the server's own ``TIME`` but for tests of the rules.
    """

    def __init__(self, verb: str, *, charging: bool = True, clock: str | None = None) -> None:
        # The flags line makes a full server, a replica or a wrong slot refuse the script before it has written.
        parts = [
            "#!lua" if charging else "#!lua flags=no-writes",
            f"local CHARGING = {str(charging).lower()}",
            "local repaired = 0",
            clock or _file("clock.lua"),
            "local now = now_us()",
            _open(),
            _file(f"{verb}.lua"),
        ]
        self.source = _inline_constants("\n".join(parts))
        self.sha = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()


@cache
def _open() -> str:
    """Return the function that runs a file, with its arguments, and returns what the file does.

    A call of a script makes all of its functions anew, which takes more time than most of them run. Those of a file
    that is written into this one are made when it is opened: the files that a call has no use for cost it nothing.
    """
    opened = (f"if name == '{name}' then return (function(...)\n{source}end)(...) end" for name, source in sources())
    return "\n".join(["local function open(name, ...)", *opened, "end"])


def sources() -> Iterator[tuple[str, str]]:
    """Yield the files of all algorithms, and those that they open: name and source."""
    names = list(algorithms.BY_NAME)
    for name in names:
        source = algorithms.lua(name)
        names += [each for each in re.findall(r"open\('([a-z-]+)'", source) if each not in names]
        yield name, _inline_constants(source)


def _inline_constants(source: str) -> str:
    """Put constants where they are named: each name that a function must remember makes it dearer to make."""
    for line, names, values in re.findall(r"^(local ([A-Z, ]+) = ([\w, ]+))$", source, re.MULTILINE):
        source = source.replace(line, "")
        for name, value in zip(names.split(", "), values.split(", "), strict=True):
            source = re.sub(rf"\b{name}\b", value, source)
    return source


class Scripts:
    """The scripts of a store.

    Args:
        clock: See `Script`.

    Attributes:
        decide: Decides a batch.
        look: Says what would be decided.
        block: Puts a block on counters.
    """

    def __init__(self, clock: str | None = None) -> None:
        self.decide = Script("decide", clock=clock)
        self.look = Script("decide", charging=False, clock=clock)
        self.block = Script("block", clock=clock)


class ServerClockEstimate:
    """What the store's clock may read: by the host's own until it is told better. No decision depends on it."""

    def __init__(self) -> None:
        self._ahead_us = time.time_ns() // 1000 - _passed_us()

    def now_us(self) -> int:
        """Return the guess, µs since 1970."""
        return self._ahead_us + _passed_us()

    def correct(self, now_us: int) -> None:
        """Take what the clock has just read."""
        self._ahead_us = now_us - _passed_us()


def _passed_us() -> int:
    return time.monotonic_ns() // 1000


def decide_arguments(prefix: str, requests: Sequence[Charges], guess: ServerClockEstimate) -> Arguments:
    """Return what follows the script in a call: the number of keys, KEYS and ARGV as ``decide.lua`` lists them."""
    keys: Arguments = []
    rest: Arguments = []
    for run in _runs(requests):
        keys += _keys(prefix, run)
        rest.append(str(len(run)))
        rest += _asking(run[0], guess)
    return [str(len(keys)), *keys, *rest]


def _runs(requests: Sequence[Charges]) -> Iterable[Sequence[Charges]]:
    """Return the requests in runs that ask the same."""
    if len(requests) == 1 or _all_alike(requests):  # nearly always, and in a fifth of the time
        return [requests]
    return [list(run) for _, run in groupby(requests, _asked)]


def _all_alike(requests: Sequence[Charges]) -> bool:
    """Tell whether all have one charge, of one policy and one cost."""
    policy, _, cost = requests[0][0]
    for request in requests:  # noqa: SIM110 - all() of a generator takes twice as long
        if len(request) != 1 or request[0][0] is not policy or request[0][2] != cost:
            return False
    return True


_Asked = tuple[tuple[int, int], ...]


def _asked(request: Charges) -> _Asked:
    """Return what is the same in all requests of a run. A policy in use shares its id with none, and hashes slowly."""
    return tuple([(id(policy), cost) for policy, _, cost in request])


_KEPT = 1024
_kept: dict[_Asked, tuple[list[Policy], Arguments]] = {}  # beside its policies, which keep their ids for as long


def _asking(request: Charges, guess: ServerClockEstimate) -> Arguments:
    """Return the number of charges, and the algorithm and the arguments of each."""
    asked = _asked(request)
    kept = _kept.get(asked)
    if kept is not None:
        return kept[1]
    policies = [policy for policy, _, _ in request]
    asking: Arguments = [str(len(request))]
    for policy, _, cost in request:
        asking += policy.algorithm, *_arguments(policy, cost, guess)
    if not any(algorithms.BY_NAME[policy.algorithm].CALENDAR_TIME for policy in policies):
        if len(_kept) >= _KEPT:
            _kept.clear()
        _kept[asked] = policies, asking
    return asking


def _keys(prefix: str, run: Sequence[Charges]) -> Iterable[bytes]:
    """Return the keys of the charges of a run, in their order."""
    if len(run) == 1:
        return [stored_key(prefix, policy.namespace, key).encode() for policy, key, _ in run[0]]
    columns = [
        stored_keys(prefix, policy.namespace, [request[place][1] for request in run])
        for place, (policy, _, _) in enumerate(run[0])
    ]
    return columns[0] if len(columns) == 1 else chain.from_iterable(zip(*columns, strict=True))


def block_arguments(prefix: str, counters: Sequence[Counter], span_us: int, guess: ServerClockEstimate) -> Arguments:
    """Return what follows the script in a call: the number of keys, KEYS and ARGV as ``block.lua`` lists them."""
    rest: Arguments = [str(span_us)]
    for policy, _ in counters:
        rest.append(policy.algorithm)
        rest += _arguments(policy, 1, guess)
    return [str(len(counters)), *stored(prefix, counters), *rest]


def _arguments(policy: Policy, cost: int, guess: ServerClockEstimate) -> Iterable[str]:
    algorithm = algorithms.BY_NAME[policy.algorithm]
    return map(str, algorithm.arguments(policy, cost, guess.now_us() if algorithm.CALENDAR_TIME else 0))


def stored(prefix: str, counters: Iterable[tuple[Policy, CounterKey]]) -> list[bytes]:
    """Return the keys of counters."""
    return [stored_key(prefix, policy.namespace, key).encode() for policy, key in counters]


def answers(requests: Sequence[Charges], reply: list[Any]) -> tuple[int, list[Answer | ClockMismatch]]:
    """Read what ``decide.lua`` returns for these requests: how many logs it repaired, and an answer for each."""
    if type(reply) is not list:
        raise TypeError(f"a script's reply must be a list, got {reply!r:.100}")
    # One word stands for all the numbers of a request that failed. And to read many at once pays for many only.
    if len(requests) == 1 or len(reply) < 1 + 3 * sum(map(len, requests)):
        numbers = iter(reply)
        return next(numbers), [_answer(len(request), numbers) for request in requests]
    remaining, waits_us, resets_us = reply[1::3], reply[2::3], reply[3::3]
    fields = zip(map(not_, waits_us), remaining, waits_us, resets_us, strict=True)
    verdicts = list(map(tuple.__new__, repeat(Verdict), fields))
    answered: list[Answer | ClockMismatch]
    if len(verdicts) == len(requests):
        answered = [[verdict] for verdict in verdicts]
        return reply[0], answered
    answered = []
    at = 0
    for request in requests:
        upto = at + len(request)
        answered.append(verdicts[at:upto])
        at = upto
    return reply[0], answered


def _answer(charges: int, numbers: Iterator[Any]) -> Answer | ClockMismatch:
    verdicts = []
    for _ in range(charges):
        remaining = next(numbers)
        if not isinstance(remaining, int):
            return _fault(remaining)
        wait_us, reset_us = next(numbers), next(numbers)
        verdicts.append(verdict_of((not wait_us, remaining, wait_us, reset_us)))
    return verdicts


def _fault(fault: bytes | str) -> StoreUnavailable | ClockMismatch:
    text = _text(fault)
    word, _, rest = text.partition(" ")
    if word == "CLOCK_MISMATCH":
        return ClockMismatch(int(rest))
    return StoreUnavailable(f"a counter of this request holds something else on the server, nothing was taken: {text}")


def faults(reply: list[bytes | str]) -> list[str]:
    """Read what ``block.lua`` returns: what is wrong with the keys that were left as they were."""
    return [_text(fault) for fault in reply if fault]


def _text(word: bytes | str) -> str:
    return word.decode("utf-8", "replace") if isinstance(word, bytes) else word
