"""The oldest versions that the web layer is tested on are those that it declares."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_the_oldest_fastapi_that_is_tested_is_the_one_that_is_declared():
    extras = tomllib.loads(Path(ROOT, "pyproject.toml").read_text())["project"]["optional-dependencies"]
    declared = next(each for each in extras["fastapi"] if each.startswith("fastapi"))
    tested = dict(re.findall(r"^(\w+)==(\S+)$", Path(ROOT, "requirements-oldest.txt").read_text(), re.MULTILINE))
    assert declared == f"fastapi>={tested['fastapi']}"
