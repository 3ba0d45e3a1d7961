"""Call an API no faster than it permits: calls wait their turn, in the order in which they came.

    python examples/outgoing_calls.py                            # by itself
    python examples/outgoing_calls.py redis://localhost:6379/0   # start it twice: the two share the limit

How-to: docs/how-to/wait-your-turn.md
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ThreadPoolExecutor

from sluicegate import Limiter, NotAllowed, SlidingWindow


def main(store: str = "memory://") -> None:
    began = time.monotonic()
    with Limiter(SlidingWindow(10, window=0.25, name="partner-api"), store=store) as limiter:

        @limiter.limited("partner", timeout=30)
        def call_partner(order: int) -> str:
            return f"{time.monotonic() - began:5.2f} s  order {order}"  # your HTTP request

        with ThreadPoolExecutor(8) as threads:
            for line in threads.map(call_partner, range(40)):
                print(line)

        # The budget is used up. What cannot be had in time is refused at once, and takes nothing.
        try:
            with limiter.limited("partner", cost=10, timeout=0.01):
                print("10 more at once")
        except NotAllowed as error:
            print(f"not within 0.01 s; try again in {error.decision.retry_after:.1f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", nargs="?", default="memory://", help="the URL of a server; without it, this process")
    main(parser.parse_args().store)
