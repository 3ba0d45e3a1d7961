"""The answer to a request, and the raw numbers that it is made from.

Annotations are evaluated here, as pydantic reads them: it would look up text in `sluicegate`, which lacks most names.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import InitVar, asdict, dataclass, field
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple

NEVER = -1
"""The ``retry_after_us`` of a cost that can never fit under the limit."""

_INFINITY = math.inf

Source = Literal["store", "denial-cache", "fallback", "bypass"]


class Verdict(NamedTuple):
    """The answer to one charge, in whole numbers: the form in which algorithms and stores pass it on."""

    allowed: bool
    remaining: int
    retry_after_us: int
    reset_after_us: int


verdict_of: Callable[[tuple[bool, int, int, int]], Verdict] = partial(tuple.__new__, Verdict)
"""Make a `Verdict` from a tuple, in a third of the time that its own constructor takes."""


_Parts = tuple[tuple[str, ...], tuple[int, ...], tuple[Verdict, ...]]  # names, limits, verdicts


class _WithParts:
    """Holds the parts of a decision on several policies outside of its fields: no dict or JSON of it shows them."""

    __slots__ = ("_parts",)

    _parts: _Parts | None


class _InfinityIsNull:
    """Makes pydantic, and with it FastAPI, write an infinite number as null: JSON has no infinity.

    Pydantic calls this by its name; it is not imported here.
    """

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        number_or_null = {"type": "nullable", "schema": {"type": "float"}}
        writer = {"type": "function-plain", "function": _finite, "return_schema": number_or_null, "when_used": "json"}
        return {**handler(source), "serialization": writer}


def _finite(seconds: float) -> float | None:
    return None if seconds == _INFINITY else seconds


@dataclass(frozen=True, slots=True)
class Decision(_WithParts):  # noqa: PLW1641 - the dataclass makes the hash
    """The immutable answer to one request, all of it from the same atomic step. True exactly when allowed.

    Attributes:
        allowed: Whether the request may go on. With several policies: whether all of them allow it.
        policy: The name of the policy that decides: of a denial, the one with the longest wait; otherwise the one with
            the fewest units remaining.
        limit: That policy's limit, units per window.
        remaining: Units that could still be taken from it now, never negative.
        retry_after: Seconds until the same request could be allowed: 0.0 when it was, ``math.inf`` when it never can
            be (its cost is above the burst, of most policies the limit; or the key's limit is 0). Exact: denied a
            microsecond before it ends, allowed when it ends, if nobody else took the unit and the clock did not step.
            With the source ``denial-cache`` it is never too short, and too long by at most the round trip of the
            remembered call.
        reset_after: Seconds until the key is idle and the whole burst is back; 0.0 if it is.
        source: Where the answer came from: ``store``; ``denial-cache`` if the store remembered the denial and did not
            call its server; ``bypass`` if the request is not limited: the key is exempt, or the limiter is off;
            ``fallback`` if it is limited, and decided without the store: while that is down, as ``on_outage`` says; or
            the key's limit is 0.
        decisions: One decision for each policy, in the limiter's order. If the request was denied, a policy that had
            room says so here, and was not charged. Under a limit of 0 the other policies are not looked at: they say
            allowed, with 0 remaining.
    """

    allowed: bool
    policy: str
    limit: int
    remaining: int
    retry_after: Annotated[float, _InfinityIsNull]
    reset_after: float
    source: Source = "store"
    _parts: InitVar[_Parts | None] = field(default=None, kw_only=True)  # an argument, so that replace() passes it on

    def __post_init__(self, _parts: _Parts | None) -> None:
        object.__setattr__(self, "_parts", _parts)

    def __bool__(self) -> bool:
        return self.allowed

    @property
    def decisions(self) -> "tuple[Decision, ...]":
        if self._parts is None:
            return (self,)
        return tuple(_decision(*part, self.source, None) for part in zip(*self._parts, strict=True))

    def as_dict(self) -> dict[str, Any]:
        """Return the attributes, without ``decisions``, as a dict for JSON: a wait that never ends is None."""
        return {**asdict(self), "retry_after": _finite(self.retry_after)}

    def __eq__(self, other: object) -> bool:
        return self.__getstate__() == other.__getstate__() if isinstance(other, Decision) else NotImplemented

    def __getstate__(self) -> tuple[object, ...]:
        return tuple([getattr(self, name) for name in _SLOTS])

    def __setstate__(self, state: tuple[object, ...]) -> None:
        for name, value in zip(_SLOTS, state, strict=True):
            object.__setattr__(self, name, value)


# The default of the argument would hide the slot.
del Decision._parts  # type: ignore[misc] # noqa: SLF001 - it is this module's own
_SLOTS = (*Decision.__slots__, *_WithParts.__slots__)


def decision_of(
    names: Sequence[str], limits: Sequence[int], verdicts: Sequence[Verdict], source: Source = "store"
) -> Decision:
    """Make the decision on a request from the verdict on each of its charges, all in the same order."""
    if len(verdicts) == 1:
        return _decision(names[0], limits[0], verdicts[0], source, None)
    index = _deciding(verdicts)
    # The parts become decisions when they are asked for: of ten policies usually one is looked at.
    parts = tuple(names), tuple(limits), tuple(verdicts)
    return _decision(names[index], limits[index], verdicts[index], source, parts)


def _deciding(verdicts: Sequence[Verdict]) -> int:
    """Return the index of the verdict that decides: the longest wait if any denies, else the fewest remaining units."""
    longest, fewest, index = -1, verdicts[0][1], 0
    for n, (allowed, remaining, wait_us, _) in enumerate(verdicts):
        if not allowed:
            if wait_us == NEVER:
                return n
            if wait_us > longest:
                longest, index = wait_us, n
        elif remaining < fewest and longest < 0:
            fewest, index = remaining, n
    return index


class _Draft(_WithParts):
    """A decision in the making.

    A frozen dataclass sets each attribute through a call, which takes as long as all the rest of a decision in memory.
    So the attributes are set on this class, which is not frozen, and then the object's class is changed.
    """

    __slots__ = Decision.__slots__

    def __init__(
        self, name: str, limit: int, verdict: tuple[bool, int, int, int], source: Source, parts: _Parts | None
    ) -> None:
        self.allowed, self.remaining, retry_after_us, reset_after_us = verdict
        self.policy = name
        self.limit = limit
        self.retry_after = _INFINITY if retry_after_us == NEVER else retry_after_us / 1_000_000
        self.reset_after = reset_after_us / 1_000_000
        self.source = source
        self._parts = parts


def _decision(
    name: str, limit: int, verdict: tuple[bool, int, int, int], source: Source, parts: _Parts | None
) -> Decision:
    draft: Any = _Draft(name, limit, verdict, source, parts)
    draft.__class__ = Decision
    decision: Decision = draft  # no cast(): a call takes a tenth of the time of all of this
    return decision
