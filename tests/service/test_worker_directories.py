"""The directories of servers that have ended: which of them a worker removes, and what it never touches."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from app import workers


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def left(temporary: Path, name: str = "1-0") -> Path:
    """Make a directory as of a server that ended long ago."""
    directory = temporary / f"{workers._PREFIX}{name}"
    directory.mkdir()
    (directory / "1.place").touch()
    os.utime(directory, (0, 0))
    return directory


def test_a_directory_of_a_server_that_has_ended_is_left_behind_and_one_in_use_or_new_is_not(temporary: Path):
    ended, in_use, new = (left(temporary, f"{n}-0") for n in (1, 2, 3))
    holds = workers._locked(in_use / "1.place")
    os.utime(new)
    assert list(workers._left_behind()) == [ended]
    assert holds is not None
    os.close(holds)
    assert set(workers._left_behind()) == {ended, in_use}


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT CHECKED: only root can give a directory to another user")
def test_a_directory_of_another_user_is_never_opened(temporary: Path):
    planted = left(temporary)
    (planted / "2.place").symlink_to(temporary / "made")
    os.chown(planted, 12345, 12345)
    assert list(workers._left_behind()) == []
    assert not (temporary / "made").exists()


def test_a_link_or_a_directory_in_place_of_a_file_is_not_followed(temporary: Path):
    for n, plant in enumerate((lambda path: path.symlink_to(temporary / "made"), Path.mkdir), 1):
        directory = left(temporary, f"{n}-0")
        plant(directory / "2.place")
        os.utime(directory, (0, 0))
    assert list(workers._left_behind()) == []
    assert not (temporary / "made").exists()
