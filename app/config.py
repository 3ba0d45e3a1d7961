"""The settings of the service, from environment variables, and the messages for invalid ones."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode

from sluicegate import InvalidRate, InvalidStore, SlidingWindow, open_store, parse_rates

ENDPOINTS = {"/ping": "ping"}
"""The limited endpoints: the path of each, and the name that its policies carry in theirs."""

# A server with several workers restarts a dead worker for ever, unless it exits with this code: uvicorn's
# STARTUP_FAILURE, gunicorn's WORKER_BOOT_ERROR.
CANNOT_START = 3

MAX_UNITS = 10**11  # what a policy takes
MAX_WINDOW_SECONDS = 10 * 366 * 24 * 3600

MAX_DEADLINE_SECONDS = 3600
MAX_DRAIN_SECONDS = 3600

_LONGEST_SHOWN = 120
_SCHEME = r"[A-Za-z][A-Za-z0-9+.-]*://"
_URL = re.compile(rf"({_SCHEME})?([^@/?#\s]*@)?([\w.-]*|\[[\w:.]+\])(:\d+)?(/[\w./-]*)?(\?[^@]*)?")


class _Expected(ValueError):
    """An invalid setting whose message says more than the description of the setting."""


class Settings(BaseSettings):
    """The settings of the service. Each is an environment variable; its description says which values are valid."""

    rate_limit_backend: Literal["memory", "redis"] = Field(default="memory", description="memory or redis")
    redis_url: str = Field(
        default="redis://localhost:6379/0",
        repr=False,  # it may hold a password
        description="a URL such as redis://user:password@localhost:6379/0 (or rediss://, unix://, valkey://), "
        "with special characters percent-encoded",
    )
    rate_limit_requests: int = Field(
        default=10, ge=1, le=MAX_UNITS, description=f"a whole number from 1 to {MAX_UNITS}"
    )
    rate_limit_window_seconds: float = Field(
        default=60, description=f"a number of seconds from 0.000001 to {MAX_WINDOW_SECONDS} (ten years)"
    )
    rate_limit_global: str | None = Field(
        default=None, description="a rate such as 1000/minute or 1000/minute;50/s; empty or not set for no limit"
    )
    rate_limit_endpoints: Annotated[dict[str, str], NoDecode] = Field(
        default={},
        description='a JSON object from paths to rates, such as {"/ping": "5/s;100/hour"}, '
        f"where a path is one of {', '.join(ENDPOINTS)}",
    )
    rate_limit_enabled: bool = Field(default=True, description="true or false")
    rate_limit_on_outage: Literal["local", "open", "closed", "raise"] = Field(
        default="local", description="local, open, closed or raise"
    )
    rate_limit_deadline_seconds: float = Field(
        default=0.1, gt=0, le=MAX_DEADLINE_SECONDS, description="a number of seconds above 0, at most 3600"
    )
    drain_delay_seconds: float = Field(
        default=0, ge=0, le=MAX_DRAIN_SECONDS, description="a number of seconds from 0 to 3600"
    )
    drain_grace_seconds: float = Field(
        default=5, ge=0, le=MAX_DRAIN_SECONDS, description="a number of seconds from 0 to 3600"
    )

    @field_validator(
        "rate_limit_requests",
        "rate_limit_window_seconds",
        "rate_limit_deadline_seconds",
        "drain_delay_seconds",
        "drain_grace_seconds",
        mode="before",
    )
    @classmethod
    def _no_bool(cls, value: object) -> object:
        if isinstance(value, bool):
            raise ValueError("a bool is not a number")  # noqa: TRY004 - pydantic reports a ValueError, not a TypeError
        return value

    @field_validator("rate_limit_window_seconds")
    @classmethod
    def _is_a_window(cls, seconds: float) -> float:
        return SlidingWindow(1, window=seconds).window

    @field_validator("redis_url")
    @classmethod
    def _can_be_read(cls, url: str, info: ValidationInfo) -> str:
        if info.data.get("rate_limit_backend") == "redis":
            if url.startswith("memory:"):
                raise ValueError("memory: belongs to the other backend")
            open_store(url).close()  # no connection is made before the first call
        return url

    @field_validator("rate_limit_global")
    @classmethod
    def _is_a_rate(cls, text: str | None) -> str | None:
        if not text:  # docker compose passes an empty text for a variable that is not set: ${RATE_LIMIT_GLOBAL:-}
            return None
        _check_rate(text)
        return text

    @field_validator("rate_limit_endpoints", mode="before")
    @classmethod
    def _are_rates(cls, given: object) -> object:
        rates = _object(given or "{}") if isinstance(given, str) else given
        if not isinstance(rates, dict):
            raise ValueError("not an object")  # noqa: TRY004 - pydantic reports a ValueError, not a TypeError
        for path, text in rates.items():
            if path not in ENDPOINTS:
                raise _Expected(f"expected one of the limited endpoints, {', '.join(ENDPOINTS)}, got {path!r:.60}")
            _check_rate(text, f"{path}: ")
        return rates

    @property
    def policy(self) -> SlidingWindow:
        """The policy of each user over all limited endpoints."""
        limit, window = self.rate_limit_requests, self.rate_limit_window_seconds
        # Named, though as it would be anyway: each endpoint has a limiter, and they share this counter on purpose.
        return SlidingWindow(limit, window=window, name=str(SlidingWindow(limit, window=window).name))

    @property
    def global_policies(self) -> tuple[SlidingWindow, ...]:
        """The policies of all users together over all limited endpoints."""
        return parse_rates(self.rate_limit_global, stem="global", shared=True) if self.rate_limit_global else ()

    def endpoint_policies(self, path: str) -> tuple[SlidingWindow, ...]:
        """Return the policies of each user on one endpoint. Their names begin with the name of the endpoint."""
        rate = self.rate_limit_endpoints.get(path)
        return parse_rates(rate, stem=f"endpoint-{ENDPOINTS[path]}") if rate else ()

    def policies(self, path: str) -> tuple[SlidingWindow, ...]:
        """Return all policies that a request to a limited endpoint has to pass."""
        return (self.policy, *self.global_policies, *self.endpoint_policies(path))

    @property
    def store(self) -> str | None:
        """The URL of the server that counts, or None for the memory of this process."""
        return self.redis_url if self.rate_limit_backend == "redis" else None


def load() -> Settings:
    """Read the settings from the environment.

    Raises:
        SystemExit: A setting is invalid. Each has a line on stderr: the variable, its value, what is expected.
    """
    try:
        return Settings()
    except ValidationError as error:
        print("\n".join(complaints(error)), file=sys.stderr)  # noqa: T201 - logging is not set up yet
        raise SystemExit(CANNOT_START) from None  # a traceback would show passwords


_LIKE_ONE = re.compile("RATE_?LIMIT|DRAIN_", re.IGNORECASE)


def strangers(names: Iterable[str]) -> list[str]:
    """Return the variables that look like settings but are not: a misspelt limit has no effect."""
    return [name for name in names if _LIKE_ONE.match(name) and name.lower() not in Settings.model_fields]


def complaints(error: ValidationError) -> list[str]:
    """Return a line for each invalid setting. Passwords in URLs are masked."""
    return [
        _complaint(str(one["loc"][0]), str(one["input"]), one.get("ctx", {}).get("error")) for one in error.errors()
    ]


def _complaint(name: str, value: str, error: Exception | None) -> str:
    # For any variable: a URL may be in the wrong one.
    secret = name == "redis_url" or "@" in value or "://" in value
    shown = masked(value) if secret else value
    if len(shown) > _LONGEST_SHOWN:
        shown = f"{shown[:_LONGEST_SHOWN]}..."
    detailed = isinstance(error, _Expected) and not secret  # such an error quotes a part of the value
    expected = error if detailed else f"expected {Settings.model_fields[name].description}"
    reason = f": {error}" if isinstance(error, InvalidStore) else ""  # it quotes no part of a URL
    return f"{name.upper()}={shown!r}: {expected}{reason}"


def _check_rate(text: object, where: str = "") -> None:
    try:
        parse_rates(text)  # type: ignore[arg-type] # it rejects anything but text
    except InvalidRate as error:
        raise _Expected(f"{where}{str(error).splitlines()[0]}") from None


def _object(text: str) -> object:
    try:
        return json.loads(text, object_pairs_hook=_each_once)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _each_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len(dict(pairs)) < len(pairs):
        raise _Expected("expected each path once")
    return dict(pairs)


def masked(url: str) -> str:
    """Return ``url`` without its user part and options, which may be secret, or only its scheme if it is unclear."""
    match = _URL.fullmatch(url)
    if match is None:
        # Perhaps a password with a bare "/", "?", "#" or "@" in it: nobody can tell where it begins and ends.
        begins = re.match(_SCHEME, url)
        return f"{begins[0] if begins else ''}***"
    scheme, user, host, port, path, options = match.groups(default="")
    return f"{scheme}{'***@' if user else ''}{host}{port}{path}{'?***' if options else ''}"
