"""Answers to requests that do not reach the app: problem documents, or pages for browsers, as ASGI apps.

They serve WebSockets, too: at the handshake the same answer, where the server can send one; else it is refused.
"""

from __future__ import annotations

import html
import json
import math
import random
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from sluicegate._core.decision import Decision
from sluicegate.web import headers, problem
from sluicegate.web.problem import Problem

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

TRY_AGAIN_LATER = 1013
"""The code with which a WebSocket is closed (RFC 6455's registry): overloaded, come back later."""

_REFUSABLE = "websocket.http.response"  # the ASGI extension


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is refused.

    Attributes:
        problem: The document for the client: 429 over a limit, 503 without a decision, 400 without a valid key.
        decision: The denial; None if nothing was decided.
        headers: Fields of the answer, Retry-After among them.
        has_message: Whether the limit has a message of its own.
    """

    problem: Problem
    decision: Decision | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    has_message: bool = False

    @property
    def status(self) -> int:
        """The status of the answer."""
        return self.problem.status


def over_limit(decision: Decision, message: str | None, jitter: float, *, is_banned: bool = False) -> Refusal:
    """Return the refusal of a request that is over a limit.

    Args:
        decision: The denial.
        message: The detail; None for one that names the policy.
        jitter: The most that is added to Retry-After at random, as a fraction of it.
        is_banned: Whether it is denied as its key is banned.
    """
    why = problem.abnormal_usage_detected(decision) if is_banned else problem.quota_exceeded(decision)
    if message is not None:
        why = Problem(why.status, why.title, message, why.type, why.members)
    wait = headers.retry_after(decision)
    if wait and jitter:
        wait = math.ceil(wait * (1 + jitter * random.random()))  # noqa: S311 - to spread clients, not to hide anything
    return Refusal(why, decision, {"Retry-After": str(wait)} if wait else {}, message is not None)


def without_decision() -> Refusal:
    """Return the refusal of a request that nobody could decide."""
    return Refusal(problem.temporary_reduced_capacity(), None, {"Retry-After": "1"})


def invalid_key(detail: str, status: int = 400) -> Refusal:
    """Return the refusal of a request whose key is missing or invalid."""
    return Refusal(Problem(status, "Bad Request", detail))


class Answer:
    """An ASGI app that answers with a refusal.

    Args:
        refusal: The refusal.
        as_page: Whether a person reads it, in a browser.
    """

    def __init__(self, refusal: Refusal, *, as_page: bool = False) -> None:
        media_type = "text/html; charset=utf-8" if as_page else problem.MEDIA_TYPE
        document = _page(refusal) if as_page else json.dumps(refusal.problem.document())
        self.body = document.encode()
        # RFC 6585, section 4: a 429 is never stored by a cache. No other refusal should be, either.
        named = {
            "content-type": media_type,
            "content-length": str(len(self.body)),
            "cache-control": "no-store",
            **(_OF_PAGES if as_page else {}),
            **refusal.headers,
        }
        self.status = refusal.status
        self.headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in named.items()]

    async def __call__(self, scope: Scope, _: Receive, send: Send) -> None:
        """Send the answer."""
        is_head = scope.get("method") == "HEAD"
        await send({"type": "http.response.start", "status": self.status, "headers": list(self.headers)})
        await send({"type": "http.response.body", "body": b"" if is_head else self.body})


def handshake(app: App, scope: Scope) -> App:
    """Return an app so that it can answer a WebSocket's handshake: as HTTP, or where that is impossible by closing."""
    can_answer = _REFUSABLE in (scope.get("extensions") or {})

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_http(message: Message) -> None:
            if message["type"].startswith("http."):
                message = {**message, "type": f"websocket.{message['type']}"}
            await send(message)

        if can_answer:
            await app(scope, receive, send_http)
        else:
            await send({"type": "websocket.close", "code": TRY_AGAIN_LATER, "reason": "rate limited"})

    return answer


def wants_page(scope: Scope) -> bool:
    """Return whether the client is a browser that shows a page: it names HTML before JSON in its Accept field."""
    accept = next((value for name, value in scope.get("headers", ()) if name == b"accept"), b"").lower()
    return b"text/html" in accept and b"application/json" not in accept.partition(b"text/html")[0]


_OF_PAGES = {"vary": "accept", "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'"}

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 1.1rem/1.6 system-ui, sans-serif; max-width: 32rem; margin: 20vh auto 0; padding: 0 1.5rem }}
h1 {{ font-size: 1.7rem; line-height: 1.25; margin: 0 0 .6rem }}
p {{ margin: 0 }}
small {{ display: block; margin-top: 2.2rem; opacity: .6 }}
</style></head>
<body><h1>{title}</h1><p>{advice}</p><small>{status} {phrase}</small></body></html>
"""

_TITLES = {429: "Too many requests", 503: "Busy at the moment"}

_SPANS = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


def _page(refusal: Refusal) -> str:
    why = refusal.problem
    wait = refusal.headers.get("Retry-After")
    advice = why.detail
    if refusal.status in _TITLES and wait is not None and not refusal.has_message:
        advice = f"Please try again in {_in_words(int(wait))}."
    return _PAGE.format(
        title=html.escape(_TITLES.get(refusal.status, why.title)),
        advice=html.escape(advice),
        status=refusal.status,
        phrase=html.escape(why.title),
    )


def _in_words(seconds: int) -> str:
    """Return a wait for a person, rounded up: never too short."""
    size, unit = next(span for span in _SPANS if seconds >= span[0] * (1 if span[0] == 1 else 2) or span[0] == 1)
    count = -(-seconds // size)
    return f"{count} {unit}{'' if count == 1 else 's'}"
