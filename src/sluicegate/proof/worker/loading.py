"""Import the target from its file or module, and check how it can be constructed."""

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from .descriptions import Unusable, parameters

_ARGUMENTS = ("limit", "window_seconds", "redis_url")
_SUGGESTED = 5  # names from the module that an error about a missing name lists


def find(where: Mapping[str, str]) -> tuple[Any, str]:
    """Import the target; return the object of that name, and the file that it is in.

    Args:
        where: ``file`` or ``module``, and ``name``.

    Raises:
        Unusable: The module has no such name.
        Exception: Any error that the import raises.
    """
    if "file" in where:
        module, path = _import_file(Path(where["file"])), where["file"]
    else:
        sys.path.insert(0, str(Path.cwd()))
        module = importlib.import_module(where["module"])
        path = getattr(module, "__file__", None) or ""
    if not hasattr(module, where["name"]):
        raise Unusable(f"has no {where['name']} in {Path(path).name or where['module']}{_suggestions(module)}")
    return getattr(module, where["name"]), path


def _suggestions(module: ModuleType) -> str:
    defined_here = {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and callable(value) and getattr(value, "__module__", None) == module.__name__
    }
    names = [name for name, value in defined_here.items() if hasattr(value, "allow")] or list(defined_here)
    further = f" and {len(names) - _SUGGESTED} more" if len(names) > _SUGGESTED else ""
    return f"; it has {', '.join(names[:_SUGGESTED])}{further}" if names else ""


def _import_file(path: Path) -> ModuleType:
    folder, package = path.parent, [path.stem]
    while (folder / "__init__.py").exists():
        package.insert(0, folder.name)
        folder = folder.parent
    # The folder of the file, for its sibling modules; and the working directory, for `import app.config`.
    sys.path[:0] = [str(folder), str(Path.cwd())]
    if len(package) > 1:
        return importlib.import_module(".".join(package))
    sys.path.insert(2, str(folder.parent))
    spec = importlib.util.spec_from_file_location(package[0], path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[package[0]] = module
    spec.loader.exec_module(module)
    return module


def takes_redis(factory: object) -> bool:
    """Tell whether the third argument is a Redis URL: by its name, or because it has no default."""
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    taken = [each for each in parameters(factory).values() if each.kind in positional]
    if len(taken) < 3:
        return False
    third = taken[2]
    return "redis" in third.name.lower() or "url" in third.name.lower() or third.default is inspect.Parameter.empty


def check_call(name: str, factory: object, arguments: list[object]) -> None:
    """Raise `Unusable` if the target cannot be called with these arguments."""
    if not callable(factory):
        raise Unusable(f"is not a class or factory: {name} is of type {type(factory).__name__[:100]}")
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):  # Python cannot tell
        return
    try:
        signature.bind(*arguments)
    except TypeError as error:
        expected = ", ".join(_ARGUMENTS[: len(arguments)])
        raise Unusable(f"must accept the call {name}({expected}): {error}") from None
