"""What redis-py raises, and what each of it means for those who asked: nothing was taken, or nobody knows."""

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
"""What the server answers in place of running a script. redis-py calls some of them errors of the connection."""

FAILURES = (RedisError, OSError, ValueError, LookupError, OverflowError)
"""What a driver may raise: beside its own errors, those of a host name, a codec or a time-out that it cannot use."""


_OF_A_CLUSTER = (MovedError, AskError, ClusterCrossSlotError)
_SAID_BY_A_CLUSTER = ("MOVED ", "ASK ", "CROSSSLOT ")


def unavailable(why: object) -> StoreUnavailable:
    """Return the error for what never left."""
    return StoreUnavailable(f"the store could not be asked, nothing was taken: {why}")


def lost(why: object) -> StoreTimeout:
    """Return the error for what may have left, and was not answered."""
    return StoreTimeout(f"the store's answer was lost, the cost may have been taken: {why}")


def refused(refusal: Exception) -> StoreError:
    """Return the error for what the server refused."""
    text = str(refusal)
    if isinstance(refusal, _OF_A_CLUSTER) or text.startswith(_SAID_BY_A_CLUSTER):
        return StoreUnavailable(
            f"the server is a node of a cluster, which this version of sluicegate does not support, nothing was taken: "
            f"{text}"
        )
    if "script:" in text:  # it failed on the way, and what it had written stands
        return StoreError(f"the script failed on the server, the cost may have been taken: {text}")
    return StoreUnavailable(f"the store refused, nothing was taken: {text}")


def because(error: BaseException, timeout: float) -> str:
    """Say why, also for a time-out, which has no words of its own."""
    return str(error) or f"nothing came within {timeout} s"
