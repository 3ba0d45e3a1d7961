"""The shop as a user copies it: its own tests pass in any folder, and the strict mode of pyright finds nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHOP = ROOT / "examples/fastapi_shop"

pytestmark = pytest.mark.slow


def test_its_own_tests_pass_in_place_and_in_a_copy_of_another_name(tmp_path: Path):
    copied = Path(shutil.copytree(SHOP, tmp_path / "tea", ignore=shutil.ignore_patterns("__pycache__")))
    for folder, place in (("examples/fastapi_shop", ROOT), (copied.name, tmp_path)):
        command = [sys.executable, "-W", "error", "-m", "pytest", "-p", "no:cacheprovider", folder]
        # A user may have set the URL of a server: what the tests count must not end up there.
        environment = {**os.environ, "SHOP_REDIS_URL": "redis://localhost:1/0"}
        done = subprocess.run(
            command, cwd=place, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert " passed" in done.stdout


def test_pyright_finds_nothing():
    pytest.importorskip("pyright", reason="pyright is not installed: pip install -r requirements-dev.txt")
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--warnings", "--project", SHOP]
    found = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert "0 errors" in found.stdout, found.stdout + found.stderr
    assert found.returncode == 0
