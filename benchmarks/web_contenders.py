"""The apps that the benchmarks of the web layer compare: unlimited ones, Sluicegate's and its peers'.

The apps are in `web_apps`. The peers have an environment of their own; `web_apps/requirements.txt` says how to make it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

APPS = Path(__file__).resolve().parent / "web_apps"
PEERS_PYTHON = APPS.parent.parent / ".venv-web-peers" / "bin" / "python"

STACK = ("fastapi", "starlette", "pydantic", "anyio", "uvicorn", "uvloop", "httptools")
PEERS = ("slowapi", "fastapi-limiter", "traffik", "limits", "pyrate-limiter", "redis")


@dataclass(frozen=True, slots=True)
class App:
    """One way to limit an app, or an app without a limit.

    Attributes:
        name: The name of its row.
        factory: ``module:function`` in `web_apps`.
        policies: How many policies decide a request.
        routes: How many routes it has.
        on_redis: Whether it can count on Redis, too.
    """

    name: str
    factory: str
    policies: int = 1
    routes: int = 1
    on_redis: bool = True

    @property
    def is_a_floor(self) -> bool:
        """Whether it has no limit."""
        return self.factory.startswith("floors:")

    @property
    def is_a_peer(self) -> bool:
        """Whether its limiter is not Sluicegate."""
        return not self.factory.startswith(("floors:", "ours:"))

    @property
    def python(self) -> str:
        """The interpreter of the environment that its limiter is installed in."""
        return str(PEERS_PYTHON) if self.is_a_peer else sys.executable

    def environment(self, redis_url: str | None = None, limit: int = 10**9) -> dict[str, str]:
        """Return its settings, as environment variables."""
        settings = {"WEB_POLICIES": str(self.policies), "WEB_ROUTES": str(self.routes), "WEB_LIMIT": str(limit)}
        return settings | ({"WEB_REDIS_URL": redis_url} if redis_url else {})

    def sized(self, *, policies: int = 1, routes: int = 1) -> App:
        """Return the same with so many policies and routes."""
        return replace(self, policies=policies, routes=routes)


BARE = App("the bare app", "floors:bare")
EMPTY = App("an empty dependency", "floors:empty_dependency")
FIELDS = App("the same two fields each time, no limit", "floors:constant_fields")
KEY = App("the key's dependency alone", "floors:key_dependency")
MIDDLEWARE = App("sluicegate, `limits.Middleware`", "ours:middleware")
ASGI = App("sluicegate, `RateLimitMiddleware`", "ours:asgi_middleware")
DEPENDENCY = App("sluicegate, `limits.limit`, by a dependency", "ours:dependency")
HEADER = App("sluicegate, `limits.limit`, by `header`", "ours:header_key")
DEFAULT = App("sluicegate, `Depends(limits)`, by address", "ours:default")

SLOWAPI_MIDDLEWARE = App("slowapi, `SlowAPIMiddleware`, by address, no fields", "slowapi_apps:middleware_documented")
SLOWAPI_DECORATOR = App("slowapi, decorator, by address, no fields", "slowapi_apps:decorator_documented")
FASTAPI_LIMITER = App("fastapi-limiter, a bucket for each user, no fields", "fastapi_limiter_apps:nearest")
TRAFFIK_DEPENDENCY = App("traffik, dependency, by address, no fields", "traffik_apps:documented")
TRAFFIK_MIDDLEWARE = App("traffik, middleware, by address, no fields", "traffik_apps:middleware")

MIDDLEWARES = (
    BARE,
    FIELDS,
    MIDDLEWARE,
    ASGI,
    SLOWAPI_MIDDLEWARE,
    App("slowapi, `SlowAPIASGIMiddleware`, moving window, by user, fields", "slowapi_apps:middleware_nearest"),
    TRAFFIK_MIDDLEWARE,
)
DEPENDENCIES = (
    EMPTY,
    KEY,
    DEPENDENCY,
    HEADER,
    DEFAULT,
    SLOWAPI_DECORATOR,
    App("slowapi, decorator, moving window, by user, fields", "slowapi_apps:decorator_nearest"),
    App("fastapi-limiter, as in its README: one bucket, no fields", "fastapi_limiter_apps:documented", on_redis=False),
    FASTAPI_LIMITER,
    TRAFFIK_DEPENDENCY,
    App("traffik, dependency, exact window, by user, no fields", "traffik_apps:nearest"),
)
PARTS = (
    App("sluicegate, `limits.Middleware`, switched off", "ours:middleware_switched_off"),
    App("sluicegate, `limits.Middleware`, without fields", "ours:middleware_without_fields"),
)


def runnable(apps: Iterable[App]) -> list[App]:
    """Leave the peers out where their environment is missing. Ends the run where it has another web stack."""
    if not PEERS_PYTHON.exists():
        return [app for app in apps if not app.is_a_peer]
    theirs = installed(str(PEERS_PYTHON), STACK)
    ours = installed(sys.executable, STACK)
    if theirs != ours:
        sys.exit(f"one bare app cannot be the floor of two web stacks: here {ours}, in {PEERS_PYTHON} {theirs}")
    return list(apps)


def installed(python: str, packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of those packages that are installed in an environment."""
    code = (
        "import json, sys; from importlib.metadata import distributions; "
        "print(json.dumps({d.metadata['Name'].lower(): d.version for d in distributions()}))"
    )
    found = json.loads(subprocess.run([python, "-c", code], capture_output=True, check=True, text=True).stdout)
    return {name: found[name] for name in packages if name in found}
