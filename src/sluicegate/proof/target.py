"""`Target`: the limiter to grade. A class or factory in a file or a module, or a service over HTTP."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sluicegate.proof.worker.template import KEY, content_type, is_json

_OTHER_SOURCES = {".c", ".cjs", ".cpp", ".cs", ".go", ".java", ".js", ".kt", ".mjs", ".php", ".rb", ".rs", ".ts"}

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_SECRET = re.compile(r"auth|cookie|key|token|secret|session|password|credential|signature", re.IGNORECASE)
_SET_BY_KIT = {"content-length", "transfer-encoding", "connection", "host"}

EXPECTED = "file.py:Name, package.module:name, or --http 'http://host:port/path?user_id={key}'"


class InvalidTarget(ValueError):
    """The target cannot be graded: the file does not exist, or the text is not in one of the accepted forms."""


@dataclass(frozen=True, slots=True)
class Target:
    """A limiter to grade.

    Attributes:
        name: The text that the user gave, for the report. It holds no secrets.
        where: How a worker loads it: ``file`` or ``module`` with ``name``, or ``url`` and what else a request has.
        serve: The command that starts the service, with placeholders; empty if it is running, or no service.
    """

    name: str
    where: Mapping[str, Any]
    serve: str = ""

    @property
    def is_service(self) -> bool:
        return "url" in self.where

    @property
    def takes_redis(self) -> bool:
        """Whether the kit starts the service, with a Redis URL."""
        return "{redis}" in self.serve

    @property
    def takes_limit(self) -> bool:
        """Whether the kit starts the service, with a limit and a window of its choice."""
        return "{limit}" in self.serve and "{window}" in self.serve

    @property
    def file(self) -> Path | None:
        """The file that the target is in; None for a module or a service."""
        return Path(self.where["file"]) if "file" in self.where else None


def parse(text: str) -> Target:
    """Parse ``file.py:Name`` or ``module:name``.

    Raises:
        InvalidTarget: The text is neither, or the file does not exist.
    """
    place, colon, name = text.rpartition(":")
    if _is_other_file(place or text):
        raise InvalidTarget(
            f"{(place or text)!r} is not a Python file: grade its service with --http, or record a history and judge it"
        )
    if not colon or not name.isidentifier():
        raise InvalidTarget(f"target must be {EXPECTED}, got {text!r}")
    if place.endswith(".py"):
        path = Path(place)
        if not path.is_file():
            raise InvalidTarget(f"target must be {EXPECTED}, got {text!r}: the file {place} does not exist")
        return Target(text, {"file": str(path.resolve()), "name": name})
    if not all(part.isidentifier() for part in place.split(".")):
        raise InvalidTarget(f"target must be {EXPECTED}, got {text!r}")
    return Target(text, {"module": place, "name": name})


def _is_other_file(place: str) -> bool:
    path = Path(place)
    if path.suffix in ("", ".py") or "://" in place:
        return False
    return path.suffix in _OTHER_SOURCES or "/" in place or path.is_file()


def service(
    url: str, *, method: str | None = None, headers: Sequence[str] = (), body: str | None = None, serve: str = ""
) -> Target:
    """Parse a service: its URL, and what else a request has, with ``{key}`` in the place of the key.

    Args:
        url: An http or https URL; with ``serve`` its port is ``{port}``.
        method: The method; GET by default, or POST if there is a body.
        headers: Each ``Name: value``.
        body: The body. It is JSON, unless a Content-Type among the headers names another type.
        serve: The command that starts the service, with ``{port}``.

    Raises:
        InvalidTarget: One of them is invalid, or none has ``{key}``.
    """
    if ("{port}" in serve) is not bool(serve) or ("{port}" in url) is not bool(serve):
        raise InvalidTarget(
            "the command of --serve and the URL of --http must both contain {port}, such as "
            "--serve 'python app.py --port {port}' --http 'http://127.0.0.1:{port}/ping?user_id={key}'"
        )
    _check_url(url)
    where: dict[str, Any] = {"url": url, "headers": [_header(number, text) for number, text in enumerate(headers, 1)]}
    if method is not None:
        if not method.isascii() or not method.isalpha():
            raise InvalidTarget(f"--method must be a method of HTTP, such as POST, got {method!r}")
        where["method"] = method.upper()
    if body is not None:
        where["body"] = body
        _check_body(body, content_type(where["headers"]))
    if KEY not in url and KEY not in (body or "") and not any(KEY in value for _, value in where["headers"]):
        raise InvalidTarget(
            f"{KEY} must stand for the key in the URL of --http, in a --header or in the --body, such as "
            f"--http 'http://127.0.0.1:8000/ping?user_id={KEY}', got {url!r}"
        )
    shown = [f"{name}: {'***' if _SECRET.search(name) else value}" for name, value in where["headers"]]
    verb = where.get("method") or ("GET" if body is None else "POST")
    return Target(" ".join([*([] if verb == "GET" else [verb]), url, *shown]), where, serve)


def at_port(target: Target, port: int) -> Target:
    """Return a service that the kit has started as a running one."""
    url = target.where["url"].replace("{port}", str(port))
    return replace(target, where={**target.where, "url": url}, serve="")


def _check_url(url: str) -> None:
    plain = url.replace("{port}", "1")
    try:
        parts = urlsplit(plain)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable or (KEY in url and KEY not in f"{parts.path}?{parts.query}") or KEY in parts.netloc + parts.fragment:
        raise InvalidTarget(
            f"--http must be a URL with {KEY} in its path or query, such as "
            f"'http://127.0.0.1:8000/ping?user_id={KEY}', got {url!r}"
        )
    if "@" in parts.netloc:
        raise InvalidTarget(
            "--http must be a URL without a user and password; send them with --header 'Authorization: Basic ...'"
        )


def _header(number: int, text: str) -> tuple[str, str]:
    # An invalid header is not shown: its value may be a secret.
    name, colon, value = text.partition(":")
    which, value = f"--header number {number}", value.strip()
    if not colon or not _TOKEN.fullmatch(name):
        raise InvalidTarget(f"{which} must be 'Name: value', with a name of letters, digits and hyphens")
    if not value.isascii() or not value.isprintable():
        raise InvalidTarget(f"the value of --header {name!r} must be printable ASCII")
    if name.lower() in _SET_BY_KIT:
        raise InvalidTarget(f"--header must not be {name}: the kit sets it")
    return name, value


def _check_body(body: str, media_type: str) -> None:
    try:
        body.encode()
    except UnicodeEncodeError:
        raise InvalidTarget("--body must be text in UTF-8") from None
    if media_type and not is_json(media_type):
        return
    try:
        json.loads(body.replace(KEY, "key"))
    except (ValueError, RecursionError) as why:
        raise InvalidTarget(
            f'--body must be JSON with {KEY} inside quotes, such as \'{{"user": "{KEY}"}}\': {why}; '
            f"name another type with --header 'Content-Type: ...'"
        ) from None
