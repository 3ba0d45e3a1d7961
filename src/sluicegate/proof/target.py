"""`Target`: the limiter to grade. A class or factory in a file or a module, or a running service."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

_OTHER_SOURCES = {".c", ".cjs", ".cpp", ".cs", ".go", ".java", ".js", ".kt", ".mjs", ".php", ".rb", ".rs", ".ts"}

EXPECTED = "file.py:Name, package.module:name, or --http 'http://host:port/path?user_id={key}'"


class InvalidTarget(ValueError):
    """The target cannot be graded: the file does not exist, or the text is not in one of the accepted forms."""


@dataclass(frozen=True, slots=True)
class Target:
    """A limiter to grade.

    Attributes:
        name: The text that the user gave, for the report.
        where: How a worker loads it: ``file`` or ``module`` with ``name``, or ``url``.
    """

    name: str
    where: Mapping[str, str]

    @property
    def is_service(self) -> bool:
        return "url" in self.where

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


def service(url: str) -> Target:
    """Parse the URL of a running service, with ``{key}`` in the place of the key.

    Raises:
        InvalidTarget: It is not an http or https URL, or does not hold ``{key}`` once.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable or url.count("{key}") != 1 or "{key}" not in f"{parts.path}?{parts.query}":
        raise InvalidTarget(
            f"--http must be a URL with {{key}} once in its path or query, such as "
            f"'http://127.0.0.1:8000/ping?user_id={{key}}', got {url!r}"
        )
    return Target(url, {"url": url})
