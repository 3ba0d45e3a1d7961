"""Apps without a limit: what the limited ones are compared with."""

from __future__ import annotations

from fastapi import Depends, FastAPI
from routes import user, with_routes


def bare() -> FastAPI:
    return with_routes(FastAPI())


async def nothing() -> None:
    pass


def empty_dependency() -> FastAPI:
    return with_routes(FastAPI(), dependencies=[Depends(nothing)])


def key_dependency() -> FastAPI:
    """Have the dependency that names the user, and do nothing with the name."""
    return with_routes(FastAPI(), dependencies=[Depends(user)])
