"""redis-py's exceptions, and which of ours each of them becomes: nothing was taken, or the outcome is unknown."""

from __future__ import annotations

from redis.exceptions import (
    AskError,
    AuthenticationError,
    BusyLoadingError,
    ClusterCrossSlotError,
    MovedError,
    RedisError,
    ResponseError,
)

from sluicegate._core.errors import StoreError, StoreTimeout, StoreUnavailable

REFUSALS = (ResponseError, BusyLoadingError, AuthenticationError)
"""The server's replies in place of running a script. redis-py raises some of them as errors of the connection."""

FAILURES = (RedisError, OSError, ValueError, LookupError, OverflowError)
"""What redis-py may raise: its own errors, and those of a host name, codec or time-out that it cannot use."""

_FROM_A_CLUSTER = (MovedError, AskError, ClusterCrossSlotError)
_CLUSTER_PREFIXES = ("MOVED ", "ASK ", "CROSSSLOT ")


def unavailable(why: object) -> StoreUnavailable:
    """Return the error for a request that was not sent."""
    return StoreUnavailable(f"the store is unreachable, nothing was taken: {why}")


def lost(why: object) -> StoreTimeout:
    """Return the error for a request that may have been sent, and has no reply."""
    return StoreTimeout(f"the store's reply was lost, the cost may have been taken: {why}")


def refused(refusal: Exception) -> StoreError:
    """Return the error for a request that the server refused."""
    error = _refused(refusal)
    error.__cause__ = refusal
    return error


def _refused(refusal: Exception) -> StoreError:
    text = str(refusal)
    if isinstance(refusal, _FROM_A_CLUSTER) or text.startswith(_CLUSTER_PREFIXES):
        return StoreUnavailable(
            f"the server is a node of a cluster, which this version of sluicegate does not support; nothing was taken: "
            f"{text}"
        )
    if "script:" in text:  # it failed in the middle, and its writes stand
        return StoreError(f"the script failed on the server, the cost may have been taken: {text}")
    return StoreUnavailable(f"the store refused the request, nothing was taken: {text}")


def reason(error: BaseException, timeout: float) -> str:
    """Return the text of an error, or one for a time-out, which has none of its own."""
    return str(error) or f"no reply within {timeout} s"
