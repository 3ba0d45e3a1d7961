"""Fixtures for all tests: the shared servers, and the word at the end on what the run used."""

from __future__ import annotations

import gc
import os
import platform
import re
import sys
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest

import browser
import servers
from sluicegate import AsyncLimiter, AsyncRedisStore, Limiter, RedisStore
from sluicegate._limiter.outages import DEADLINE
from sluicegate._stores.base import TIMEOUT

_DEFAULTS = [
    ("timeout", TIMEOUT, function.__kwdefaults__)
    for kind in (RedisStore, AsyncRedisStore)
    for function in (kind.__init__, kind.from_url.__func__)
] + [("deadline", DEADLINE, kind.__init__.__wrapped__.__kwdefaults__) for kind in (Limiter, AsyncLimiter)]

PATIENT = 30.0
"""Seconds that a store or a limiter waits, where a test names no time-out and no deadline."""

FAST = "not slow"
"""The marker expression of the fast tests, as in pyproject.toml."""

_health = (hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.function_scoped_fixture)
for _name, _examples in (("fast", 25), ("thorough", 60)):
    hypothesis.settings.register_profile(
        _name, max_examples=_examples, stateful_step_count=30, deadline=None, suppress_health_check=_health
    )
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))


@pytest.fixture(scope="session", params=servers.kinds() or ["none"])
def server(request: pytest.FixtureRequest) -> servers.Server:
    """Each real server in turn, one process of each for the whole run."""
    if request.param == "none":
        pytest.skip(servers.HOW_TO_GET_ONE)
    return servers.shared(request.param)


@pytest.fixture(scope="session", autouse=True)
def patient_stores() -> None:
    """Let them wait long where a test names no time: on a busy machine nothing may run for half a second."""
    for name, _, defaults in _DEFAULTS:
        defaults[name] = PATIENT


@pytest.fixture
def usual_stores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let stores and limiters wait as long as they do by default."""
    for name, usual, defaults in _DEFAULTS:
        monkeypatch.setitem(defaults, name, usual)


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Check that no event loop logged an error, such as a destroyed task or an exception that was never retrieved."""
    yield
    gc.collect()
    records = caplog.get_records("call") + caplog.records  # of the test, and of what has only just been collected
    logged = [record.getMessage() for record in records if record.name == "asyncio"]
    assert [message for message in logged if "proxy.py" not in message] == []


@pytest.fixture
def prefix(server: servers.Server) -> Iterator[str]:
    """A prefix of the test's own on the shared server; its keys are gone afterwards."""
    with servers.own_prefix(server) as text:
        yield text


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """Let threads take turns as often as they can, so that what is not locked is seen."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Test on one kind of server what only uses the library, which is tested on each, and what mostly waits.

    And with SLUICEGATE_TEST_REST set, leave out what `make test` runs: the fast tests on the first kind of server.
    """
    chosen = [item for item in items if not (_needs_one_server(item) and _is_on_another_server(item))]
    if os.environ.get("SLUICEGATE_TEST_REST"):
        chosen = list(filter(_is_rest, chosen))
    left = set(chosen)
    config.hook.pytest_deselected(items=[item for item in items if item not in left])
    items[:] = chosen


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()  # thousands of tests and what they import stay to the end: no collection need look at them again


def _is_rest(item: pytest.Item) -> bool:
    is_slow = item.get_closest_marker("slow") is not None
    is_property = getattr(getattr(item, "function", None), "is_hypothesis_test", False)  # these run more thoroughly
    return is_slow or is_property or _is_on_another_server(item)


def _is_on_another_server(item: pytest.Item) -> bool:
    return not set(servers.kinds()[1:]).isdisjoint(re.split(r"[\[\]-]", item.name))


def _needs_one_server(item: pytest.Item) -> bool:
    waits = "outages" in item.path.parts and item.get_closest_marker("slow") is not None
    return waits or "service" in item.path.parts or item.get_closest_marker("mostly_waits") is not None


# With pytest-xdist each worker has servers of its own, and it is the controller that writes the summary.
_USED: dict[str, None] = {}


def _names() -> list[str]:
    return [f"{server.version} ({server.kind})" for server in servers.used()]


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["servers"] = _names()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from workers import Scheduling

    return Scheduling(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    _USED.update(dict.fromkeys(getattr(node, "workeroutput", {}).get("servers", [])))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    used = ", ".join(sorted({*_USED, *_names()})) or "no server"
    missing = [kind for kind in ("valkey", "redis") if kind not in servers.binaries()]
    absent = f"; not on this machine: {', '.join(missing)}" if missing else ""
    terminalreporter.write_line(f"ran on Python {platform.python_version()}, {used}{absent}")
    if browser.chromium() is None:
        terminalreporter.write_line(f"no page was looked at, for want of a browser: {browser.HOW_TO_GET_ONE}")
    if config.option.markexpr == FAST:
        terminalreporter.write_line("the fast tests; the slow ones, on all servers and interpreters: make check")


def pytest_unconfigure() -> None:
    for server in servers.used():
        server.stop()
