"""How a decision's time grows with the number of keys, all of them live."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from batches import charges, decide_together
from contenders import sorted_set
from contenders.contender import MANY
from contenders.floors import DEQUE
from contenders.memory import MOVING, OURS, floors, of_limits, ours
from contenders.on_redis import EVALSHA
from contenders.on_redis_async import OURS as OURS_AWAITED
from contenders.on_redis_async import on_redis_async
from cores import one_core
from rounds import Spread
from trial import Trial

from sluicegate import RedisStore, SlidingWindow
from sluicegate.proof.servers import Server

IN_MEMORY, ON_A_SERVER = "in memory, by keys", "asyncio on one core, 64 tasks, by keys"
LIMIT, WINDOW = 10**6, 3600
TASKS, ROUNDS = 64, 5


def sizes(trial: Trial, most: int = 6) -> list[int]:
    return [10**n for n in range((min(most, 3) if trial.quick else most) + 1)]


def in_memory(trial: Trial) -> None:
    contenders = [
        each
        for each in (*ours(MANY, WINDOW), *floors(MANY, WINDOW), *of_limits(MANY, WINDOW))
        if each.name in (OURS, DEQUE, MOVING)
    ]
    lines: dict[str, dict[int, Spread]] = {each.name: {} for each in contenders}
    every = [f"user-{n}" for n in range(sizes(trial)[-1])]
    before = 0
    for size in sizes(trial):
        for each in contenders:
            for key in islice(every, before, size):
                each.call(key)
        before = size
        runs = {each.name: trial.repeated(each, every[:size], 0.03) for each in contenders}
        for name, spread in trial.measured(f"{IN_MEMORY}: {size}", runs, ROUNDS).items():
            lines[name][size] = spread
    trial.report.curve(IN_MEMORY, "keys", "seconds a decision", lines)


def on_a_server(trial: Trial, server: Server) -> None:
    names = (OURS_AWAITED, EVALSHA, sorted_set.NAME)
    lines: dict[str, dict[int, Spread]] = {name: {} for name in names}
    every = [f"user-{n}" for n in range(sizes(trial)[-1])]
    before = 0
    with one_core(server), trial.entered(on_redis_async(server.url, LIMIT, WINDOW, TASKS)) as made:
        for size in sizes(trial):
            _fill(server, every[before:size])
            before = size
            runs = {each.name: trial.by_tasks(each, every[:size], TASKS, 0.12) for each in made if each.name in names}
            for name, spread in trial.measured(f"{ON_A_SERVER}: {size}", runs, ROUNDS).items():
                lines[name][size] = spread
    server.client.flushall()
    trial.report.curve(ON_A_SERVER, "keys", "seconds a decision", lines, server.version)


def _fill(server: Server, keys: Sequence[str]) -> None:
    # Of the policy that the contenders have, and as the script of the sorted set leaves them: they find the same keys.
    policy = SlidingWindow(LIMIT, window=WINDOW, name="bench")
    members = server.client.register_script(
        """
        local t = redis.call('TIME') local now = t[1] * 1000000 + t[2]
        for _, key in ipairs(KEYS) do
          redis.call('ZADD', key, now, now .. ':1')
          redis.call('PEXPIRE', key, ARGV[1])
        end
        """
    )
    with RedisStore.from_url(server.url, timeout=60) as store:
        for some in pieces(keys, 500):
            decide_together(store, charges(policy, *some))
            members(keys=some, args=[WINDOW * 1000])


def pieces(items: Sequence, size: int) -> list[Sequence]:
    return [items[at : at + size] for at in range(0, len(items), size)]
