"""A decision that a limiter makes is the same value as one that is built by its name."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import pickle

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import TypeAdapter

from sluicegate import Decision, Limiter
from sluicegate._core.decision import NEVER, Verdict, decision_of, verdict_of

MADE = decision_of(("a",), (5,), [Verdict(False, 0, 1_500_000, 2_000_000)])
BUILT = Decision(False, "a", 5, 0, 1.5, 2.0)


def test_it_is_equal_to_one_that_is_built_by_its_name():
    assert type(MADE) is Decision
    assert (MADE, hash(MADE), repr(MADE)) == (BUILT, hash(BUILT), repr(BUILT))
    assert MADE.decisions == (BUILT,)


def test_it_is_immutable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        MADE.allowed = True
    with pytest.raises((AttributeError, TypeError)):
        MADE.other = 1


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))])
def test_a_copy_of_it_is_equal_to_it(copied):
    several = decision_of(("a", "b"), (5, 6), [Verdict(True, 4, 0, 1), Verdict(True, 2, 0, 1)])
    for made in (MADE, several):
        assert copied(made) == made
        assert copied(made).decisions == made.decisions


def test_a_field_of_it_can_be_replaced():
    assert dataclasses.replace(MADE, source="fallback") == dataclasses.replace(BUILT, source="fallback")
    assert [field.name for field in dataclasses.fields(MADE)] == [field.name for field in dataclasses.fields(BUILT)]


def test_a_wait_that_never_ends_is_infinite():
    assert decision_of(("a",), (5,), [Verdict(False, 5, NEVER, 0)]).retry_after == math.inf


def test_a_verdict_of_its_numbers_is_the_one_of_its_name():
    assert verdict_of((True, 4, 0, 7)) == Verdict(True, 4, 0, 7)
    assert verdict_of((True, 4, 0, 7)).reset_after_us == 7
    assert type(verdict_of((True, 4, 0, 7))) is Verdict


# As a dict, and as JSON

SEVERAL = decision_of(("a", "b"), (5, 6), [Verdict(True, 4, 0, 1), Verdict(False, 2, NEVER, 1_000_000)])
NEVER_ALLOWED = decision_of(("a",), (5,), [Verdict(False, 5, NEVER, 0)])
PUBLIC = ["allowed", "policy", "limit", "remaining", "retry_after", "reset_after", "source"]


@pytest.mark.parametrize("made", [MADE, SEVERAL, NEVER_ALLOWED], ids=["one", "several", "never"])
def test_its_fields_are_the_public_ones_alone(made: Decision):
    assert [field.name for field in dataclasses.fields(made)] == list(Decision.__match_args__) == PUBLIC
    assert list(dataclasses.asdict(made)) == PUBLIC
    assert dataclasses.asdict(made) == {name: getattr(made, name) for name in PUBLIC}
    assert "_parts" not in repr(made)


def test_its_dict_is_json_unless_the_wait_never_ends():
    assert json.loads(json.dumps(dataclasses.asdict(MADE), allow_nan=False))["retry_after"] == 1.5
    with pytest.raises(ValueError, match="not JSON compliant"):
        json.dumps(dataclasses.asdict(NEVER_ALLOWED), allow_nan=False)


def test_as_dict_is_always_json():
    assert MADE.as_dict() == dataclasses.asdict(MADE)
    for made in (SEVERAL, NEVER_ALLOWED):
        said = json.loads(json.dumps(made.as_dict(), allow_nan=False))
        assert said == {**dataclasses.asdict(made), "retry_after": None}


@pytest.mark.parametrize(
    "again",
    [
        copy.copy,
        copy.deepcopy,
        dataclasses.replace,
        *(lambda made, protocol=protocol: pickle.loads(pickle.dumps(made, protocol)) for protocol in range(6)),
    ],
)
def test_the_decisions_of_all_policies_are_in_every_copy(again):
    assert again(SEVERAL) == SEVERAL
    assert again(SEVERAL).decisions == SEVERAL.decisions
    assert [each.policy for each in again(SEVERAL).decisions] == ["a", "b"]


def test_decisions_on_other_policies_are_not_equal():
    other = decision_of(("c", "b"), (5, 6), [Verdict(True, 4, 0, 1), Verdict(False, 2, NEVER, 1_000_000)])
    assert dataclasses.asdict(other) == dataclasses.asdict(SEVERAL)
    assert other != SEVERAL
    assert dataclasses.asdict(SEVERAL) != SEVERAL


def test_fastapi_writes_the_public_fields_of_a_decision_and_null_for_a_wait_that_never_ends():
    app = FastAPI()
    limiter = Limiter("1/minute; 2/hour")

    @app.get("/take")
    def take(cost: int) -> Decision:
        return limiter.take("alice", cost)

    @app.get("/each")
    async def each(cost: int) -> list[Decision]:
        return list(limiter.peek("alice", cost).decisions)

    @app.get("/dict")
    def as_dict(cost: int):
        return {"decision": limiter.peek("alice", cost).as_dict()}

    @app.get("/bare")
    def bare(cost: int):  # as docs/how-to/use-the-library.md says: such an endpoint fails
        return limiter.peek("alice", cost)

    client = TestClient(app, raise_server_exceptions=False)
    assert [client.get(f"/bare?cost={cost}").status_code for cost in (1, 3)] == [200, 500]
    allowed = client.get("/take?cost=1").json()
    assert (list(allowed), allowed["allowed"], allowed["retry_after"]) == (PUBLIC, True, 0.0)
    denied = client.get("/take?cost=3").json()
    assert (list(denied), denied["allowed"], denied["retry_after"]) == (PUBLIC, False, None)
    minute, hour = client.get("/each?cost=2").json()
    assert (minute["policy"], minute["retry_after"]) == ("sliding-window-60s", None)
    assert (hour["policy"], 3500 < hour["retry_after"] <= 3600) == ("sliding-window-3600s", True)
    said = client.get("/dict?cost=3").json()["decision"]
    assert {**said, "reset_after": 0} == {**denied, "reset_after": 0}
    schema = app.openapi()["components"]["schemas"]["Decision"]
    assert list(schema["properties"]) == PUBLIC
    assert schema["properties"]["retry_after"]["anyOf"] == [{"type": "number"}, {"type": "null"}]
    assert schema["properties"]["reset_after"]["type"] == "number"


def test_pydantic_takes_a_decision_for_what_it_is():
    adapter = TypeAdapter(Decision)
    assert adapter.validate_python(SEVERAL) is SEVERAL
    assert adapter.dump_python(NEVER_ALLOWED) == dataclasses.asdict(NEVER_ALLOWED)
    assert json.loads(adapter.dump_json(NEVER_ALLOWED)) == adapter.dump_python(NEVER_ALLOWED, mode="json")
    assert adapter.validate_json(adapter.dump_json(MADE)) == MADE
