"""What to write instead: for calls that do not fit, with the words of other libraries as data.

Advice that can be tried is tried before it is given: the call is made, the rate is parsed. Nothing here runs unless
there is an error to raise.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from typing import Any, ParamSpec

from sluicegate._core.errors import InvalidPolicy, InvalidRate, meant, nearest, short_repr

_Arguments = ParamSpec("_Arguments")

_ELSEWHERE = {
    "limit": "amount calls count hits max max_calls max_rate max_requests points quota rate refill_rate requests times",
    "window": "days duration every expiry hours interval milliseconds minutes per_seconds period refill_period seconds "
    "time_period time_window ttl windowMs window_ms window_seconds window_size",
    "ttl": "duration expiry expires_after lease lease_seconds lease_time lifetime timeout window",
    "burst": "bucket_size burst_size capacity max_burst max_tokens",
    "per": "by identifier key key_func scope",
    "every": "interval period unit window",
    "timezone": "tz tzinfo zone",
}
"""Our arguments, and what they are called elsewhere."""

_SECONDS = {"milliseconds": 0.001, "windowMs": 0.001, "window_ms": 0.001, "minutes": 60, "hours": 3600, "days": 86400}
_LARGEST = 10**15  # of a number that is put into another unit
_EXAMPLES: dict[str, Any] = {"limit": 100, "window": 60, "every": "month"}  # of arguments that are needed

_BY_WINDOW = ("TokenBucket", "FixedWindow")  # built from a limit and a window; rate strings build SlidingWindow alone

_OF_A_LIMITER = {
    "identifier key key_func": "give the key to each call, limiter.allow(key)",
    "application_limits default_limits rate rates": 'give rates by position, Limiter("100/minute")',
    "algorithm strategy": "the policy chooses it: SlidingWindow, TokenBucket, FixedWindow or CalendarWindow",
    "backend client redis redis_url storage storage_uri storage_url uri url": "name it store=",
    "denial_ttl prefix timeout": "give it to the store, store={redis}.from_url(url, {word}=...)",
    "key_prefix": "give it to the store, store={redis}.from_url(url, prefix=...)",
    "clock max_keys": "give it to the store, store=MemoryStore({word}=...)",
}
"""What people give a limiter, and what to do."""


def explained(init: Callable[_Arguments, None]) -> Callable[_Arguments, None]:
    """Let a call that ``init`` has no arguments for raise `InvalidPolicy` with what to write, and not `TypeError`."""

    @wraps(init)
    def checked(*args: _Arguments.args, **options: _Arguments.kwargs) -> None:
        try:
            init(*args, **options)
        except TypeError:
            if not args or type(args[0]).__init__ is not checked:
                raise  # a subclass calls this with what its own constructor was given, which may be anything
            error = _misfit(init, args, options)
            if error is None:
                raise
            raise error from None

    return checked


def call(kind: str, arguments: Mapping[str, object]) -> str:
    """Return the text of a call: the limit by position, all else by name."""
    texts = [_shown(value) if name == "limit" else f"{name}={_shown(value)}" for name, value in arguments.items()]
    return f"{kind}({', '.join(texts)})"


def of_limit(kind: str, limit: object) -> str:
    """Return the advice for a limit that is not a number of units."""
    if isinstance(limit, str):
        return _of_limit_text(kind, limit)
    if isinstance(limit, float) and limit.is_integer():
        return f"; write {int(limit)}"
    return "; 0 may come from limits= alone" if type(limit) is int and limit == 0 else ""


def of_window(window: object, name: str = "window") -> str:
    """Return the advice for a window in words, such as ``60s`` or ``minute``; or for another span of this name."""
    seconds = _seconds(window)
    return "" if seconds is None else f"; write {name}={seconds:g}"


def of_numbers(numbers: Sequence[object]) -> str:
    """Return the advice for a limiter that was given numbers in place of policies: a limit, and perhaps a window."""
    limit, window = (*numbers, _EXAMPLES["window"])[:2]
    return f": write {call('SlidingWindow', {'limit': limit, 'window': window})}"


def of_bucket(limit: int, window_us: int, burst: int, most: int) -> str:
    """Return the advice for a bucket whose limit or burst times its window is above ``most``: a shorter window."""
    for unit_us in (1_000_000, 1):  # in whole seconds if there is one
        parts = math.gcd(limit, window_us // unit_us)
        if window_us % unit_us == 0 and max(limit // parts, burst) * (window_us // parts) <= most:
            return f"; for the same flow and burst write {_bucket(limit // parts, window_us // parts, burst)}"
    shorter_us = window_us // -(-max(limit, burst) * window_us // most)
    shorter_us -= shorter_us % 1_000_000 if shorter_us > 1_000_000 else 0
    nearest_limit = limit * shorter_us // window_us
    if not nearest_limit:
        return ""
    slower, fewer = _bucket(nearest_limit, shorter_us, burst), limit - nearest_limit * window_us // shorter_us
    return f"; no shorter window has this flow: {slower} yields {fewer} units fewer in {_in_seconds(window_us)} seconds"


def _bucket(limit: int, window_us: int, burst: int) -> str:
    return call("TokenBucket", {"limit": limit, "window": _in_seconds(window_us), "burst": burst})


def _of_limit_text(kind: str, text: str) -> str:
    parsed = _rates(text)
    if not parsed:
        return f"; write {int(text)}" if text.isascii() and text.isdigit() and len(text) <= len("100000000000") else ""
    if kind in _BY_WINDOW and len(parsed) == 1:
        ((limit, window_us),) = parsed
        return f"; write {call(kind, {'limit': limit, 'window': _in_seconds(window_us)})}"
    return f"; write Limiter({text!r}), or parse_rates({text!r})"


def _rates(text: str) -> list[tuple[int, int]]:
    from sluicegate._core.rate import rates  # noqa: PLC0415 - it imports the policies, which import this

    try:
        return rates(text)
    except InvalidRate:
        return []


def _seconds(window: object) -> float | None:
    """Return the seconds that a text means, read as the window of a rate; None if it means none."""
    if not isinstance(window, str):
        return None
    parsed = _rates(f"1/{window}") or _rates(f"1/{window}s")
    return _in_seconds(parsed[0][1]) if len(parsed) == 1 else None


def _in_seconds(window_us: int) -> float:
    return _number(window_us / 1_000_000)


def _number(number: float) -> float:
    return int(number) if math.isfinite(number) and number == int(number) else number


def _misfit(init: Callable[..., None], args: tuple[Any, ...], options: dict[str, Any]) -> InvalidPolicy | None:
    """Return the error for a call that does not fit; None if it does, and the `TypeError` is about something else."""
    signature = inspect.signature(init)
    try:
        signature.bind(*args, **options)
    except TypeError:
        kind = type(args[0])
        parameters = list(signature.parameters.values())[1:]
        misfit = _of_limiter if parameters[0].kind is inspect.Parameter.VAR_POSITIONAL else _of_policy
        return misfit(kind, parameters, args[1:], options)
    return None


def _of_policy(
    kind: type, parameters: list[inspect.Parameter], args: tuple[Any, ...], options: dict[str, Any]
) -> InvalidPolicy:
    names = [each.name for each in parameters]
    unknown = [word for word in options if word not in names]
    needed = [each.name for each in parameters if each.default is inspect.Parameter.empty]
    arguments = _renamed(names, dict(zip(names, args, strict=False)), options)
    if "every" not in options and not isinstance(arguments.get("every", ""), str):
        del arguments["every"]  # a number of seconds, which names no unit of a calendar
    missing = [name for name in needed if name not in arguments]
    if "window" in missing and _seconds(arguments.get("per")):
        arguments["window"] = _seconds(arguments.pop("per"))
    complete = {name: arguments.get(name, _EXAMPLES.get(name)) for name in names if name in {*needed, *arguments}}
    try:
        kind(**complete)
    except InvalidPolicy as error:
        return error
    if unknown:
        reason = f"{kind.__name__} has no argument {short_repr(unknown[0])[1:-1]}"
        reason += f" and needs {' and '.join(missing)}" if missing else ""
    elif len(args) > 1:
        reason = f"{kind.__name__} takes its limit by position, and all else by name"
    elif missing:
        reason = f"{kind.__name__} needs {' and '.join(missing)}"
    else:
        reason = f"{kind.__name__} takes each argument once"
    positional = [_shown(value) for value in args]
    by_name = [f"{word}={_shown(value) if _is_known(word, names) else '...'}" for word, value in options.items()]
    got = f"{kind.__name__}({', '.join([*positional, *by_name])})"
    return InvalidPolicy(f"{reason}, got {got}; write {call(kind.__name__, complete)}")


def _of_limiter(
    kind: type, parameters: list[inspect.Parameter], given: tuple[Any, ...], options: dict[str, Any]
) -> InvalidPolicy:
    names = [each.name for each in parameters]
    unknown = {word: value for word, value in options.items() if word not in names}
    word = next(iter(unknown))
    advice = next((advice for words, advice in _OF_A_LIMITER.items() if word in words.split()), "")
    try:
        advice = advice.format(word=word, redis=_redis_store(kind)) or _of_policies(kind, given, unknown)
    except InvalidPolicy as error:
        return error
    said = f"{kind.__name__} has no argument {word}: it takes policies by position, and {', '.join(names[1:])} by name"
    return InvalidPolicy(f"{said}; {advice}" if advice else f"{said}{meant(word, names)}")


def _redis_store(limiter: type) -> str:
    return "AsyncRedisStore" if limiter.__name__.startswith("Async") else "RedisStore"


def _of_policies(kind: type, given: tuple[Any, ...], options: dict[str, Any]) -> str:
    """Return the advice for options of a limiter that are arguments of a policy.

    Raises:
        InvalidPolicy: They are not valid there, either.
    """
    from sluicegate._core.policy import SlidingWindow  # noqa: PLC0415 - it imports this
    from sluicegate._core.rate import parse_rates  # noqa: PLC0415 - it imports the policies, which import this

    arguments = _renamed(list(inspect.signature(SlidingWindow).parameters), {}, options)
    if not arguments:
        return ""
    text = "; ".join(each for each in given if isinstance(each, str))
    parsed = _rates(text)
    if len(parsed) > 1 and arguments.keys() <= {"per", "shared"}:
        parse_rates(text, **arguments)
        by_name = ", ".join(f"{name}={_shown(value)}" for name, value in arguments.items())
        return f"write {kind.__name__}(*parse_rates({text!r}, {by_name}))"
    limit, window_us = parsed[0] if parsed else (_EXAMPLES["limit"], _EXAMPLES["window"] * 1_000_000)
    complete = {"limit": limit, "window": _in_seconds(window_us), **arguments}
    SlidingWindow(**complete)
    return f"write {kind.__name__}({call('SlidingWindow', complete)})"


def _renamed(names: Iterable[str], arguments: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments with those options that are ours, or are called otherwise elsewhere."""
    known = set(names)
    for word, value in options.items():
        elsewhere = (name for name, words in _ELSEWHERE.items() if name in known and word in words.split())
        name = word if word in known else next(elsewhere, nearest(word, known))
        if name is not None and name not in arguments:
            arguments[name] = _in_our_unit(word, value)
    return arguments


def _in_our_unit(word: str, value: object) -> object:
    """Return a number of the unit that the word means in ours; any other value as it is."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or abs(value) > _LARGEST:
        return value
    return _number(value * _SECONDS.get(word, 1))


def _is_known(word: str, names: Iterable[str]) -> bool:
    """Return whether a word is one of our arguments, or of another library's: the value of any other may be secret."""
    return word in names or any(word in words.split() for words in _ELSEWHERE.values())


def _shown(value: object) -> str:
    return "..." if isinstance(value, str) and "://" in value else short_repr(value)  # a URL may hold a password
