"""What is wrong with a store, in a word that shows no address, user or password."""

from __future__ import annotations

import re

from redis.exceptions import AuthenticationError, BusyLoadingError, ResponseError

from sluicegate import StoreError, StoreTimeout

# What a server says, and the reason. Redis 7.0 and Valkey have words of their own for a refusal within a script.
_SAID = (
    ("^READONLY", "replica"),
    ("^NOPERM|^ACL failure in script|^The user executing the script can't", "no-permission"),
    ("^OOM", "out-of-memory"),
    ("^MASTERDOWN", "primary-down"),
    ("^NOREPLICAS", "too-few-replicas"),
    ("^MISCONF", "disk-error"),
    ("^(?:MOVED|ASK|CROSSSLOT|TRYAGAIN)", "cluster"),
    ("^CLUSTERDOWN", "cluster-down"),
    ("^LOADING", "loading"),
    ("^BUSY", "busy"),
)


def reason(error: StoreError) -> str:
    """Return what is wrong: ``replica``, ``no-permission`` and so on, or ``unreachable``, ``timeout``, ``refused``."""
    cause = error.__cause__
    if isinstance(cause, AuthenticationError):
        return "wrong-password"
    if isinstance(cause, BusyLoadingError):
        return "loading"
    if isinstance(cause, ResponseError):
        text = str(cause).removeprefix("ERR ")
        return next((reason for pattern, reason in _SAID if re.search(pattern, text)), "refused")
    return "timeout" if isinstance(error, StoreTimeout) else "unreachable"
