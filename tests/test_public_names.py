"""The one door of the package, and what it needs to open."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import sluicegate

PACKAGE = Path(sluicegate.__file__).parent


def test_every_public_name_can_be_imported_and_no_other_is_listed():
    for name in sluicegate.__all__:
        assert getattr(sluicegate, name).__module__.split(".")[0] == "sluicegate", name
    assert sorted(sluicegate.__all__) == sluicegate.__all__
    assert dir(sluicegate) == sluicegate.__all__
    with pytest.raises(AttributeError, match="module 'sluicegate' has no attribute 'Bucket'"):
        sluicegate.Bucket  # noqa: B018


@pytest.mark.parametrize("module", ["sluicegate.testing"])
def test_the_all_of_a_module_is_true(module: str):
    made = importlib.import_module(module)
    public = {
        name for name, value in vars(made).items() if getattr(value, "__module__", "") == module and name[0] != "_"
    }
    assert set(made.__all__) <= public


def test_the_core_needs_no_dependency():
    code = (
        "import sys; before = set(sys.modules); import sluicegate; "
        "sluicegate.Limiter(sluicegate.SlidingWindow(1, window=1)).allow('a'); "
        "print(*{name.split('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    loaded = [name for name in loaded if not name.startswith("_sysconfigdata")]  # Python's own, one for each platform
    assert loaded == ["sluicegate"]


def test_without_the_driver_the_redis_stores_say_which_extra_to_install():
    code = (
        "import sys; sys.modules['redis'] = None\n"
        "import sluicegate\n"
        "for ask in (lambda: sluicegate.RedisStore, lambda: sluicegate.Limiter(sluicegate.SlidingWindow(1, window=1), "
        "store='redis://localhost')):\n"
        "    try: ask()\n"
        "    except ImportError as error: print(error)\n"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.splitlines() == ["the Redis stores need redis-py and hiredis: pip install 'sluicegate[redis]'"] * 2


# Arrows point inward: what each room may import, of the rooms of this package.
ROOMS = {
    "_core": {"_core"},
    "testing": {"_core"},
    "stores": {"_stores", "_core"},
    "_algorithms": {"_algorithms", "_core"},
    "_stores": {"_stores", "_algorithms", "_core"},
    "_limiter": {"_limiter", "_stores", "_core"},
    "web": {"web", "_limiter", "_core"},
    "proof": {"proof"},  # it grades from outside
    "_cli": {"_cli", "proof", "__version__"},
    "__main__": {"_cli"},
}

# And in the proof kit each room may import those that stand before it.
BASE = "text rubric requirement history growth facts target servers proxy faketime verdict judge"
REST = "worker child replies workers environment case cases report grading"
KIT_ROOMS = [*BASE.split(), *REST.split()]


def test_arrows_point_inward():
    for file in PACKAGE.rglob("*.py"):
        room = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if room != "__init__":
            for name in imported(file):
                assert name.split(".")[1] in ROOMS[room], f"{file.name} imports {name}"


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
