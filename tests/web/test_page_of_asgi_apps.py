"""The page docs/how-to/limit-an-asgi-app.md: its examples for Litestar run. Those for Starlette run with all guides."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import servers

PAGE = (Path(__file__).parents[2] / "docs/how-to/limit-an-asgi-app.md").read_text()


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Undo what Litestar does to the root logger when an app of its starts."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_the_examples_for_litestar_run_in_their_order(server: servers.Server, prefix: str):
    pytest.importorskip("litestar", reason="Litestar is not installed: pip install -r requirements-dev.txt")
    blocks = re.findall(r"```py\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 2
    names: dict[str, object] = {"__name__": __name__}
    for block in blocks:
        source = block.replace("redis://localhost:6379/0", server.url)
        source = re.sub('"(alice|carol)"', rf'"{prefix}\1"', source)
        exec(compile(source, "limit-an-asgi-app.md", "exec", dont_inherit=True), names)
