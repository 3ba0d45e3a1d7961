"""Decide many requests in one call of the script, as callers that come at once are, without the threads to do so."""

from __future__ import annotations

from collections.abc import Sequence

from redis.exceptions import ResponseError

from sluicegate import RedisStore
from sluicegate._core.policy import Policy
from sluicegate._core.request import Charge, Request

Charges = tuple[Charge, ...]


def charges(policy: Policy, *keys: str, cost: int = 1) -> list[Charges]:
    """Return a request of one charge for each key."""
    return [(Charge(policy, key, cost),) for key in keys]


def one(policy: Policy, key: str, cost: int = 1, *, commit: bool = True) -> Request:
    return Request((Charge(policy, key, cost),), commit)


def decide_together(store: RedisStore, requests: Sequence[Charges]) -> None:
    """Carry the commands of the store's own verb to the server and back."""
    steps = store._decide(list(requests), commit=True)
    advance, received = steps.send, None
    while True:
        try:
            command = advance(received)
        except StopIteration:
            return
        try:
            advance, received = steps.send, store._client.execute_command(*command)
        except ResponseError as refusal:  # the first time, the server does not have the script yet
            advance, received = steps.throw, refusal
