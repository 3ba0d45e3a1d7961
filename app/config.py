"""Settings from the environment, and what a bad one prints."""

from __future__ import annotations

import re
import sys
from typing import Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings

from headgate import Limiter, SlidingWindow
from headgate.policy import MAX_UNITS, MAX_WINDOW_US

# Servers that run several workers start a dead one again for ever, unless it ends with this: uvicorn's
# STARTUP_FAILURE, gunicorn's WORKER_BOOT_ERROR.
CANNOT_START = 3

_LONGEST_SHOWN = 120
_SCHEME = r"[A-Za-z][A-Za-z0-9+.-]*://"
_URL = re.compile(rf"({_SCHEME})?([^@/?#\s]*@)?([\w.-]*|\[[\w:.]+\])(:\d+)?(/[\w./-]*)?(\?[^@]*)?")


class Settings(BaseSettings):
    """The settings of the service. Each is the environment variable of its name; its description says what is valid."""

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
        default=60, description=f"a number of seconds from 0.000001 to {MAX_WINDOW_US // 1_000_000} (ten years)"
    )

    @field_validator("rate_limit_requests", "rate_limit_window_seconds", mode="before")
    @classmethod
    def _no_bool(cls, value: object) -> object:
        if isinstance(value, bool):
            raise ValueError("a bool is no number")  # noqa: TRY004 - pydantic reports a ValueError, not a TypeError
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
                raise ValueError("that is the other backend")
            Limiter(SlidingWindow(1, window=1), store=url).close()  # no connection is made before the first call
        return url

    @property
    def policy(self) -> SlidingWindow:
        """The policy that each user is held to."""
        return SlidingWindow(self.rate_limit_requests, window=self.rate_limit_window_seconds)

    @property
    def store(self) -> str | None:
        """Where it is counted: the URL of a server, or None for this process's memory."""
        return self.redis_url if self.rate_limit_backend == "redis" else None


def load() -> Settings:
    """Read the settings from the environment.

    Raises:
        SystemExit: A setting is bad. Each was named in a line on stderr: the variable, its value, what is expected.
    """
    try:
        return Settings()
    except ValidationError as error:
        print("\n".join(complaints(error)), file=sys.stderr)  # noqa: T201 - logging is not set up yet
        raise SystemExit(CANNOT_START) from None  # a traceback would show passwords


def complaints(error: ValidationError) -> list[str]:
    """Return a line for each bad setting. Passwords in URLs are masked."""
    return [_complaint(str(one["loc"][0]), str(one["input"])) for one in error.errors()]


def _complaint(name: str, value: str) -> str:
    # Any of them: a URL may have been given to the wrong variable.
    shown = masked(value) if name == "redis_url" or "@" in value else value
    if len(shown) > _LONGEST_SHOWN:
        shown = f"{shown[:_LONGEST_SHOWN]}..."
    return f"{name.upper()}={shown!r}: expected {Settings.model_fields[name].description}"


def masked(url: str) -> str:
    """Return ``url`` without what may be a secret: its user part, its options, and all of it if it is not clear."""
    match = _URL.fullmatch(url)
    if match is None:
        # Perhaps a password with a bare "/", "?", "#" or "@" in it: where it begins and ends cannot be told.
        begins = re.match(_SCHEME, url)
        return f"{begins[0] if begins else ''}***"
    scheme, user, host, port, path, options = match.groups(default="")
    return f"{scheme}{'***@' if user else ''}{host}{port}{path}{'?***' if options else ''}"
