"""Several workers of one server: their metrics are one, and their counts in memory are not, which the log says once."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path

import pytest
from processes import PYTHON_M, Service, is_alive, serving, within

import servers
from app import workers

UVICORN = [*PYTHON_M, "app.main:app", "--port", "0"]
GUNICORN = [sys.executable, "-m", "gunicorn", "app.main:app", "-b", "127.0.0.1:0", "-k", "uvicorn_worker.UvicornWorker"]
WARNING = "so N workers allow N times the limit: set RATE_LIMIT_BACKEND=redis to count together"

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def own_temporary_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "temporary"
    directory.mkdir()
    monkeypatch.setenv("TMPDIR", str(directory))
    monkeypatch.delenv("WEB_CONCURRENCY", raising=False)
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    return directory


def command(kind: str, count: int) -> list[str]:
    """Return what starts so many workers. A server would kill those that the tests suspend, if it were not patient."""
    if kind == "uvicorn":
        return [*UVICORN, "--timeout-worker-healthcheck", "15", "--workers", str(count)]
    pytest.importorskip("gunicorn", reason="gunicorn is not installed: see requirements-dev.txt")
    return [*GUNICORN, "--timeout", "60", "-w", str(count), *(["--preload"] if kind == "gunicorn --preload" else [])]


KINDS = pytest.mark.parametrize("kind", ["uvicorn", "gunicorn", "gunicorn --preload"])


def metric(service: Service, name: str) -> float:
    """Return the value of a series of /metrics; 0 if there is none."""
    found = re.search(rf"^{re.escape(name)} (.*)$", service.get("/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def decisions(service: Service, outcome: str) -> float:
    return metric(service, f'sluicegate_decisions_total{{outcome="{outcome}",policy="sliding-window-60s"}}')


def replace(service: Service, worker: int) -> None:
    """Kill a worker, and wait until its server has started another in its place."""
    before = len(service.workers)
    os.kill(worker, signal.SIGKILL)
    assert service.has_started(before + 1)
    assert not is_alive(worker)


# The warning


@KINDS
def test_several_workers_in_memory_are_warned_of_once_and_not_again_for_one_that_is_replaced(tmp_path: Path, kind: str):
    with serving(tmp_path, command(kind, 3), workers=3) as service:
        assert service.log.read_text().count(WARNING) == 1
        for worker in service.workers[:3]:
            replace(service, worker)
        assert service.log.read_text().count(WARNING) == 1


def test_workers_that_a_variable_asks_for_are_warned_of_too(tmp_path: Path):
    with serving(tmp_path, UVICORN, workers=2, WEB_CONCURRENCY="2") as service:
        assert service.log.read_text().count(WARNING) == 1


@pytest.mark.parametrize(
    ("arguments", "count", "settings"),
    [
        ([], 1, {}),
        (["--workers", "2"], 2, {"RATE_LIMIT_BACKEND": "redis"}),
        (["--workers", "2"], 2, {"RATE_LIMIT_ENABLED": "false"}),
    ],
    ids=["one process", "on Redis", "limits off"],
)
def test_where_nothing_is_counted_apart_nobody_is_warned(
    tmp_path: Path, arguments: list[str], count: int, settings: dict[str, str]
):
    with serving(tmp_path, [*UVICORN, *arguments], workers=count, **settings) as service:
        assert WARNING not in service.log.read_text()


def test_the_one_worker_that_is_reloaded_is_not_several(tmp_path: Path):
    watched = tmp_path / "watched"
    watched.mkdir()
    with serving(tmp_path, [*UVICORN, "--reload", "--reload-dir", str(watched)]) as service:
        Path(watched, "changed.py").touch()
        assert service.has_started(2)
        assert WARNING not in service.log.read_text()


# The metrics


@KINDS
def test_the_metrics_are_the_sum_of_all_workers_whichever_answers_and_go_on_when_one_is_replaced(
    tmp_path: Path, kind: str
):
    with serving(tmp_path, command(kind, 2), workers=2, RATE_LIMIT_REQUESTS="2") as service:
        one, other = service.workers
        with service.only(one):
            assert [service.get("/ping?user_id=alice").status_code for _ in range(3)] == [200, 200, 429]
        with service.only(other):  # which counts by itself
            assert [service.get("/ping?user_id=alice").status_code for _ in range(4)] == [200, 200, 429, 429]
        for worker in (one, other):
            with service.only(worker):
                assert (decisions(service, "allowed"), decisions(service, "denied")) == (4, 3)
                assert metric(service, 'sluicegate_decision_duration_seconds_count{source="store"}') == 7
                assert metric(service, 'sluicegate_decision_duration_seconds_bucket{le="+Inf",source="store"}') == 7
                assert metric(service, "sluicegate_store_up") == 1
                text = service.get("/metrics").text
                assert "pid=" not in text
                assert "alice" not in text

        replace(service, one)
        assert (decisions(service, "allowed"), decisions(service, "denied")) == (4, 3)
        with service.only(service.workers[-1]):
            assert service.get("/ping?user_id=bob").status_code == 200
            assert (decisions(service, "allowed"), decisions(service, "denied")) == (5, 3)
        with service.only(other):
            assert (decisions(service, "allowed"), decisions(service, "denied")) == (5, 3)


def test_workers_that_are_all_killed_at_once_leave_their_counts_to_those_that_follow(tmp_path: Path):
    with serving(tmp_path, command("uvicorn", 2), workers=2) as service:
        for worker in service.workers:
            with service.only(worker):
                assert service.get("/ping?user_id=alice").status_code == 200
        for worker in service.workers:
            os.kill(worker, signal.SIGKILL)
        assert service.has_started(4)
        assert decisions(service, "allowed") == 2


def test_counts_are_kept_in_as_many_files_as_there_are_workers_however_many_are_replaced(
    tmp_path: Path, own_temporary_directory: Path
):
    with serving(tmp_path, command("uvicorn", 2), workers=2) as service:
        before = sorted(own_temporary_directory.rglob("*.db"))
        for _ in range(3):
            replace(service, service.workers[-1])
        assert sorted(own_temporary_directory.rglob("*.db")) == before
    (left,) = own_temporary_directory.glob(f"{workers._PREFIX}*")
    os.utime(left, (0, 0))  # long ago
    with serving(tmp_path, command("uvicorn", 2), workers=2) as service:
        assert decisions(service, "allowed") == 0
        assert len(list(own_temporary_directory.glob(f"{workers._PREFIX}*"))) == 1  # what the first server left is gone


def test_remembered_denials_and_an_outage_are_the_same_in_every_worker(own_server: servers.Server, tmp_path: Path):
    settings = {"RATE_LIMIT_BACKEND": "redis", "REDIS_URL": own_server.url, "RATE_LIMIT_REQUESTS": "1"}
    settings |= {"RATE_LIMIT_ON_OUTAGE": "raise", "RATE_LIMIT_DEADLINE_SECONDS": "30"}
    with serving(tmp_path, command("uvicorn", 2), workers=2, **settings) as service:
        one, other = service.workers
        assert service.get("/ping?user_id=alice").status_code == 200
        remembered = 0
        with service.only(one):
            # Within the second that a denial is remembered for, which may be too short on a busy machine.
            while remembered == 0:
                assert {service.get("/ping?user_id=alice").status_code for _ in range(5)} == {429}
                remembered = metric(service, "sluicegate_denials_remembered_total")
                assert metric(service, "sluicegate_store_up") == 1
        with service.only(other):
            assert metric(service, "sluicegate_denials_remembered_total") == remembered
            assert metric(service, 'sluicegate_decision_duration_seconds_count{source="denial-cache"}') == remembered
            own_server.kill()
            assert [service.get("/ping?user_id=bob").status_code for _ in range(3)] == [503] * 3
        with service.only(one):
            assert metric(service, "sluicegate_store_up") == 0
            assert metric(service, 'sluicegate_store_events_total{kind="down"}') == 1
            own_server.launch()
            assert within(lambda: service.get("/ping?user_id=bob").status_code == 200)
        with service.only(other):  # though its own last call failed
            assert metric(service, "sluicegate_store_up") == 1


def test_a_directory_that_the_operator_chose_is_used_as_it_is(tmp_path: Path, own_temporary_directory: Path):
    chosen = tmp_path / "chosen"
    with serving(tmp_path, command("uvicorn", 2), workers=2, PROMETHEUS_MULTIPROC_DIR=str(chosen)) as service:
        for worker in service.workers:
            with service.only(worker):
                assert service.get("/ping?user_id=alice").status_code == 200
        for worker in service.workers:
            with service.only(worker):
                assert decisions(service, "allowed") == 2
        names = {file.name for file in chosen.iterdir()}
        assert {f"counter_{worker}.db" for worker in service.workers} <= names
    assert list(own_temporary_directory.rglob("*.db")) == []


# Becomes the server, so that its id is known before it has workers.
PLANT = """
import os, sys
from pathlib import Path
from app import workers
Path(os.environ["TMPDIR"], workers._name(os.getpid())).touch()
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def test_workers_that_cannot_find_each_other_say_so_and_serve(tmp_path: Path):
    planted = [sys.executable, "-c", PLANT, *command("uvicorn", 2)[1:]]
    with serving(tmp_path, planted, workers=2) as service:
        log = service.log.read_text()
        assert log.count("this worker cannot find the others of its server") == 2
        assert log.count(WARNING) == 2
        assert service.get("/ping?user_id=alice").status_code == 200
        assert "sluicegate_decisions_total" in service.get("/metrics").text


# The log


def test_warnings_of_the_library_are_in_the_log(tmp_path: Path):
    module = """
import logging, warnings
from app.main import app
from sluicegate import SluicegateWarning

@app.get("/warn")
@app.state.limits.exempt
async def warn():
    warnings.warn(SluicegateWarning("a-code: of the program"))
    logging.getLogger("sluicegate").warning("a-code: of the server")
"""
    Path(tmp_path, "warning_service.py").write_text(module)
    started = [*PYTHON_M, "warning_service:app", "--port", "0", "--app-dir", str(tmp_path)]
    with serving(tmp_path, started) as service:
        service.get("/warn")
        log = service.log.read_text()
    assert re.search("^WARNING:  .*SluicegateWarning: a-code: of the program$", log, re.MULTILINE)
    assert "\nWARNING:  a-code: of the server\n" in log
