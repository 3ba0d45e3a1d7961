"""The strict mode of pyright finds nothing in `web_api.py`. Mypy's is a part of `make lint`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.slow
def test_pyright_finds_nothing_in_the_limits_of_web_apps_as_users_write_them() -> None:
    pytest.importorskip("pyright", reason="pyright is not installed: pip install -r requirements-dev.txt")
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--warnings"]
    found = subprocess.run([*command, HERE / "web_api.py"], capture_output=True, text=True, timeout=300, check=False)
    assert "0 errors" in found.stdout, found.stdout + found.stderr
    assert found.returncode == 0
