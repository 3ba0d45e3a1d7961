"""The web traps: Sluicegate passes them, an app without limits fails them, and the page shows the results."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools" / "trap_apps"))
from kit import Kit, Library
from sluicegate_apps import LIBRARY
from traps import TRAPS, Trap
from try_traps import tried
from web_traps_page import LIBRARIES, Tried, TriedLibrary, load, save, section, symbol

pytestmark = pytest.mark.filterwarnings("ignore")  # of FastAPI on root_path=, of Sluicegate on many limiters

IN_PROCESS = [trap for trap in TRAPS if not trap.on_server and not trap.is_slow]
UNDISTURBED = {"streaming", "background"}
"""The traps that an app without limits cannot fall into."""


class NoLimit(Kit):
    label = "nothing"

    def by_user(self, app: Any, path: str, user: Any, limit: int) -> None:
        from fastapi import Depends

        app.get(path, dependencies=[Depends(user)])(lambda: "ok")

    def two_limits(self, app: Any, path: str, endpoint: Any) -> None:
        app.get(path)(lambda: "ok")

    def handshakes(self, app: Any, path: str) -> None:
        self.messages(app, path)

    def messages(self, app: Any, path: str) -> None:
        from starlette.websockets import WebSocket

        async def talk(websocket: WebSocket) -> None:
            await websocket.accept()
            async for _ in websocket.iter_text():
                await websocket.send_text("ok")

        app.router.add_websocket_route(path, talk)


class NoLimitOnTheApp(NoLimit):
    covers = True


def which(found: list[dict[str, Any]]) -> set[str]:
    return {each["verdict"] for each in found}


def some(*verdicts: str, in_readme: bool = True) -> list[Tried]:
    return [Tried(f"form {n}", in_readme, verdict, f"evidence {n}") for n, verdict in enumerate(verdicts)]


def library(**traps: list[Tried]) -> TriedLibrary:
    versions = dict.fromkeys((*LIBRARIES, "fastapi", "starlette", "uvicorn"), "1.0")
    found = {id_.replace("_", "-"): these for id_, these in traps.items()}
    return TriedLibrary("2026-01-02T03:04:05+00:00", "Linux, 2 cores", "Valkey 9.1.2", versions, found)


@pytest.mark.parametrize("trap", IN_PROCESS, ids=lambda trap: trap.id)
def test_sluicegate_is_right_in_a_trap(trap: Trap):
    assert "right" in which(list(tried(trap, LIBRARY, None)))


@pytest.mark.parametrize("trap", [trap for trap in IN_PROCESS if trap.id not in UNDISTURBED], ids=lambda trap: trap.id)
def test_an_app_without_limits_is_wrong_in_a_trap(trap: Trap):
    nothing = Library("nothing", (NoLimit, NoLimitOnTheApp))
    assert which(list(tried(trap, nothing, None))) <= {"wrong", "nothing to try"}


@pytest.mark.parametrize(
    ("found", "mark"),
    [
        (some("right", "wrong"), "✓"),
        (some("right", in_readme=False), "(✓)"),
        (some("wrong", "right"), "(✓)"),
        (some("wrong", "wrong"), "✗"),
        (some("no way"), "no way"),
        (some("nothing to try"), "n/a"),
        ([], ""),
    ],
)
def test_the_table_tells_the_first_form_from_another_that_is_right(found: list[Tried], mark: str):
    assert symbol(found) == mark


def test_the_section_names_what_is_right_and_the_evidence_of_what_is_not():
    text = section({"slowapi": library(mount=some("wrong"), malformed=some("wrong", "right"), clients=some("right"))})
    assert "- ✗ Limit on the app: mount: *evidence 0* (form 0)" in text
    assert "- (✓) Malformed JSON: right with form 1. *evidence 0* (form 0)" in text
    assert "Two clients:" not in text


def test_saved_results_of_the_traps_are_loaded_unchanged(tmp_path: Path):
    found = {"traffik": library(two_prefixes=some("wrong", "right"))}
    save(found, tmp_path / "found.json")
    assert load(tmp_path / "found.json") == found


def test_results_of_another_version_are_rejected(tmp_path: Path):
    (tmp_path / "found.json").write_text('{"sluicegate-comparison-web": 0, "libraries": {}}')
    with pytest.raises(ValueError, match='expected "sluicegate-comparison-web": 1'):
        load(tmp_path / "found.json")


def test_every_library_was_tried_in_every_trap_and_sluicegate_is_right_in_each():
    found = load()
    assert set(found) == set(LIBRARIES)
    for name, each in found.items():
        assert set(each.traps) == {trap.id for trap in TRAPS}, f"{name}: run tools/web_traps.py"
    assert {symbol(these) for these in found["sluicegate"].traps.values()} <= {"✓", "(✓)"}
