"""How the service starts and stops: on bad settings, and on a server that is away, comes, hangs or goes.

Each `serving` is a process of its own, as a user starts it.
"""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from processes import NAMES, PYTHON_M, ROOT, UVICORN, environment, serving, within

import servers
from app.config import CANNOT_START, Settings, load, masked, strangers
from app.main import create_app


@pytest.fixture
def bad(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Return what is printed when the service is to start with these settings."""

    def lines(**settings: str) -> list[str]:
        for name in NAMES:
            monkeypatch.delenv(name, raising=False)
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as stopped:
            load()
        assert stopped.value.code == CANNOT_START
        return capsys.readouterr().err.splitlines()

    return lines


# Settings


def test_without_any_settings_it_allows_ten_a_minute_in_memory(monkeypatch: pytest.MonkeyPatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    settings = load()
    assert (settings.rate_limit_backend, settings.redis_url) == ("memory", "redis://localhost:6379/0")
    assert (settings.policy.limit, settings.policy.window, settings.store) == (10, 60.0, None)
    assert (settings.policies("/ping"), settings.rate_limit_enabled) == ((settings.policy,), True)


def test_the_backend_switches_to_the_url(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RATE_LIMIT_BACKEND", "redis")
    monkeypatch.setenv("REDIS_URL", "redis://somewhere:6380/3")
    assert load().store == "redis://somewhere:6380/3"


def test_a_window_may_be_a_fraction_of_a_second(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RATE_LIMIT_WINDOW_SECONDS", "0.25")
    assert load().policy.window_us == 250_000


@pytest.mark.parametrize("value", ["abc", "", "0", "-1", "1.5", "true", "nan", "inf", "100000000001"])
def test_a_limit_that_makes_no_sense_is_one_line(bad, value: str):
    expected = f"RATE_LIMIT_REQUESTS={value!r}: expected a whole number from 1 to 100000000000"
    assert bad(RATE_LIMIT_REQUESTS=value) == [expected]


@pytest.mark.parametrize("value", ["abc", "", "0", "-1", "0.0000001", "true", "nan", "inf", "1e400", "316224001"])
def test_a_window_that_makes_no_sense_is_one_line(bad, value: str):
    expected = "expected a number of seconds from 0.000001 to 316224000 (ten years)"
    assert bad(RATE_LIMIT_WINDOW_SECONDS=value) == [f"RATE_LIMIT_WINDOW_SECONDS={value!r}: {expected}"]


def test_the_limits_beside_the_users_are_rates_of_all_users_and_of_each_endpoint(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RATE_LIMIT_GLOBAL", "1000/minute;50/s")
    monkeypatch.setenv("RATE_LIMIT_ENDPOINTS", '{"/ping": "5/s"}')
    _, *others = load().policies("/ping")
    assert [(each.name, each.limit, each.window, each.shared) for each in others] == [
        ("global-60s", 1000, 60.0, True),
        ("global-1s", 50, 1.0, True),
        ("endpoint-ping-1s", 5, 1.0, False),
    ]


def test_an_empty_variable_is_no_limit_as_compose_passes_on_what_is_not_set(monkeypatch: pytest.MonkeyPatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RATE_LIMIT_GLOBAL", "")
    monkeypatch.setenv("RATE_LIMIT_ENDPOINTS", "")
    assert [policy.name for policy in load().policies("/ping")] == ["sliding-window-60s"]


def test_limits_of_endpoints_that_are_nested_too_deeply_are_one_line(bad):
    (line,) = bad(RATE_LIMIT_ENDPOINTS="[" * 100_000)
    assert "expected a JSON object from paths to rates" in line


def test_variables_that_look_like_settings_and_are_none_are_named():
    names = ["RATE_LIMITS_GLOBAL", "RATE_LIMIT_ENDPOINT", "RATE_LIMIT_GLOBAL", "rate_limit_requests", "PATH"]
    assert strangers([*names, "RATELIMIT_GLOBAL"]) == ["RATE_LIMITS_GLOBAL", "RATE_LIMIT_ENDPOINT", "RATELIMIT_GLOBAL"]


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"RATE_LIMIT_GLOBL": "5/s"}, ["RATE_LIMIT_GLOBL is not a setting of this service"]),
        ({"REDIS_URL": "redis://:hunter2@h"}, ["REDIS_URL is set but not used: RATE_LIMIT_BACKEND is memory"]),
        ({"REDIS_URL": "redis://:hunter2@h", "RATE_LIMIT_BACKEND": "redis"}, []),
        ({}, []),
    ],
    ids=["misspelt", "not-used", "used", "none"],
)
def test_what_has_no_effect_is_told_at_the_start(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, variables: dict[str, str], said: list[str]
):
    for name in ("REDIS_URL", "RATE_LIMIT_BACKEND"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with TestClient(create_app(load())):
        pass
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert told == said


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (" ", "a limit from 1 to 100000000000 at character 2, got the end of the text"),
        ("1000", "'/' or 'per' at character 5, got the end of the text"),
        ("10/fortnight", "a unit of time (ms, s, m, h, d, w or second, minute, hour, day, week) at character 4, got"),
        ("0/s", "a limit from 1 to 100000000000 at character 1, got '0'"),
        ("5/s;6/s", "each window once at character 5, got 1s again; both would be one counter: keep the smaller limit"),
        ("5/s;", "a limit from 1 to 100000000000 at character 5, got the end of the text"),
    ],
)
def test_a_global_rate_that_makes_no_sense_is_one_line_that_says_where(bad, value: str, expected: str):
    (line,) = bad(RATE_LIMIT_GLOBAL=value)
    assert line.startswith(f"RATE_LIMIT_GLOBAL={value!r}: expected {expected}")


@pytest.mark.parametrize("value", [" ", "5/s", "{", "[" * 100, "null", "[]", '["/ping"]', '"5/s"', "{'/ping': '5/s'}"])
def test_limits_of_endpoints_that_are_no_json_object_are_one_line_that_shows_one(bad, value: str):
    expected = 'a JSON object from paths to rates, such as {"/ping": "5/s;100/hour"}, where a path is one of /ping'
    assert bad(RATE_LIMIT_ENDPOINTS=value) == [f"RATE_LIMIT_ENDPOINTS={value!r}: expected {expected}"]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ('{"/pong": "5/s"}', "expected one of the limited endpoints, /ping, got '/pong'"),
        ('{"ping": "5/s"}', "expected one of the limited endpoints, /ping, got 'ping'"),
        ('{"/healthz": "5/s"}', "expected one of the limited endpoints, /ping, got '/healthz'"),
        ('{"/ping": "5/x"}', "/ping: expected a unit of time"),
        ('{"/ping": "5"}', "/ping: expected '/' or 'per' at character 2, got the end of the text"),
        ('{"/ping": ""}', "/ping: expected a limit from 1 to 100000000000 at character 1, got the end of the text"),
        ('{"/ping": 5}', '/ping: rate must be text such as "100/minute", got 5'),
        ('{"/ping": null}', '/ping: rate must be text such as "100/minute", got None'),
        ('{"/ping": "5/s", "/ping": "50/s"}', "expected each path once"),
    ],
)
def test_a_limit_of_an_endpoint_that_makes_no_sense_is_one_line_that_says_why(bad, value: str, said: str):
    (line,) = bad(RATE_LIMIT_ENDPOINTS=value)
    assert line.startswith(f"RATE_LIMIT_ENDPOINTS={value!r}: {said}")


@pytest.mark.parametrize(("value", "enabled"), [("false", False), ("0", False), ("off", False), ("true", True)])
def test_the_limits_can_be_switched_off(monkeypatch: pytest.MonkeyPatch, value: str, enabled: bool):
    monkeypatch.setenv("RATE_LIMIT_ENABLED", value)
    assert load().rate_limit_enabled is enabled


@pytest.mark.parametrize("value", ["", "maybe", "2"])
def test_a_switch_that_is_neither_on_nor_off_is_one_line(bad, value: str):
    assert bad(RATE_LIMIT_ENABLED=value) == [f"RATE_LIMIT_ENABLED={value!r}: expected true or false"]


@pytest.mark.parametrize("name", ["rate_limit_requests", "rate_limit_window_seconds"])
def test_a_bool_is_no_number(name: str):
    with pytest.raises(ValueError, match="bool"):
        Settings(**{name: True})


def test_an_unknown_backend_is_one_line(bad):
    assert bad(RATE_LIMIT_BACKEND="sqlite") == ["RATE_LIMIT_BACKEND='sqlite': expected memory or redis"]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:6379",
        "http://localhost",
        "redis://",
        "redis://h:port",
        "redis://h:99999",
        "redis://h/0?socket_timeout=x",
        "memory://",
        "memory://x",
    ],
)
def test_a_url_that_cannot_be_read_is_one_line_when_it_is_used(bad, url: str):
    (line,) = bad(RATE_LIMIT_BACKEND="redis", REDIS_URL=url)
    assert line.startswith("REDIS_URL='")
    assert "': expected a URL such as redis://" in line


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("redis://:hunter2@h:6379/0?timeout=1", "it has no option timeout, which is an argument"),
        ("redis://:hunter2@h:6379/0?socket_timeout=hunter2", "it cannot read the value of socket_timeout"),
        ("sentinel://:hunter2@h:26379/mymaster", "got the URL of a Sentinel"),
        ("redis://:hunter2@h:6379/zero", "a port from 1 to 65535 and a database number"),
    ],
)
def test_a_url_is_refused_with_the_reason_of_the_library(bad, url: str, reason: str):
    (line,) = bad(RATE_LIMIT_BACKEND="redis", REDIS_URL=url)
    assert "': expected a URL such as redis://" in line
    assert reason in line.partition(": store must be ")[2]
    assert "hunter2" not in line


def test_a_url_that_is_not_used_is_not_read(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RATE_LIMIT_BACKEND", "memory")
    monkeypatch.setenv("REDIS_URL", "no URL at all")
    assert load().store is None


def test_each_bad_setting_has_a_line_of_its_own(bad):
    lines = bad(RATE_LIMIT_REQUESTS="ten", RATE_LIMIT_WINDOW_SECONDS="a minute", RATE_LIMIT_BACKEND="disk")
    assert sorted(line.split("=")[0] for line in lines) == [
        "RATE_LIMIT_BACKEND",
        "RATE_LIMIT_REQUESTS",
        "RATE_LIMIT_WINDOW_SECONDS",
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RATE_LIMIT_REQUESTS", "1\n2" + "x" * 1000),
        ("RATE_LIMIT_GLOBAL", "5/s\n" + "x" * 1000),
        ("RATE_LIMIT_ENDPOINTS", '{"/ping": "5/s\\n' + "x" * 1000 + '"}'),
        ("RATE_LIMIT_ENDPOINTS", '{"/ping\\n' + "x" * 1000 + '": "5/s"}'),
    ],
)
def test_a_value_of_many_lines_is_still_one_line(bad, name: str, value: str):
    (line,) = bad(**{name: value})
    assert len(line) < 320


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("redis://[::1]:6379/0", "redis://[::1]:6379/0"),
        ("http://ann:hunter2@host:1/x", "http://***@host:1/x"),
        ("redis://:hunter2@host", "redis://***@host"),
        ("ann:hunter2@host:6379", "***@host:6379"),
        ("redis://host/0?password=hunter2", "redis://host/0?***"),
        ("redis://host/0?password=a@hunter2", "redis://***"),
        ("redis://:a@hunter2@host", "redis://***"),
        ("redis://:12/hunter2@host", "redis://***"),
        ("redis://ann:12?hunter2@host", "redis://***"),
        ("redis://ann:12#hunter2@host", "redis://***"),
        ("redis://ann:hunter2", "redis://***"),
        ("ann:hunter/2@host", "***"),
    ],
)
def test_what_may_be_a_password_is_masked(url: str, shown: str):
    assert masked(url) == shown


@pytest.mark.parametrize(
    "name", ["RATE_LIMIT_GLOBAL", "RATE_LIMIT_ENDPOINTS", "RATE_LIMIT_ENABLED", "RATE_LIMIT_BACKEND"]
)
@pytest.mark.parametrize(
    "url",
    ["redis://:hunter2@host", "redis://host/0?password=hunter2", "5/hunter2@host", '{"/ping": "5/hunter2@host"}'],
)
def test_a_password_in_the_wrong_variable_is_not_in_the_line_either(bad, name: str, url: str):
    (line,) = bad(**{name: url})
    assert "hunter" not in line
    assert ": expected " in line


def test_a_password_is_not_in_the_line(bad):
    (line,) = bad(RATE_LIMIT_BACKEND="redis", REDIS_URL="http://ann:hunter2@host:6379/0")
    assert line.startswith("REDIS_URL='http://***@host:6379/0': expected ")


# Processes


def on_redis(url: str, **settings: object) -> dict[str, str]:
    """Return the settings of a service on a server. It is patient, where a test names no deadline."""
    return {
        "RATE_LIMIT_BACKEND": "redis",
        "REDIS_URL": url,
        "RATE_LIMIT_DEADLINE_SECONDS": "30",
        **{f"RATE_LIMIT_{name.upper()}": str(value) for name, value in settings.items()},
    }


@pytest.mark.slow
@pytest.mark.parametrize("command", [UVICORN, PYTHON_M], ids=["uvicorn", "python -m uvicorn"])
def test_a_bad_setting_stops_the_start_with_a_line_and_no_traceback(command: list[str]):
    ended = subprocess.run(
        [*command, "app.main:app", "--port", "0"],
        cwd=ROOT,
        env=environment(RATE_LIMIT_REQUESTS="abc", RATE_LIMIT_BACKEND="redis", REDIS_URL="x://:hunter2@h"),
        capture_output=True,
        text=True,
        timeout=15,
        check=False,
    )
    assert ended.returncode != 0
    first, second = ended.stderr.splitlines()
    assert first.startswith("REDIS_URL='x://***@h': expected a URL such as redis://")
    assert second == "RATE_LIMIT_REQUESTS='abc': expected a whole number from 1 to 100000000000"
    assert ended.stdout == ""


@pytest.mark.slow
def test_several_workers_with_a_bad_setting_end_and_do_not_start_again_for_ever():
    ended = subprocess.run(
        [*PYTHON_M, "app.main:app", "--port", "0", "--workers", "2"],
        cwd=ROOT,
        env=environment(RATE_LIMIT_REQUESTS="abc"),
        capture_output=True,
        text=True,
        timeout=15,
        check=False,
    )
    assert ended.stderr.count("RATE_LIMIT_REQUESTS='abc'") == 2
    assert "Traceback" not in ended.stderr


@pytest.mark.slow
def test_it_starts_and_stops_as_it_comes(tmp_path: Path):
    with serving(tmp_path) as service:
        assert [service.ping() for _ in range(11)] == [200] * 10 + [429]
    assert service.process.returncode in (0, -signal.SIGTERM)
    assert "Traceback" not in service.log.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["local", "raise"])
@pytest.mark.parametrize("kind", servers.binaries())
def test_it_starts_before_its_server_and_answers_when_that_comes(tmp_path: Path, kind: str, mode: str):
    with servers.running(kind) as reserved:
        port = reserved.port
    away = 200 if mode == "local" else 503
    settings = on_redis(f"redis://127.0.0.1:{port}/0", on_outage=mode, requests=1_000_000)
    with serving(tmp_path, **settings) as service:
        assert (service.ping(), service.ready()) == (away, away)
        with servers.running(kind, port=port):
            assert within(service.is_well)
            assert service.ping() == 200
        for _ in range(3):
            assert service.ping() == away
        assert not service.is_well()
        assert service.ready() == away
        with servers.running(kind, port=port):
            assert within(service.is_well)
            assert service.ping() == 200
    log = service.log.read_text()
    assert "WARNING:  the store is down, unreachable: " in log
    assert "WARNING:  the store is up again, after " in log
    assert "Traceback" not in log
    assert str(port) not in log


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "pings", "ready"),
    [("local", [200, 200, 429], 200), ("open", [200] * 3, 200), ("closed", [503] * 3, 503), ("raise", [503] * 3, 503)],
)
@pytest.mark.parametrize("kind", servers.binaries())
def test_while_its_server_hangs_it_answers_as_it_is_set_and_then_goes_on(
    tmp_path: Path, kind: str, mode: str, pings: list[int], ready: int
):
    with servers.running(kind) as server:
        settings = on_redis(server.url, on_outage=mode, requests=3, deadline_seconds=1)
        with serving(tmp_path, **settings) as service:
            assert service.ping() == 200
            server.freeze()
            try:
                assert [service.ping() for _ in range(3)] == pings
                assert not service.is_well()
                assert service.ready() == ready
                assert service.get("/healthz").status_code == 200
            finally:
                server.thaw()
            assert within(service.is_well)


@pytest.mark.slow
@pytest.mark.parametrize("kind", servers.binaries())
def test_a_restart_of_the_service_does_not_give_a_fresh_limit(tmp_path: Path, kind: str):
    with servers.running(kind) as server:
        settings = on_redis(server.url, requests=3)
        with serving(tmp_path, **settings) as service:
            assert [service.ping() for _ in range(2)] == [200] * 2
        with serving(tmp_path, **settings) as service:
            assert [service.ping() for _ in range(2)] == [200, 429]
