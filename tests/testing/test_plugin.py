"""The pytest plugin in suites of users: it is found, changes only what it is asked to, and leaves nothing behind."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

import sluicegate.web.fastapi  # noqa: F401 - so that a suite in this process sees the modules that this one looks at
from sluicegate._stores import resolve
from sluicegate.web.limiters import Limiters

pytest_plugins = ["pytester"]

APP = """
from fastapi import Depends, FastAPI
from sluicegate.web.fastapi import RateLimits


def create_app(store="redis://localhost:1/0"):
    limits = RateLimits("100/minute", store=store, on_outage="closed")
    app = FastAPI(lifespan=limits.lifespan, dependencies=[Depends(limits)])

    @app.get("/search", dependencies=[Depends(limits.limit("3/minute"))])
    async def search() -> str:
        return "found"

    return app


app = create_app()
"""

QUIET = ("-q", "-W", "error", "-p", "no:cacheprovider", "-p", "no:valkey", "-p", "no:schemathesis", "-p", "no:xdist")


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    """A suite of a user's, beside the app that it tests."""
    pytester.makepyfile(shop=APP)
    pytester.syspathinsert()
    return pytester


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Check that a suite leaves limits as they were."""
    yield
    assert resolve.stand_in is None
    assert Limiters.are_on


def run(suite: pytest.Pytester, *options: str, **outcomes: int) -> pytest.RunResult:
    result = suite.runpytest_inprocess(*QUIET, *options)
    result.assert_outcomes(**outcomes)
    return result


def test_the_plugin_is_found_by_pytest_itself_and_says_what_its_fixture_is_for(suite: pytest.Pytester):
    result = suite.runpytest_inprocess(*QUIET, "--fixtures")
    result.stdout.re_match_lines([r"^sluicegate -- .*plugin.py:\d+$", "    Give the app's rate limits for one test"])
    result = suite.runpytest_inprocess(*QUIET, "--help")
    result.stdout.fnmatch_lines(["*sluicegate_enabled (bool):*"])


def test_apps_of_a_module_and_of_a_factory_are_tested_with_and_without_a_lifespan(suite: pytest.Pytester):
    suite.makepyfile(
        """
        import pytest
        from fastapi.testclient import TestClient
        from shop import app, create_app


        @pytest.fixture
        def client():
            with TestClient(create_app()) as client:
                yield client


        @pytest.mark.parametrize("time", [1, 2])
        def test_module(sluicegate, time):
            with TestClient(app) as client:
                assert [client.get("/search").status_code for _ in range(4)] == [200, 200, 200, 429]
                sluicegate.advance(60)
                sluicegate.assert_remaining(client.get("/search"), 2)


        @pytest.mark.filterwarnings("ignore:limits-without-lifespan")
        def test_without_a_lifespan(sluicegate):
            client = TestClient(app)
            assert [client.get("/search").status_code for _ in range(4)] == [200, 200, 200, 429]


        def test_factory_before(client, sluicegate):
            assert [client.get("/search").status_code for _ in range(4)] == [200, 200, 200, 429]


        def test_factory_after(sluicegate, client):
            sluicegate.assert_remaining(client.get("/search"), 99, policy="default")


        @pytest.mark.usefixtures("sluicegate")
        def test_by_its_name(client):
            assert client.get("/search").status_code == 200
        """
    )
    run(suite, passed=6)


def test_async_tests_use_it_as_well(suite: pytest.Pytester):
    suite.makepyfile(
        """
        import httpx2
        import pytest
        from shop import app


        @pytest.mark.anyio
        @pytest.mark.parametrize("anyio_backend", ["asyncio"])
        @pytest.mark.parametrize("time", [1, 2])
        @pytest.mark.filterwarnings("ignore:limits-without-lifespan")
        async def test_search(sluicegate, time):
            async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://app") as client:
                for remaining in (2, 1, 0):
                    sluicegate.assert_remaining(await client.get("/search"), remaining)
                sluicegate.assert_limited(await client.get("/search"), policy="get-search")
                sluicegate.advance(60)
                sluicegate.assert_remaining(await client.get("/search"), 2)
        """
    )
    run(suite, passed=2)


def test_what_a_test_does_stays_in_it(suite: pytest.Pytester):
    suite.makepyfile(
        """
        from fastapi.testclient import TestClient
        from shop import app


        def test_leaves_all_it_can(sluicegate):
            with TestClient(app) as client:
                assert [client.get("/search").status_code for _ in range(4)] == [200, 200, 200, 429]
            sluicegate.advance(1000)
            sluicegate.fail()
            sluicegate.enabled = False


        def test_begins_anew(sluicegate):
            assert sluicegate.clock.now_us() == 0
            with TestClient(app) as client:
                assert [client.get("/search").status_code for _ in range(4)] == [200, 200, 200, 429]


        def test_has_its_own_store_again():
            with TestClient(app) as client:
                assert client.get("/search").status_code == 503
        """
    )
    run(suite, passed=3)


def test_an_app_that_is_imported_by_a_test_is_no_worse_off(suite: pytest.Pytester):
    suite.makepyfile(
        """
        from fastapi.testclient import TestClient


        def test_imports_it(sluicegate):
            from shop import app
            with TestClient(app) as client:
                assert [client.get("/search").status_code for _ in range(4)] == [200, 200, 200, 429]


        def test_has_its_own_store():
            from shop import app
            with TestClient(app) as client:
                assert client.get("/search").status_code == 503
        """
    )
    run(suite, passed=2)


def test_a_failed_check_is_shown_at_the_line_of_the_test(suite: pytest.Pytester):
    suite.makepyfile(
        """
        from fastapi.testclient import TestClient
        from shop import app


        def test_search(sluicegate):
            with TestClient(app) as client:
                sluicegate.assert_limited(client.get("/search"))
        """
    )
    result = run(suite, failed=1)
    result.stdout.fnmatch_lines(
        [
            ">*sluicegate.assert_limited(client.get(*",
            "E*AssertionError: expected a 429, got 200; its RateLimit: get-search r=2, default r=99",
            "test_a_failed_check_is_shown_at_the_line_of_the_test.py:7: AssertionError",
        ]
    )
    result.stdout.no_fnmatch_line("*responses.py*")
    result.stdout.no_fnmatch_line("*limits_in_test.py*")


# The option

OFF = """
    from fastapi.testclient import TestClient
    from shop import app, create_app


    def test_that_has_nothing_to_do_with_limits():
        for each in (app, create_app()):
            with TestClient(each) as client:
                answers = [client.get("/search") for _ in range(10)]
                assert {each.status_code for each in answers} == {200}
                assert not any("ratelimit" in each.headers for each in answers)


    def test_of_limits(sluicegate):
        assert sluicegate.enabled
        with TestClient(app) as client:
            assert [client.get("/search").status_code for _ in range(4)] == [200, 200, 200, 429]


    def test_after_that():
        with TestClient(app) as client:
            assert {client.get("/search").status_code for _ in range(10)} == {200}
"""


@pytest.mark.parametrize("off", ["false", "no", "0"])
def test_a_suite_without_limits_has_them_in_tests_that_use_the_fixture(suite: pytest.Pytester, off: str):
    suite.makepyfile(OFF)
    suite.makeini(f"[pytest]\nsluicegate_enabled = {off}")
    run(suite, passed=3)


@pytest.mark.parametrize("ini", ["", "sluicegate_enabled = true"])
def test_by_default_limits_are_on_in_all_tests(suite: pytest.Pytester, ini: str):
    suite.makepyfile(OFF)
    suite.makeini(f"[pytest]\n{ini}")
    run(suite, passed=1, failed=2)  # by their own store, which is down


def test_an_option_that_is_neither_is_refused(suite: pytest.Pytester):
    suite.makeini("[pytest]\nsluicegate_enabled = perhaps")
    result = suite.runpytest_inprocess(*QUIET)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: sluicegate_enabled must be true or false: *perhaps*"])


# A suite that has nothing to do with it


def test_a_suite_that_does_not_use_it_imports_nothing_of_the_web_layer(suite: pytest.Pytester):
    suite.makepyfile(
        """
        import sys

        from sluicegate import Limiter
        from sluicegate._stores import resolve


        def test_nothing():
            assert not {"http_sf", "fastapi", "starlette", "redis", "sluicegate.web"} & set(sys.modules)
            assert resolve.stand_in is None
            assert Limiter("1/minute").allow("alice")
        """
    )
    # A process of its own; of the plugins that are installed here only ours, as others import what this looks for.
    others = ("-p", "no:anyio", "-p", "no:faker", "-p", "no:hypothesispytest", "-p", "no:pytester")
    suite.runpytest_subprocess(*QUIET, *others).assert_outcomes(passed=1)


def test_it_can_be_left_out(suite: pytest.Pytester):
    suite.makepyfile("def test_search(sluicegate): ...")
    result = suite.runpytest_inprocess(*QUIET, "-p", "no:sluicegate")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["E*fixture 'sluicegate' not found"])


def test_what_tests_need_can_be_had_without_pytest():
    suite = "import sys, sluicegate.testing; print({'pytest', 'fastapi', 'starlette', 'http_sf'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-W", "error", "-c", suite], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"


@pytest.mark.slow
def test_fifty_tests_of_limits_take_no_time(suite: pytest.Pytester, capsys: pytest.CaptureFixture[str]):
    suite.makepyfile(
        """
        import pytest
        from fastapi.testclient import TestClient
        from shop import app


        @pytest.mark.parametrize("time", range(50))
        def test_search(sluicegate, time):
            with TestClient(app) as client:
                assert [client.get("/search").status_code for _ in range(4)] == [200, 200, 200, 429]
                sluicegate.advance(60)
                sluicegate.assert_remaining(client.get("/search"), 2)
        """
    )
    began_at = time.perf_counter()
    result = suite.runpytest_subprocess(*QUIET)
    took = time.perf_counter() - began_at
    result.assert_outcomes(passed=50)
    tests = float(re.search(r"50 passed in ([\d.]+)s", result.stdout.str())[1])
    with capsys.disabled():
        print(f"\n50 tests of limits: {tests:.2f} s, and {took:.2f} s with the start of Python, pytest and FastAPI")
