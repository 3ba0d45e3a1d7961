"""The limiters that are found in a file without running it."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from sluicegate.proof.limiters import limiters


def found(folder: Path, source: str) -> list[str]:
    path = folder / "target.py"
    path.write_text(textwrap.dedent(source), encoding="utf-8")
    return limiters(path)


def test_a_class_is_a_limiter_if_it_has_allow_and_takes_a_limit_and_a_window(tmp_path: Path):
    source = """
    class Both:
        def __init__(self, limit, window_seconds): ...
        async def allow(self, user_id): ...
    class WithRedis:
        def __init__(self, limit, window_seconds, redis_url, prefix="p"): ...
        def allow(self, user_id): ...
    class Any:
        def __init__(self, *arguments): ...
        def allow(self, user_id): ...
    @dataclass
    class Data:
        def allow(self, user_id): ...
    class Inherits(Both): ...
    class Elsewhere(package.Base):
        def allow(self, user_id): ...
    """
    assert found(tmp_path, source) == ["Both", "WithRedis", "Any", "Data", "Inherits", "Elsewhere"]


def test_a_factory_is_a_function_that_returns_one(tmp_path: Path):
    source = """
    class _Limiter:
        def __init__(self, store, clock, limit, window): ...
        def allow(self, user_id): ...
    def annotated(limit: int, window: float) -> "_Limiter": ...
    async def calls(limit, window, redis_url=None):
        return _Limiter(1, 2, limit, window)
    def other(limit, window):
        return dict(limit=limit)
    def takes_one(limit) -> _Limiter: ...
    """
    assert found(tmp_path, source) == ["annotated", "calls"]


@pytest.mark.parametrize(
    "source",
    [
        "class NoAllow:\n    def __init__(self, limit, window): ...",
        "class _Private:\n    def __init__(self, limit, window): ...\n    def allow(self, user): ...",
        "class OneArgument:\n    def __init__(self, limit): ...\n    def allow(self, user): ...",
        "class NoArguments:\n    def allow(self, user): ...",
        "class FourNeeded:\n    def __init__(self, a, b, c, d): ...\n    def allow(self, user): ...",
        "class KeywordNeeded:\n    def __init__(self, a, b, *, c): ...\n    def allow(self, user): ...",
        "class Interface(Protocol):\n    def __init__(self, a, b): ...\n    def allow(self, user): ...",
        "class Itself(Itself): ...\nclass A(B): ...\nclass B(A): ...",
        "raise SystemExit",
    ],
)
def test_anything_else_is_not_and_nothing_is_run(tmp_path: Path, source: str):
    assert found(tmp_path, source) == []
