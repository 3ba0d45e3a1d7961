"""The peers and Headgate, one row for each way to use one: what the proof kit grades, and how it is started.

    .venv/bin/python benchmarks/peers/table.py    prints the rows

The peers have an environment of their own, for what they declare of redis-py keeps them from Headgate's.
aiolimiter is not here: it limits one thing for each instance and knows no keys.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PYTHON = ROOT / ".venv-peers" / "bin" / "python"


@dataclass(frozen=True, slots=True)
class Peer:
    """One way to use one package.

    Attributes:
        name: Of this row, unique; good for a file name.
        package: As PyPI spells it.
        algorithm: As the package's own documentation calls it.
        store: Where it counts.
        target: ``file.py:name`` for the kit, in this folder; or ``module:app`` of a service, for uvicorn.
        note: What to know before its verdicts are read, in a line.
        step: Windows are whole multiples of this, seconds; an adapter raises ValueError for others.
        settings: Of a service, beside its limit and window.
    """

    name: str
    package: str
    algorithm: str
    store: Literal["memory", "redis"]
    target: str
    note: str
    step: float = WHOLE_SECONDS
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_service(self) -> bool:
        """Whether it is graded over HTTP."""
        return self.target.endswith(":app")

    @property
    def spec(self) -> str:
        """What ``headgate grade`` is given; for a service that is its URL, see `url`."""
        return str(HERE / self.target)

    @property
    def version(self) -> str:
        """The version installed."""
        return version(self.package)

    def command(self, port: int) -> list[str]:
        """Return what starts the service on a port of loopback."""
        assert self.is_service
        uvicorn = [sys.executable, "-m", "uvicorn", "--app-dir", str(HERE), "--log-level", "warning", "--no-access-log"]
        return [*uvicorn, "--host", "127.0.0.1", "--port", str(port), self.target]

    def environment(self, limit: int, window_seconds: float, redis_url: str) -> dict[str, str]:
        """Return what the service reads from the environment, beside what is there already."""
        assert self.is_service
        store = {"PEER_REDIS_URL": redis_url} if self.store == "redis" else {}
        return {"PEER_LIMIT": str(limit), "PEER_WINDOW": str(window_seconds), **store, **self.settings}


def url(port: int) -> str:
    """Return the URL of a service for ``headgate grade --http``."""
    return f"http://127.0.0.1:{port}/ping?user_id={{key}}"


def _both(
    package: str,
    function: str,
    algorithm: str,
    note: str,
    *,
    memory: str = "",
    redis: str = "",
    step: float = WHOLE_SECONDS,
) -> tuple[Peer, Peer]:
    """Return the rows of a package's adapter that has one form in memory and one on Redis."""
    name, target = f"{package}-{function.replace('_', '-')}", f"{ADAPTERS[package]}:{function}"
    return (
        Peer(f"{name}-memory", package, algorithm, "memory", f"{target}_memory", f"{note} {memory}".strip(), step),
        Peer(f"{name}-redis", package, algorithm, "redis", f"{target}_redis", f"{note} {redis}".strip(), step),
    )


ADAPTERS = {
    "limits": "limits_adapter.py",
    "pyrate-limiter": "pyrate_limiter_adapter.py",
    "throttled-py": "throttled_adapter.py",
}
SLOWAPI, FASTAPI_LIMITER = "slowapi_service:app", "fastapi_limiter_service:app"

EXACT = 'Its README: "Never allows a burst above `limit` in any rolling `interval`".'
APPROXIMATE = 'Its README: "approximates the moving window while using less memory".'
EDGE = 'Its README: "Burst traffic that bypasses the rate limit may occur at window boundaries".'
BURST = "A full burst and what comes back meanwhile: more than N in a window is in the nature of it."
LOCK = "Denies, too, while another thread holds the limiter's lock; meant so (vutran1710/PyrateLimiter#234)."
LRU = "Holds 1024 keys by default, and drops the one unused for longest."

PEERS = (
    *_both("limits", "moving_window", "moving window", "An exact log.", redis="By the client's clock."),
    Peer(
        "limits-moving-window-aio-redis",
        "limits",
        "moving window, asyncio",
        "redis",
        f"{ADAPTERS['limits']}:moving_window_aio_redis",
        "The same scripts, with redis-py's asynchronous client.",
    ),
    *_both("limits", "sliding_window_counter", "sliding window counter", APPROXIMATE),
    *_both("limits", "fixed_window", "fixed window", EDGE),
    *_both("pyrate-limiter", "log", "sliding window log (default)", f"{EXACT} {LOCK}", step=WHOLE_MILLISECONDS),
    *_both("pyrate-limiter", "gcra", "GCRA, or token bucket", f"{BURST} {LOCK}", step=WHOLE_MILLISECONDS),
    *_both("throttled-py", "token_bucket", "token bucket (default)", BURST, memory=LRU),
    *_both("throttled-py", "sliding_window", "sliding window", "Two counters, the previous one faded.", memory=LRU),
    *_both("throttled-py", "gcra", "GCRA", BURST, memory=LRU),
    Peer(
        "slowapi-memory",
        "slowapi",
        "fixed window (default), of limits",
        "memory",
        SLOWAPI,
        "With headers_enabled, which is off by default: there is no Retry-After then.",
    ),
    Peer(
        "slowapi-redis",
        "slowapi",
        "fixed window (default), of limits",
        "redis",
        SLOWAPI,
        "The same. Its client of Redis is synchronous, in asynchronous routes, too.",
    ),
    Peer(
        "slowapi-moving-window-redis",
        "slowapi",
        "moving window, of limits",
        "redis",
        SLOWAPI,
        "The same, with the strictest of its strategies.",
        settings={"PEER_STRATEGY": "moving-window"},
    ),
    Peer(
        "fastapi-limiter-readme",
        "fastapi-limiter",
        "sliding window log, of PyrateLimiter",
        "memory",
        FASTAPI_LIMITER,
        "As its README has it: one bucket for all users, whatever the identifier says.",
        WHOLE_MILLISECONDS,
        {"PEER_FORM": "readme"},
    ),
    Peer(
        "fastapi-limiter-memory",
        "fastapi-limiter",
        "sliding window log, of PyrateLimiter",
        "memory",
        FASTAPI_LIMITER,
        "A bucket for each user, by the factory of PyrateLimiter's README. Its 429 has no Retry-After.",
        WHOLE_MILLISECONDS,
    ),
    Peer(
        "fastapi-limiter-redis",
        "fastapi-limiter",
        "sliding window log, of PyrateLimiter",
        "redis",
        FASTAPI_LIMITER,
        "The same, with redis-py's asynchronous client.",
        WHOLE_MILLISECONDS,
    ),
)


if __name__ == "__main__":
    for peer in PEERS:
        print(f"{peer.name:38} {peer.package} {peer.version}: {peer.algorithm}; {peer.store}. {peer.note}")
