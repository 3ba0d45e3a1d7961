"""If the kit is killed, its servers, its workers and the services that it has started end with it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from proof import targets
from sluicegate.proof import servers

KILLED = """
import os, signal, subprocess, sys
from sluicegate.proof import guard
family = ["sh", "-c", "sleep 600 & echo $!; exec sleep 600"]
leader = subprocess.Popen(family, start_new_session=True, stdout=subprocess.PIPE)
member, released = (subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL) for _ in range(2))
guard.watch(leader.pid, sys.argv[1])
guard.watch(member.pid)
guard.watch(released.pid)
guard.release(released.pid)
print(leader.pid, leader.stdout.readline().decode().strip(), member.pid, released.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def is_running(pid: int) -> bool:
    """Tell whether a process runs. Where nobody waits for orphans, one that has ended stays listed as a zombie."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(state.strip()) and not state.startswith("Z")


def wait_until_ended(pids: Iterable[int]) -> list[int]:
    """Wait, and return those that still run after a minute."""
    left, end_at = list(pids), time.monotonic() + 60
    while left and time.monotonic() < end_at:
        left = [pid for pid in left if is_running(pid)]
        time.sleep(0.05)
    return left


@pytest.mark.slow
def test_what_is_watched_ends_with_the_kit_with_its_group_and_its_folder(tmp_path: Path):
    folder = tmp_path / "folder"
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder)], stdout=subprocess.PIPE, text=True, check=False, timeout=60
    )
    assert done.returncode == -signal.SIGKILL
    *watched, released = map(int, done.stdout.split())
    try:
        assert wait_until_ended(watched) == []
        assert is_running(released)
    finally:
        subprocess.run(["kill", "-9", str(released)], check=True)
    end_at = time.monotonic() + 60
    while folder.exists() and time.monotonic() < end_at:
        time.sleep(0.05)
    assert not folder.exists()


@pytest.mark.slow
@pytest.mark.skipif(not servers.binaries(), reason=servers.HOW_TO_GET_ONE)
def test_no_server_and_no_worker_is_left_after_the_grading_was_killed(tmp_path: Path):
    target = targets.written(
        tmp_path,
        """
        import ctypes, os, pathlib, redis

        class Limiter:
            def __init__(self, limit, window_seconds, redis_url):
                server = redis.Redis.from_url(redis_url).info("server")["process_id"]
                pathlib.Path(__file__).with_name(f"{os.getpid()}-{server}.pids").touch()

            def allow(self, user_id):
                if user_id.startswith("survey"):
                    return True
                ctypes.PyDLL(None).sleep(600)  # keeps the lock of the interpreter: the worker cannot end itself
        """,
    )
    command = [sys.executable, "-m", "sluicegate", "grade", target.name, "--case", "correctness/limit"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as kit:
        try:
            end_at = time.monotonic() + 120
            while len(list(tmp_path.glob("*.pids"))) < 3 and time.monotonic() < end_at:  # the survey's, and two cases'
                time.sleep(0.05)
        finally:
            kit.kill()
    pids = [int(pid) for file in tmp_path.glob("*.pids") for pid in file.stem.split("-")]
    assert len(pids) >= 6
    assert wait_until_ended(pids) == []
