"""`limiters`: the classes and factories in a file that can be graded. The file is parsed, and no code of it is run."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from pathlib import Path

_Function = ast.FunctionDef | ast.AsyncFunctionDef

_ARGUMENTS = range(2, 4)  # limit and window_seconds, and a Redis URL if it takes one


def limiters(path: Path) -> list[str]:
    """Return their names in the order of the file: public classes that have ``allow``, and functions that return one.

    Both must accept the call ``Name(limit, window_seconds)``, or with a Redis URL as third argument, as far as the file
    shows.

    Raises:
        OSError: It cannot be read.
        SyntaxError, ValueError: It is not a Python file.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the code, which is not ours
        tree = ast.parse(path.read_bytes())
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    return [
        node.name
        for node in tree.body
        if isinstance(node, ast.ClassDef | _Function) and not node.name.startswith("_")
        if (_is_limiter(node, classes) if isinstance(node, ast.ClassDef) else _is_factory(node, classes))
    ]


def _is_limiter(node: ast.ClassDef, classes: dict[str, ast.ClassDef]) -> bool:
    if "allow" not in {method.name for method in _methods(node, classes)} or "Protocol" in map(_name, node.bases):
        return False
    constructor = next((method for method in _methods(node, classes) if method.name == "__init__"), None)
    if constructor is None:  # as a dataclass, or a class whose base is elsewhere
        return bool(node.decorator_list or any(_name(base) not in classes for base in node.bases))
    return _accepts_the_call(constructor, bound=1)


def _is_factory(node: _Function, classes: dict[str, ast.ClassDef]) -> bool:
    made = [_name(node.returns)]
    made += [
        _name(each.value.func)
        for each in ast.walk(node)
        if isinstance(each, ast.Return) and isinstance(each.value, ast.Call)
    ]
    return _accepts_the_call(node) and any(
        "allow" in {method.name for method in _methods(classes[name], classes)} for name in made if name in classes
    )


def _methods(node: ast.ClassDef, classes: dict[str, ast.ClassDef], depth: int = 0) -> Iterator[_Function]:
    """Yield the methods of a class, then those of its bases in the file."""
    yield from (each for each in node.body if isinstance(each, _Function))
    for base in node.bases if depth < len(classes) else ():  # a class may name itself as its base
        if _name(base) in classes:
            yield from _methods(classes[_name(base)], classes, depth + 1)


def _accepts_the_call(function: _Function, bound: int = 0) -> bool:
    taken = function.args
    most = len(taken.posonlyargs) + len(taken.args) - bound
    needed = most - len(taken.defaults)
    keywords = sum(default is None for default in taken.kw_defaults)
    return keywords == 0 and needed <= _ARGUMENTS[-1] and (taken.vararg is not None or most >= _ARGUMENTS[0])


def _name(node: ast.expr | None) -> str:
    """Return the name that an expression ends with: of ``limiters.Exact[str]`` that is ``Exact``."""
    while isinstance(node, ast.Subscript):
        node = node.value
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
