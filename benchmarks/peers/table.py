"""The limiters that the comparison grades, Sluicegate and its peers, and how each is started.

    .venv/bin/python benchmarks/peers/table.py    prints the rows

The peers have their own environment, as most of them require a redis-py older than the one that Sluicegate needs.
aiolimiter is left out: an instance has a single limit, and no keys.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PEERS_PYTHON = ROOT / ".venv-peers" / "bin" / "python"


@dataclass(frozen=True, slots=True)
class Meant:
    """Failures that a peer intends: its documentation or its maintainers say that it behaves so.

    Attributes:
        why: The reason, and where the peer states it, in Markdown.
        ids: The ids of the cases, or the beginnings of ids.
        says: A pattern that the evidence must match; other failures of the same cases are not intended.
    """

    why: str
    ids: tuple[str, ...]
    says: str = ""


@dataclass(frozen=True, slots=True)
class Peer:
    """One way to use one package.

    Attributes:
        name: The unique name of this row; fit for a file name and a heading.
        package: The name of the package on PyPI.
        algorithm: The algorithm, as the package's own documentation calls it.
        store: Where it counts.
        target: ``file.py:name`` in this folder for the kit; or ``module:app`` of a service for uvicorn.
        note: What to know before reading its verdicts, in Markdown.
        meant: The failures that it intends.
        settings: The environment of a service; {limit}, {window} and {redis_url} are filled in.
        folder: The folder with the module of a service.
        client: The package of its Redis client.
    """

    name: str
    package: str
    algorithm: str
    store: Literal["memory", "redis"]
    target: str
    note: str
    meant: tuple[Meant, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    folder: Path = HERE
    client: str = "redis"

    @property
    def is_service(self) -> bool:
        """Whether it is graded over HTTP."""
        return self.target.endswith(":app")

    @property
    def spec(self) -> str:
        """The target for ``sluicegate grade``; for a service use `url`."""
        return str(HERE / self.target)

    @property
    def adapter(self) -> Path:
        """The file that uses it, relative to the root of the repository."""
        place = self.target.partition(":")[0]
        return (self.folder / (place if place.endswith(".py") else f"{place.replace('.', '/')}.py")).relative_to(ROOT)

    @property
    def installed(self) -> list[str]:
        """The packages whose versions matter most: its own, and that of its Redis client."""
        return [self.package, self.client] if self.store == "redis" else [self.package]

    @property
    def python(self) -> str:
        """The interpreter of the environment that it is installed in."""
        return sys.executable if self.package == "sluicegate" else str(PEERS_PYTHON)

    def command(self, port: int) -> list[str]:
        """Return the command that starts the service on a port of loopback."""
        assert self.is_service
        uvicorn = [self.python, "-m", "uvicorn", "--app-dir", str(self.folder), "--log-level", "warning"]
        return [*uvicorn, "--no-access-log", "--host", "127.0.0.1", "--port", str(port), self.target]

    def environment(self, limit: int, window_seconds: float, redis_url: str) -> dict[str, str]:
        """Return the environment variables for the service, in addition to those that are set already."""
        assert self.is_service
        values = {"limit": limit, "window": window_seconds, "redis_url": redis_url}
        return {name: text.format_map(values) for name, text in self.settings.items()}


def url(port: int) -> str:
    """Return the URL of a service for ``sluicegate grade --http``."""
    return f"http://127.0.0.1:{port}/ping?user_id={{key}}"


def _both(
    package: str,
    function: str,
    algorithm: str,
    note: str,
    *meant: Meant,
    memory: str = "",
    redis: str = "",
) -> tuple[Peer, Peer]:
    """Return two rows of a package's adapter: one in memory and one on Redis."""
    name, target = f"{package}-{function.replace('_', '-')}", f"{ADAPTERS[package]}:{function}"
    return (
        Peer(f"{name}-memory", package, algorithm, "memory", f"{target}_memory", f"{note} {memory}".strip(), meant),
        Peer(f"{name}-redis", package, algorithm, "redis", f"{target}_redis", f"{note} {redis}".strip(), meant),
    )


ADAPTERS = {
    "drogue": "drogue_adapter.py",
    "halt-rate": "halt_rate_adapter.py",
    "limits": "limits_adapter.py",
    "pyrate-limiter": "pyrate_limiter_adapter.py",
    "redlimit": "redlimit_adapter.py",
    "throttled-py": "throttled_adapter.py",
    "traffik": "traffik_adapter.py",
}
SLOWAPI, FASTAPI_LIMITER = "slowapi_service:app", "fastapi_limiter_service:app"
IN_MEMORY = {"PEER_LIMIT": "{limit}", "PEER_WINDOW": "{window}"}
ON_REDIS = {**IN_MEMORY, "PEER_REDIS_URL": "{redis_url}"}

_EDGES = (
    "correctness/limit/large",
    "correctness/edge",
    "correctness/window",
    "concurrency/processes/fleet",
    "resilience/ttl/long-enough",
    "resilience/clock/clients",
    "resilience/clock/server-back",
    "resilience/clock/server-forward",
)
"""The cases that fail if a window is not exact. No peer intends to let more than twice the limit through."""

_OVER = r"units were allowed|was allowed; with \d+ in any"

MOVING = (
    'Promises an exact window: a request is allowed if the Nth last one is "at least 60 seconds old" (its README, on a '
    "limit per minute)."
)
COST = "Its wait needs a second call, which takes no cost."
FIXED = Meant(
    'Its README: "Burst traffic that bypasses the rate limit may occur at window boundaries".',
    _EDGES,
    _OVER,
)
FIXED_SERVICE = Meant(  # its window is so short that a rush may cross an edge of it
    FIXED.why, (*_EDGES, "concurrency"), _OVER
)
COUNTS_ALL = Meant(
    'Its README: "All requests in that window increment the counter", which includes denied ones.',
    ("correctness/cost/counted", "correctness/cost/denied-free", "correctness/cost/above-limit"),
    "was denied",
)
COUNTER = Meant(
    'Its README: "approximates the moving window while using less memory". It errs in both directions.',
    (*_EDGES, "correctness/rate", "correctness/denied/free"),
)
FADED = Meant(
    "Its documentation (docs/basic, 2.2.4) calls it a compromise. It assumes that the requests of the previous window "
    "are evenly spread, and is wrong if they are not. It errs in both directions.",
    (*_EDGES, "correctness/rate", "correctness/denied/free"),
)
_ESTIMATED = (
    *_EDGES,
    "correctness/cost/model",
    "correctness/cost/random",
    "correctness/denied/free",
    "correctness/keys/sprayed",
    "correctness/rate",
    "concurrency/wait/timeout",
    "honesty/peek/true",
    "honesty/remaining/true",
)
"""The cases that fail if the count of the window is estimated."""

_MISCOUNT = rf"{_OVER}|was denied|would be denied|to remain"

ESTIMATE = Meant(
    'Its documentation (concepts/algorithms): "Estimates the count in the current window by combining the previous and '
    'current window counts with a weighted formula". It errs in both directions.',
    _ESTIMATED,
    _MISCOUNT,
)
ASSUMES = Meant(
    'Its README calls it approximate: "it assumes the previous window\'s traffic was evenly spread". It errs in both '
    "directions.",
    _ESTIMATED,
    _MISCOUNT,
)
HINT = Meant(
    'Its source says of `retry_after`: "A hint, not a promise".',
    ("honesty/wait",),
    "reported wait",
)
SUB_WINDOWS = Meant(
    'Its release notes (0.5.0) call fewer sub-windows a "coarser approximation". Here each is a tenth of the window.',
    (*_EDGES, "correctness/cost/model", "correctness/cost/random", "honesty/remaining/true"),
    rf"{_OVER}|to remain",
)
BUCKET = Meant(
    "A bucket allows its burst and the units that come back meanwhile: more than N in a window is by design.",
    _EDGES,
    _OVER,
)
LOCK = Meant(
    "It also returns False while another thread holds the limiter's only lock, for any key: \"This is intentional, to "
    'align with the Python threading.Lock behavior" (vutran1710/PyrateLimiter#234).',
    (
        "correctness/edge/before",
        "correctness/edge/after",
        "correctness/window/random",
        "correctness/denied/free",
        "correctness/keys/apart",
        "correctness/rate/steady",
        "concurrency",
    ),
    "was denied though",
)
LEAKS = Meant(
    'Its README: expired items are dropped "in the background (default interval **10 s**)".',
    ("performance/memory/requests",),
)
KEEPS = Meant(
    "The factory in its README, which the adapter follows, keeps every bucket that it has made.",
    ("performance/memory/idle-keys",),
)
TIMER = (
    "Its `MemoryStorage` starts its timer, and drops a key's lock, without holding a lock. The kit makes Python switch "
    "threads every 10 µs; at the default of 5 ms, 16 threads raised no RuntimeError in four million calls."
)
LRU = "Holds 1024 keys by default, and drops the one that was unused for longest."

PEERS = (
    *_both(
        "drogue",
        "sliding_window",
        "sliding window counter, asyncio",
        "Promises no exact window, and counts by the host's monotonic clock.",
        ESTIMATE,
        redis='For one host only: see its README, under "Known Limitations".',
    ),
    Peer(
        "fastapi-limiter-readme",
        "fastapi-limiter",
        "sliding window log, of PyrateLimiter",
        "memory",
        FASTAPI_LIMITER,
        "As in its README: one bucket for all users, whatever the `identifier` returns.",
        settings={**IN_MEMORY, "PEER_FORM": "readme"},
    ),
    Peer(
        "fastapi-limiter-memory",
        "fastapi-limiter",
        "sliding window log, of PyrateLimiter",
        "memory",
        FASTAPI_LIMITER,
        "A bucket for each user, by the factory in PyrateLimiter's README. Its 429 has no `Retry-After`.",
        settings=IN_MEMORY,
    ),
    Peer(
        "fastapi-limiter-redis",
        "fastapi-limiter",
        "sliding window log, of PyrateLimiter",
        "redis",
        FASTAPI_LIMITER,
        "The same, with redis-py's asynchronous client.",
        settings=ON_REDIS,
    ),
    Peer(
        "halt-rate-sliding-window-memory",
        "halt-rate",
        "sliding window of ten sub-windows",
        "memory",
        f"{ADAPTERS['halt-rate']}:sliding_window_memory",
        "Promises no exact window. Ten is its default. It gets the state and sets it in two steps, without a lock.",
        (SUB_WINDOWS,),
    ),
    Peer(
        "halt-rate-sliding-window-redis",
        "halt-rate",
        "sliding window log",
        "redis",
        f"{ADAPTERS['halt-rate']}:sliding_window_redis",
        "It counts by the server's clock. By default it allows every request while Redis is down (`fail_mode`).",
    ),
    Peer(
        "sluicegate-memory",
        "sluicegate",
        "sliding window log",
        "memory",
        "sluicegate_adapter.py:memory",
        "Promises an exact window.",
    ),
    Peer(
        "sluicegate-redis",
        "sluicegate",
        "sliding window log",
        "redis",
        "sluicegate_adapter.py:redis",
        "Promises an exact window, by the server's clock.",
    ),
    Peer(
        "sluicegate-aio-redis",
        "sluicegate",
        "sliding window log, asyncio",
        "redis",
        "sluicegate_adapter.py:aio_redis",
        "The same, with redis-py's asynchronous client.",
    ),
    Peer(
        "sluicegate-service-redis",
        "sluicegate",
        "sliding window log",
        "redis",
        "app.main:app",
        "The service of this repository, over HTTP.",
        settings={
            "RATE_LIMIT_BACKEND": "redis",
            "REDIS_URL": "{redis_url}",
            "RATE_LIMIT_REQUESTS": "{limit}",
            "RATE_LIMIT_WINDOW_SECONDS": "{window}",
        },
        folder=ROOT,
    ),
    *_both(
        "limits",
        "moving_window",
        "moving window",
        f"{MOVING} {COST}",
        memory=TIMER,
        redis="It counts by the client's clock.",
    ),
    Peer(
        "limits-moving-window-aio-redis",
        "limits",
        "moving window, asyncio",
        "redis",
        f"{ADAPTERS['limits']}:moving_window_aio_redis",
        f"{MOVING} {COST} It counts by the client's clock; with coredis, its default client.",
        client="coredis",
    ),
    *_both(
        "limits",
        "sliding_window_counter",
        "sliding window counter",
        f"Promises no exact window. {COST}",
        COUNTER,
        memory=TIMER,
    ),
    *_both(
        "limits",
        "fixed_window",
        "fixed window (default)",
        f"Promises no exact window. {COST}",
        FIXED,
        COUNTS_ALL,
        memory=TIMER,
    ),
    *_both(
        "pyrate-limiter",
        "log",
        "sliding window log (default)",
        'Promises an exact window: "Never allows a burst above `limit` in any rolling `interval`" (its README).',
        LOCK,
        LEAKS,
        KEEPS,
        redis="It counts by the client's clock.",
    ),
    *_both(
        "pyrate-limiter",
        "gcra",
        "GCRA, or token bucket",
        "Promises no exact window.",
        BUCKET,
        LOCK,
        KEEPS,
        redis="It counts by the client's clock.",
    ),
    Peer(
        "redlimit-sliding-window-redis",
        "redlimit",
        "sliding window counter, asyncio",
        "redis",
        f"{ADAPTERS['redlimit']}:sliding_window_redis",
        "Promises no exact window, and counts by the server's clock. It has no store in memory.",
        (ASSUMES, HINT),
    ),
    Peer(
        "slowapi-memory",
        "slowapi",
        "fixed window (default), of limits",
        "memory",
        SLOWAPI,
        "With `headers_enabled`, which is off by default: without it there is no `Retry-After`.",
        (FIXED_SERVICE,),
        settings=IN_MEMORY,
    ),
    Peer(
        "slowapi-redis",
        "slowapi",
        "fixed window (default), of limits",
        "redis",
        SLOWAPI,
        "The same. Its Redis client is synchronous, even in asynchronous routes.",
        (FIXED_SERVICE,),
        settings=ON_REDIS,
    ),
    Peer(
        "slowapi-moving-window-redis",
        "slowapi",
        "moving window, of limits",
        "redis",
        SLOWAPI,
        "The same, with the strictest of its strategies.",
        settings={**ON_REDIS, "PEER_STRATEGY": "moving-window"},
    ),
    *_both(
        "throttled-py",
        "token_bucket",
        "token bucket (default)",
        "Promises no exact window.",
        BUCKET,
        memory=LRU,
    ),
    *_both(
        "throttled-py",
        "sliding_window",
        "sliding window",
        "Two counters, the previous one faded.",
        FADED,
        memory=LRU,
        redis="It counts by the client's clock.",
    ),
    *_both("throttled-py", "gcra", "GCRA", "Promises no exact window.", BUCKET, memory=LRU),
    *_both(
        "traffik",
        "sliding_window_log",
        "sliding window log, asyncio",
        'Promises an exact window: "Always enforces exact rate in any time window" (its docstring).',
        redis="It counts by the client's clock, under a lock on Redis. By default the lock never expires; its "
        "documentation says to set `lock_ttl`.",
    ),
)


if __name__ == "__main__":
    for peer in PEERS:
        print(f"{peer.name:38} {peer.package}: {peer.algorithm}; {peer.store}. {peer.note}")
