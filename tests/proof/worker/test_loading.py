"""How a worker loads a target: its name, its imports, its package, and the errors for one that cannot be graded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from proof.answers import text_answered
from proof.targets import written
from sluicegate.proof import worker as worker_package
from sluicegate.proof.target import parse
from sluicegate.proof.workers import TargetFailed, Worker

WORKER = Path(worker_package.__file__).parent


def test_modules_beside_the_target_may_have_the_names_of_the_worker_s_files(tmp_path: Path):
    names = [path.stem for path in WORKER.glob("*.py") if not path.stem.startswith("__")]
    assert {"clocks", "scenario", "commands"} <= set(names)
    for name in [*names, "worker", "sluicegate"]:
        (tmp_path / f"{name}.py").write_text(f"NAME = 'own {name}'")
    imports = "\n".join(
        f"import {name}; assert {name}.NAME == 'own {name}'" for name in [*names, "worker", "sluicegate"]
    )
    source = "class Limiter:\n    def __init__(self, n, t): ...\n    def allow(self, user_id): return 'imported'\n"
    assert text_answered(written(tmp_path, f"{imports}\n{source}")) == "imported"


@pytest.mark.parametrize("name", ["clocks", "scenario", "commands", "descriptions"])
def test_the_target_itself_may_have_the_name_of_one_of_the_worker_s_files(tmp_path: Path, name: str):
    (tmp_path / f"{name}.py").write_text(
        "import sys\nclass Limiter:\n    def __init__(self, n, t): ...\n    def allow(self, user_id): return __name__\n"
    )
    assert text_answered(parse(f"{tmp_path / name}.py:Limiter")) == name


def test_a_target_finds_neither_sluicegate_nor_arguments_in_its_process(tmp_path: Path):
    target = written(
        tmp_path,
        """
        import sys
        found = [name for name in sys.modules if name == "sluicegate" or name.startswith("sluicegate.")]
        class Limiter:
            def __init__(self, limit, window): ...
            def allow(self, user_id):
                return f"{found} {sys.argv[1:]} {any('sluicegate/proof' in path for path in sys.path)}"
        """,
    )
    assert text_answered(target) == "[] [] False"


def test_a_file_in_a_package_is_imported_as_a_part_of_it(tmp_path: Path):
    package = tmp_path / "app" / "limits"
    package.mkdir(parents=True)
    for folder in (tmp_path / "app", package):
        (folder / "__init__.py").touch()
    (tmp_path / "app" / "config.py").write_text("WHO = 'config'")
    (package / "memory.py").write_text(
        "from ..config import WHO\nclass Limiter:\n    def __init__(self, n, t): ...\n"
        "    def allow(self, user_id): return f'{__name__} {WHO}'\n"
    )
    assert text_answered(parse(f"{package / 'memory.py'}:Limiter")) == "app.limits.memory config"


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("Limiter = 7", "the target is not a class or factory: Limiter is of type int"),
        (
            "def Limiter(limit, window, redis_url, more): ...",
            "must accept the call Limiter(limit, window_seconds, redis_url): missing a required argument: 'more'",
        ),
        (
            "def helper(): ...\nclass SlidingWindow:\n    def allow(self): ...\n",
            "the target has no Limiter in target.py; it has SlidingWindow",
        ),
        ("def make(limit, window): ...", "the target has no Limiter in target.py; it has make"),
        ("def Limiter(limit, window): ...", "the target has no method allow(user_id): Limiter"),
        (
            "def Limiter(limit, window):\n    from json import loads\n    return loads('[')",
            "the target raised JSONDecodeError: Expecting value: line 1 column 2 (char 1) at target.py, line 3",
        ),
        ("\n\nif True:\nLimiter = 1", "expected an indented block after 'if' statement on line 3 at target.py, line 4"),
    ],
    ids=["number", "arguments", "no such class", "no such factory", "nothing", "raises", "syntax"],
)
def test_a_target_that_cannot_be_graded_is_reported_with_the_place(tmp_path: Path, source: str, says: str):
    with Worker(written(tmp_path, source), patience=10) as worker, pytest.raises(TargetFailed) as failure:
        worker.load(3, 1.0, redis_url="redis://127.0.0.1:1/0")
    assert str(failure.value).endswith(says)


def test_the_protocol_names_every_command():
    commands = (WORKER / "commands.py").read_text()
    described = (WORKER / "__init__.py").read_text()
    names = [line.split("(")[0].split()[1] for line in commands.splitlines() if line.startswith("    def ")]
    assert {name for name in names if not name.startswith("_")} == {
        line.split()[0] for line in described.splitlines() if line.startswith("    ") and line[4:5].strip()
    }


def test_the_worker_imports_nothing_but_the_standard_library():
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import worker.commands; "
        "print(sorted({name.partition('.')[0] for name in sys.modules} - set(sys.stdlib_module_names) - {'__main__'}))"
    )
    command = [sys.executable, "-I", "-S", "-c", script, str(WORKER.parent)]
    assert subprocess.check_output(command, text=True).strip() == "['worker']"
