"""The page docs/how-to/test-your-limits.md: its tests pass in pytest, and what it shows is what comes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient

from sluicegate.testing import LimitsInTest
from sluicegate.web.fastapi import RateLimits

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/how-to/test-your-limits.md").read_text()


def test_the_tests_of_the_page_pass(pytester: pytest.Pytester):
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    tests = "\n".join(blocks)
    pytester.makepyfile(tests)
    options = ("-q", "-W", "error", "-p", "no:valkey", "-p", "no:schemathesis", "-p", "no:xdist")
    result = pytester.runpytest_inprocess(*options)
    result.assert_outcomes(passed=len(re.findall(r"^(?:async )?def test_", tests, re.MULTILINE)))
    assert result.parseoutcomes()["passed"] == 5


def test_the_oldest_pytest_that_is_tested_is_the_one_that_the_page_names():
    tested = re.search(r"^pytest==(\d+\.\d+)\.", Path(ROOT, "requirements-oldest.txt").read_text(), re.MULTILINE)
    assert tested is not None
    assert f"pytest, {tested[1]} or newer" in PAGE


def client_of(on_outage: Any) -> TestClient:
    limits = RateLimits("100/minute", store="redis://localhost:1/0", on_outage=on_outage)
    app = FastAPI(lifespan=limits.lifespan, dependencies=[Depends(limits)])

    @app.get("/search", dependencies=[Depends(limits.limit("3/minute"))])
    async def search() -> str:
        return "found"

    return TestClient(app)


def test_the_table_of_outages_says_what_comes(sluicegate: LimitsInTest):
    rows = re.findall(r"^\| (.*) \| `\[(\d+), (\d+), (\d+)\]` \|$", PAGE, re.MULTILINE)
    told = {mode: [*map(int, row[1:])] for row in rows for mode in re.findall(r'`"(\w+)"`', row[0])}
    assert set(told) == {"local", "open", "closed", "raise"}
    for on_outage, expected in told.items():
        with client_of(on_outage) as client:
            assert client.get("/search").status_code == 200
            with sluicegate.outage():
                assert [client.get("/search").status_code for _ in range(3)] == expected
        sluicegate.advance(60)


def test_the_page_shows_what_a_failed_check_says(sluicegate: LimitsInTest):
    with client_of("local") as client, pytest.raises(AssertionError) as caught:
        sluicegate.assert_limited(client.get("/search"), policy="get-search")
    assert f"```text\nAssertionError: {caught.value}\n```" in PAGE
