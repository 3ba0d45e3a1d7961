"""What routes answer to a request that they refuse, for OpenAPI."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel


class Refused(BaseModel):
    """Why a request was refused."""

    detail: str


def refused(description: str) -> dict[str, Any]:
    """Return the description of a refusal."""
    return {"model": Refused, "description": description}


UNREADABLE = refused("The body is not JSON in UTF-8.")
NOT_FOUND = refused("There is no such item.")
"""What several routes answer, with 400 and 404."""
