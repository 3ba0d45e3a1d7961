"""The one door of the package, and what it needs to open."""

from __future__ import annotations

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


def test_every_policy_is_a_policy_by_its_public_name():
    kinds = (sluicegate.SlidingWindow, sluicegate.TokenBucket, sluicegate.FixedWindow, sluicegate.CalendarWindow)
    assert "Policy" in sluicegate.__all__
    assert all(issubclass(kind, sluicegate.Policy) for kind in kinds)
    with pytest.raises(TypeError, match="abstract"):
        sluicegate.Policy()


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
