"""redis-py's exceptions, and which of ours each of them becomes: nothing was done, or the outcome is unknown.

A message says what is wrong and what to do, then what was said and by which server. It has no user, password or key.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeVar

from redis.exceptions import AuthenticationError, BusyLoadingError, RedisError, ResponseError
from redis.exceptions import TimeoutError as DriverTimeout

from sluicegate._core.errors import StoreError, StoreTimeout, StoreUnavailable
from sluicegate._stores.redis.diagnoses import (
    HUNG_UP,
    NO_REPLY,
    NOT_SENT,
    REFUSED,
    REPLY_LOST,
    SAID,
    SCRIPT_FAILED,
    UNREACHABLE,
    Diagnosis,
)
from sluicegate._stores.redis.pipeline.waiter import Effect

REFUSALS = (ResponseError, BusyLoadingError, AuthenticationError)
"""The server's replies in place of running a script. redis-py raises some of them as errors of the connection."""

FAILURES = (RedisError, OSError, ValueError, LookupError, OverflowError)
"""What redis-py may raise: its own errors, and those of a host name, codec or time-out that it cannot use."""

_IN_A_SCRIPT = re.compile(r"script: .*on @user_script:\d+")
_AT_ITS_START = re.compile(r"run the 'time' command")  # every script calls it first; Redis 7.0 names no command
_SECRETS = (
    (re.compile(r",? with args beginning with:.*", re.DOTALL), ""),  # the stored key is one of them
    (re.compile(r"\b(User) \S+ (?=has no)"), r"\1 *** "),
    (re.compile(r"//[^/@\s]*@"), "//***@"),
)
_LONGEST = 200

_Error = TypeVar("_Error", bound=StoreError)


def unavailable(why: BaseException, effect: Effect) -> StoreUnavailable:
    """Return the error for a request that was not sent."""
    if isinstance(why, (DriverTimeout, TimeoutError)):
        usual = NOT_SENT
    else:
        usual = HUNG_UP if HUNG_UP.find(str(why)) else UNREACHABLE
    return _error(StoreUnavailable, usual, why, effect.none)


def lost(why: BaseException, effect: Effect) -> StoreTimeout:
    """Return the error for a request that may have been sent, and has no reply."""
    usual = NO_REPLY if isinstance(why, (DriverTimeout, TimeoutError)) else REPLY_LOST
    return _error(StoreTimeout, usual, why, effect.unknown, said=())


def refused(refusal: Exception, effect: Effect) -> StoreError:
    """Return the error for a request that the server refused."""
    text = str(refusal)
    if _IN_A_SCRIPT.search(text) and not _AT_ITS_START.search(text):  # it failed in the middle, and its writes stand
        return _error(StoreError, SCRIPT_FAILED, refusal, effect.unknown)
    return _error(StoreUnavailable, REFUSED, refusal, effect.none)


def from_reply(text: str, outcome: str) -> StoreUnavailable:
    """Return the error for what a reply says, such as a fault that a script met at one counter."""
    return _error(StoreUnavailable, REFUSED, text, outcome)


def first_word(refusal: Exception) -> str:
    """Return the first word of what the server said, such as NOPERM."""
    return _words(refusal).partition(" ")[0]


def _error(
    kind: type[_Error], usual: Diagnosis, why: BaseException | str, outcome: str, said: Iterable[Diagnosis] = SAID
) -> _Error:
    """Return an error with the first diagnosis that fits what was said, or else the usual one."""
    words = _words(why)
    diagnosis, details = usual, tuple[str, ...](("",))
    for each in said:
        if found := each.find(words):
            diagnosis, details = each, found.groups("") or details
            break
    advice = [text.format(*details) for text in (diagnosis.wrong, diagnosis.do) if text]
    error = kind(f"{'; '.join([*advice, outcome])}: {_masked(words)}", reason=diagnosis.reason, lasts=diagnosis.lasts)
    error.__cause__ = why if isinstance(why, BaseException) else None
    return error


def _words(why: BaseException | str) -> str:
    """Return what was said, in full: redis-py cuts the first word off some of what a server says."""
    code = getattr(why, "status_code", None)
    text = str(why) or type(why).__name__
    return f"{code} {text}" if code and not text.startswith(code) else text


def _masked(text: str) -> str:
    for secret, mask in _SECRETS:
        text = secret.sub(mask, text)
    text = "".join(each if each.isprintable() else " " for each in text).strip()
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
