"""The Dockerfile: what it copies, installs and runs, carried out without an engine; not the base image itself."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import image
import pytest
from processes import ROOT, within

import servers

DOCKERFILE = (ROOT / "Dockerfile").read_text()
DOCKERIGNORE = (ROOT / ".dockerignore").read_text()
INSTRUCTIONS = image.instructions(DOCKERFILE)


def given(name: str) -> list[image.Instruction]:
    return [each for each in INSTRUCTIONS if each.name == name]


def test_what_is_copied_exists_and_is_sent():
    copied = [words.arguments[:-1] for words in given("COPY") if not words.text.startswith("--from=")]
    sources = [source for words in copied for source in words]
    assert {"app", "src", "deploy/requirements.txt"} <= set(sources)
    for source in sources:
        assert image.files_sent(ROOT, source, DOCKERIGNORE), source


@pytest.mark.parametrize(
    "path",
    [
        ".env",
        "app/.env",
        "app/__pycache__/main.cpython-313.pyc",
        "src/sluicegate.egg-info/PKG-INFO",
        "deploy/.env",
        ".git/config",
        ".venv/bin/python",
        "tests/conftest.py",
        "docs/comparison.json",
    ],
)
def test_what_is_not_needed_or_may_be_secret_is_not_sent(path: str):
    assert not image.is_sent(path, DOCKERIGNORE)


def test_the_user_is_a_number_and_not_root_and_signals_meet_no_shell():
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", given("USER")[0].text)
    assert given("CMD")[0].text.startswith("[")
    assert ' CMD ["' in given("HEALTHCHECK")[0].text


def test_the_base_is_pinned_to_a_minor_version_that_is_supported():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    bases = {each.text.split()[0] for each in given("FROM")}
    (version,) = (re.fullmatch(r"python:(3\.\d+)-slim", base)[1] for base in bases)
    assert f"Programming Language :: Python :: {version}" in project["classifiers"]


@pytest.mark.parametrize("name", ["requirements", "requirements-build"])
def test_what_is_installed_is_pinned_by_hashes_and_is_all_that_the_project_asks_for(name: str):
    asked = (ROOT / f"deploy/{name}.in").read_text()
    pinned = (ROOT / f"deploy/{name}.txt").read_text()
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = pyproject["project"]["optional-dependencies"]
    needed = [*extras["redis"], *extras["fastapi"]] if name == "requirements" else pyproject["build-system"]["requires"]
    assert set(needed) <= set(asked.splitlines())
    for requirement in re.findall(r"^([\w-]+)", asked, re.MULTILINE):
        assert re.search(rf"^{requirement}==\S+ .*\\\n    --hash=sha256:", pinned, re.MULTILINE), requirement


# The image


@pytest.fixture(scope="module")
def built() -> Iterator[image.Stage]:
    """The image, in a directory that its user can reach."""
    directory = Path(tempfile.mkdtemp(prefix="sluicegate-image-"))
    directory.chmod(0o755)
    try:
        yield image.build(ROOT, directory)
    except image.Offline as error:
        pytest.skip(f"NOT CHECKED, what the Dockerfile runs: no package index. {str(error)[-200:]}")
    finally:
        subprocess.run(["chmod", "-R", "u+w", str(directory)], check=True)
        shutil.rmtree(directory)


@contextmanager
def container(its: image.Stage, log: Path, port: int, **settings: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run the command of the image, on another port."""
    process = its.start([part.replace("8000", str(port)) for part in its.command], log, **settings)
    try:
        assert within(lambda: "running on http://" in log.read_text() or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        yield process
    finally:
        process.kill()
        process.wait(60)


def health(its: image.Stage, log: Path, port: int) -> int:
    """Return the exit code of the health check. A proxy for outgoing requests must not see it."""
    command = [part.replace(":8000", f":{port}") for part in its.healthcheck]
    return its.start(command, log, http_proxy="http://127.0.0.1:1").wait(60)


@pytest.mark.slow
def test_nothing_can_be_written_by_the_user_of_the_image(built: image.Stage, tmp_path: Path):
    places = [str(built.place(place)) for place in ("/srv", "/srv/app", "/venv")] + ["/tmp"]
    code = "import json, os, sys; print(json.dumps([os.getuid(), [os.access(path, os.W_OK) for path in sys.argv[1:]]]))"
    log = tmp_path / "log"
    assert built.start(["python", "-c", code, *places], log).wait(60) == 0
    user, writable = json.loads(log.read_text())
    if os.geteuid() == 0:
        assert (user, writable) == (int(built.user.partition(":")[0]), [False] * 4)
    else:
        assert writable[:3] == [False] * 3


@pytest.mark.slow
def test_it_serves_is_healthy_and_exits_with_0_when_it_is_stopped(built: image.Stage, tmp_path: Path):
    port = servers.free_port()
    log, checks = tmp_path / "log", tmp_path / "checks"
    assert health(built, checks, port) != 0  # nothing listens yet
    with container(built, log, port) as process:
        assert health(built, tmp_path / "healthy", port) == 0
        statuses = [
            httpx2.get(f"http://127.0.0.1:{port}/ping?user_id=alice", timeout=60).status_code for _ in range(11)
        ]
        assert statuses == [200] * 10 + [429]
        assert httpx2.get(f"http://127.0.0.1:{port}/metrics", timeout=60).status_code == 200
        process.terminate()
        assert process.wait(60) == 0
    assert re.findall("WARNING|ERROR|Traceback", log.read_text()) == []
    assert (tmp_path / "healthy").read_text() == ""


@pytest.mark.slow
def test_it_is_not_healthy_while_it_cannot_decide(built: image.Stage, tmp_path: Path):
    port = servers.free_port()
    settings = {"RATE_LIMIT_BACKEND": "redis", "REDIS_URL": "redis://127.0.0.1:1/0", "RATE_LIMIT_ON_OUTAGE": "raise"}
    with container(built, tmp_path / "log", port, **settings):
        assert httpx2.get(f"http://127.0.0.1:{port}/healthz", timeout=60).status_code == 200
        assert health(built, tmp_path / "checks", port) != 0
    assert "HTTP Error 503" in (tmp_path / "checks").read_text()
