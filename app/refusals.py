"""Problem documents as responses, for requests that get nothing else."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi.responses import JSONResponse

from sluicegate.web import problem
from sluicegate.web.problem import Problem


def refusal(why: Problem, fields: Mapping[str, str] | None = None) -> JSONResponse:
    """Return the response with a problem document; ``fields`` are its header fields beside the usual ones."""
    return JSONResponse(
        why.document(), why.status, {"Cache-Control": "no-store", **(fields or {})}, media_type=problem.MEDIA_TYPE
    )
