"""How time and bytes grow: with the number of keys, with the limit of a full log, and with the cost of one request.

Time on a server is its own (INFO commandstats), but for the number of keys, where it is the decisions of 64 tasks.
Lines end where a contender would take minutes, or gigabytes.
"""

from __future__ import annotations

import growth_by_cost
import growth_by_keys
import growth_by_limit
from trial import Trial

from sluicegate.proof import servers


def run(trial: Trial) -> None:
    growth_by_keys.in_memory(trial)
    growth_by_limit.in_memory(trial)
    growth_by_cost.in_memory(trial)
    with servers.running(trial.first) as server:
        growth_by_keys.on_a_server(trial, server)
        growth_by_limit.on_a_server(trial, server)
        growth_by_cost.on_a_server(trial, server)
