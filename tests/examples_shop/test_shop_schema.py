"""Schemathesis calls what the shop's OpenAPI document describes: no 500, and no answer that is not described."""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import suppress
from importlib import import_module
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable

schemathesis = pytest.importorskip(
    "schemathesis", reason="Schemathesis is not installed: pip install -r requirements-dev.txt"
)
from schemathesis import checks  # noqa: E402 - a part of what may be missing

CHECKED = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
"""Not those that take a 429 for a refusal of valid data."""

MODES = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)

SHOP = "examples.fastapi_shop"

SEEN = {
    "acme": {200, 404, 422, 429},
    "alice": {200, 429},
    "mallory": {403, 429},
    "nobody": {401, 429},
}
"""What each must have been answered at least."""


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The shop, imported anew, so that its counters are fresh."""
    monkeypatch.delenv("SHOP_REDIS_URL", raising=False)
    for module in [name for name in sys.modules if name.startswith(SHOP)]:
        monkeypatch.delitem(sys.modules, module)
    return import_module(f"{SHOP}.main").app


@pytest.mark.slow
@pytest.mark.parametrize("customer", SEEN)
def test_no_request_of_a_customer_gets_a_500_or_an_answer_that_is_not_described(app: Any, customer: str):
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    statuses: Counter[int] = Counter()

    def call(case: Any) -> None:
        response = case.call(headers={"X-API-Key": f"key-of-{customer}"})
        case.validate_response(response, checks=CHECKED)
        statuses[response.status_code] += 1

    for operation in schema.get_all_operations():
        valid, invalid = (operation.ok().as_strategy(generation_mode=mode) for mode in MODES)
        given(valid)(call)()
        with suppress(Unsatisfiable):  # without parameters no request is invalid
            settings(suppress_health_check=list(HealthCheck))(given(invalid)(call))()
    assert SEEN[customer] <= set(statuses)
