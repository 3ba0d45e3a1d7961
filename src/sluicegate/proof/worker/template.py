"""`Template`: the request for a key, with ``{key}`` in the URL, the headers and the body replaced by the key.

The key is escaped for the place where it stands, so that it is one value there whatever its characters, and so that two
keys never become the same text.
"""

import json
import string
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

KEY = "{key}"

_URL_SAFE = "/?:@!$&'()*+,;=%~{}[]"
# Servers strip spaces, split cookies at ";", and read quotes and backslashes. "%" marks what is escaped.
_HEADER_SAFE = "".join(sorted(set(string.punctuation) - set('%;,"\\')))


class Request(NamedTuple):
    """What is sent for one key."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes | None


class Template:
    """A request with ``{key}`` in it.

    Args:
        where: ``url``; and, if they were given, ``method``, ``headers`` (pairs of a name and a value) and ``body``.
    """

    def __init__(self, where: Mapping[str, Any]) -> None:
        parts, self._body = urlsplit(where["url"]), where.get("body")
        self._path = quote(f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path, safe=_URL_SAFE) or "/"
        self._headers = {"User-Agent": "sluicegate-grade"}
        for name, value in where.get("headers", ()):
            self._headers = {other: kept for other, kept in self._headers.items() if other.lower() != name.lower()}
            self._headers[name] = value
        self.method = where.get("method") or ("GET" if self._body is None else "POST")
        self.content_type = content_type(self._headers.items())
        if self._body is not None and not self.content_type:
            self.content_type = self._headers["Content-Type"] = "application/json"

    def request(self, key: str) -> Request:
        """Return the request for a key."""
        path = self._path.replace(KEY, quote(key, safe=""))
        headers = {name: value.replace(KEY, quote(key, safe=_HEADER_SAFE)) for name, value in self._headers.items()}
        body = None if self._body is None else self._body.replace(KEY, self._in_body(key)).encode()
        return Request(self.method, path, headers, body)

    def _in_body(self, key: str) -> str:
        if is_json(self.content_type):
            return json.dumps(key)[1:-1]
        return quote(key, safe="")


def content_type(headers: Iterable[tuple[str, str]]) -> str:
    """Return the value of Content-Type; empty if there is none."""
    return next((value for name, value in headers if name.lower() == "content-type"), "")


def is_json(media_type: str) -> bool:
    """Tell whether a Content-Type is JSON: ``application/json``, or a type that ends in ``+json``."""
    plain = media_type.partition(";")[0].strip().lower()
    return plain == "application/json" or plain.endswith("+json")
