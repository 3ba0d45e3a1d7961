"""What may import what, and what a name says of its unit: the drawing in CONTRIBUTING, held to the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import sluicegate

PACKAGE = Path(sluicegate.__file__).parent
ROOT = PACKAGE.parent.parent

# A row of the table in CONTRIBUTING: the layer, its folder, and the layers that it imports.
ROW = re.compile(r"^\| (\w+) \| `src/sluicegate/(\w+)` \| ([\w, ]+) \|", re.MULTILINE)
DRAWN = {
    layer: (room, imports.split(", ")) for layer, room, imports in ROW.findall((ROOT / "CONTRIBUTING.md").read_text())
}
ROOMS = {room: {room, *(DRAWN[each][0] for each in imports if each in DRAWN)} for room, imports in DRAWN.values()}
# Files that stand beside the layers: the public doors, and the command.
ROOMS |= {
    "testing": {"testing", "web", "_limiter", "_stores", "_core"},
    "stores": {"_stores", "_core"},
    "__main__": {"_cli"},
}
ROOMS["_cli"].add("__version__")

# And in the proof kit each room may import those that stand before it.
BASE = (
    "text rubric requirement history stalls waits growth facts "
    "limiters guard worker target servers served proxy faketime verdict judge"
)
REST = "child replies workers environment case cases hangs report grading"
KIT_ROOMS = [*BASE.split(), *REST.split()]


def test_every_room_is_drawn():
    rooms = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in PACKAGE.rglob("*.py")}
    assert rooms - {"__init__"} == set(ROOMS)


def test_arrows_point_inward():
    for file in PACKAGE.rglob("*.py"):
        room = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if room != "__init__":
            for name in imported(file):
                assert name.split(".")[1] in ROOMS[room], f"{file.name} imports {name}"


def test_the_service_uses_public_names_alone():
    for file in (ROOT / "app").glob("*.py"):
        for name in imported(file):
            assert not any(part.startswith("_") and part != "__version__" for part in name.split(".")), name


def test_arrows_point_inward_in_the_proof_kit_too_and_its_worker_imports_nothing_of_the_package():
    kit = PACKAGE / "proof"
    for file in kit.rglob("*.py"):
        room = file.relative_to(kit).parts[0].removesuffix(".py")
        if room != "__init__":
            may = [] if room == "worker" else KIT_ROOMS[: KIT_ROOMS.index(room) + 1]
            for name in imported(file):
                assert name.split(".")[2] in may, f"{file.name} imports {name}"


def imported(file: Path) -> list[str]:
    """List what a file imports of this package."""
    names = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("sluicegate"):
            outer = node.module in ("sluicegate", "sluicegate.proof")
            names += [f"{node.module}.{alias.name}" for alias in node.names] if outer else [node.module]
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names if alias.name.startswith("sluicegate")]
    return names


# Where times are kept in whole nanoseconds, or pass from there to microseconds.
EXACT = [*PACKAGE.glob("_algorithms/*.py"), *PACKAGE.glob("_stores/memory/*.py"), PACKAGE / "_stores/redis/denials.py"]
TIMES = re.compile(
    r"(?:^|_)(?:now|at|since|until|stamp|cutoff|newest|oldest|grain|window|wait|passed|elapsed|ahead|left|start|end|expires"
    r"|retry_after|reset_after|empty_after|due|swept|sent|replied|forgotten|leaving|edges|span|ticks)$"
)


@pytest.mark.parametrize("file", EXACT, ids=lambda file: file.name)
def test_a_name_that_holds_a_time_ends_in_its_unit(file: Path):
    assert [name for name in defined(file) if TIMES.search(name)] == []


def defined(file: Path) -> Iterator[str]:
    """Yield the names that a file gives to values and to functions that return one."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.FunctionDef):
            yield node.name
