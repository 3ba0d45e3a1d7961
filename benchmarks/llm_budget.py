"""How much of its budget the LLM example uses, and how long dear calls wait beside cheap ones, by real clocks.

    PYTHONPATH=.:tests .venv/bin/python benchmarks/llm_budget.py          four minutes, and needs a server installed

Four processes with 16 tasks each, as in tests/limiter/test_llm_budget.py; then one process with all 64.
"""

from __future__ import annotations

import argparse
import asyncio
from statistics import quantiles

from limiter import llm_fleet
from limiter.llm_worker import CHEAP, DEAR
from limiter.strict_provider import StrictProvider
from sluicegate.proof import servers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--window", type=float, default=30, help="seconds of the provider's window; a minute in earnest"
    )
    parser.add_argument("--windows", type=int, default=4, help="how many of them a run lasts")
    given = parser.parse_args()
    with servers.running(next(iter(servers.binaries()))) as server:
        print(server.version)
        for processes in (4, 1):
            llm_fleet.PROCESSES = processes
            asyncio.run(one(given.window, given.windows, server.url, f"llm-{processes}:"))


async def one(window: float, windows: int, url: str, prefix: str) -> None:
    strict = StrictProvider(requests=500, tokens=450_000, window=window)
    calls = await llm_fleet.fleet(strict, url, prefix, window=window * 61 / 60, seconds=window * windows)
    first = strict.accepted[0].at_us / 1_000_000
    used = strict.used(first + window, first + window * windows)
    late = max(each.late_us for each in strict.accepted) / 1000
    made = f"{len(strict.accepted)} calls, {len(strict.refused)} refused"
    print(f"{llm_fleet.PROCESSES} processes, window {window:g} s: {made},", end=" ")
    print(f"{used:.1%} of the tokens used after the first window; the latest call came {late:.0f} ms after its charge")
    for units in (CHEAP, DEAR):
        waits = [wait for used, wait in calls if used == units]
        p50, p95 = quantiles(waits, n=2)[0], quantiles(waits, n=20)[-1]
        print(f"  {units} tokens: {len(waits)} calls, p50 {p50:.2f} s, p95 {p95:.2f} s", flush=True)


if __name__ == "__main__":
    main()
