"""The status page: an app of its own, mounted in the shop."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route


async def page(_: Request) -> HTMLResponse:
    """Show that the shop is open."""
    return HTMLResponse("<!doctype html><title>Shop status</title><h1>The shop is open</h1>")


status_page = Starlette(routes=[Route("/", page)])
