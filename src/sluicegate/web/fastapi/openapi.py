"""What limited routes answer, for OpenAPI documents."""

from __future__ import annotations

from typing import Any

from sluicegate.web import headers, problem

_FIELDS = {
    "RateLimit-Policy": f"The policies: quota q in a window of w seconds ({headers.DRAFT}).",
    "RateLimit": "For each policy the remaining units r; on a denial the seconds t until there are more.",
    "Retry-After": "Whole seconds until the same request could be allowed.",
}

_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "violated-policies": {"type": "array", "items": {"type": "string"}},
    },
}

_OF_FASTAPI = {"type": "object", "required": ["detail"], "properties": {"detail": {"type": "string"}}}


def responses() -> dict[int | str, dict[str, Any]]:
    """Return the responses of limited routes: over a limit, without a valid key, without a decision."""
    no_key = described("The request has no valid key to be counted by; or its body cannot be read, as FastAPI says.")
    no_key["content"]["application/json"] = {"schema": _OF_FASTAPI}
    return {
        400: no_key,
        429: described("Denied: over a limit.", *_FIELDS),
        503: described("The store made no decision.", "Retry-After"),
    }


def described(description: str, *names: str) -> dict[str, Any]:
    """Return the description of a problem document with some of the fields."""
    content = {problem.MEDIA_TYPE: {"schema": _PROBLEM}}
    return {"description": description, "content": content, "headers": fields(*names)}


def fields(*names: str) -> dict[str, Any]:
    """Return the descriptions of response fields."""
    return {name: {"description": _FIELDS[name], "schema": {"type": "string"}} for name in names}
