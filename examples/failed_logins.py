"""Count failed log-ins only: users may sign in as often as they like, and guess 3 times a minute at most.

    python examples/failed_logins.py                            # by itself
    python examples/failed_logins.py redis://localhost:6379/0   # on all instances of a service

How-to: docs/how-to/count-failures-only.md
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from sluicegate import Limiter, SlidingWindow

PASSWORDS = {"alice": "correct horse"}


class WrongPassword(Exception):
    """The password is wrong."""


class TooManyFailures(Exception):
    """Too many passwords were wrong: this one was not looked at. For a 429."""


class Unavailable(Exception):
    """Redis is down, so nobody logs in. For a 503."""


def log_in(limiter: Limiter, user: str, password: str) -> str:
    """Return a session. Only what raises inside of the block is counted."""
    with limiter.reserve(user, charge_when="failure") as attempt:
        if not attempt:
            if attempt.decision.source == "fallback":  # decided without Redis, by on_outage="closed"
                raise Unavailable("Redis is down: nobody logs in")
            raise TooManyFailures(f"try again in {math.ceil(attempt.decision.retry_after)} s")
        if not is_right(user, password):
            raise WrongPassword
        return f"session of {user}"


def is_right(user: str, password: str) -> bool:
    time.sleep(0.01)  # a slow hash, as it should be
    return PASSWORDS.get(user) == password


def main(store: str = "memory://") -> None:
    with Limiter(SlidingWindow(3, window=60, name="failed-logins"), store=store, on_outage="closed") as limiter:
        for _ in range(10):
            log_in(limiter, "alice", "correct horse")
        print("10 log-ins in a row: all let in")

        def guess(number: int) -> type[Exception]:
            try:
                log_in(limiter, "alice", f"guess {number}")
            except (WrongPassword, TooManyFailures) as error:
                return type(error)
            raise AssertionError("a guess was right")

        with ThreadPoolExecutor(50) as threads:
            answers = list(threads.map(guess, range(50)))
        print(f"50 guesses at once: {answers.count(WrongPassword)} were tried")
        try:
            log_in(limiter, "alice", "correct horse")
        except TooManyFailures as error:
            print(f"the right password now: {error}")
        limiter.forget("alice")  # she has confirmed who she is by mail
        print(log_in(limiter, "alice", "correct horse"))
        limiter.forget("alice")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", nargs="?", default="memory://", help="the URL of a server; without it, this process")
    try:
        main(parser.parse_args().store)
    except Unavailable as error:
        sys.exit(str(error))
