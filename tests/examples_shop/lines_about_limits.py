"""Which lines of a package's source are about limits, by its syntax tree.

A name is about limits if it is ``limits``, comes from sluicegate, or is assigned by a statement that is about limits;
so is every name of a function that nothing but limits use. A line is about limits if it belongs to

- an import of such a name;
- a decorator, or an argument of a function or of a call, that has such a name or a rate string in it;
- any other statement that has, or the head of one that has a body, such as ``async for``;
- a function that nothing but limits use.

Blank lines, comments and docstrings are none, but for those inside of such a piece.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from sluicegate import InvalidRate, parse_rates

Line = tuple[str, int]

Trees = dict[str, ast.Module]


def lines_about_limits(package: Path) -> dict[Line, str]:
    """Return the lines of a package, without its tests, that are about limits: file and number, and the text."""
    files = [path for path in sorted(package.rglob("*.py")) if "tests" not in path.relative_to(package).parts]
    trees = {str(path.relative_to(package)): ast.parse(path.read_text()) for path in files}
    names = _names(trees)
    texts = {name: (package / name).read_text().splitlines() for name in trees}
    found = {
        (name, number)
        for name, tree in trees.items()
        for piece in _pieces(tree, names)
        for number in range(piece.lineno, piece.end_lineno + 1)
    }
    return {(name, number): texts[name][number - 1] for name, number in sorted(found)}


def _names(trees: Trees) -> set[str]:
    """Return the names that are about limits."""
    names = {"limits"}
    while True:
        more = names | {name for tree in trees.values() for name in _made_of(tree, names)} | _only_used_by(trees, names)
        if more == names:
            return names
        names = more


def _made_of(tree: ast.Module, names: set[str]) -> Iterator[str]:
    """Yield what is imported from sluicegate, and what is assigned at the top of a module and is about limits."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not node.level and _is_ours(node.module or ""):
            yield from (alias.asname or alias.name for alias in node.names)
    for node in tree.body:
        # An app, a router or a route is more than its limits: these are arguments of its call.
        if isinstance(node, ast.Assign) and not _is_of_others(node.value, names) and _mentions(node.value, names):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def _only_used_by(trees: Trees, names: set[str]) -> set[str]:
    """Return the functions at the top of modules that are used, and only in pieces that are about limits."""
    functions = {node.name for tree in trees.values() for node in tree.body if isinstance(node, _FUNCTIONS)}
    everywhere, there = Counter[str](), Counter[str]()
    for tree in trees.values():
        everywhere.update(_used(tree))
        for piece in _pieces(tree, names):
            there.update(_used(piece))
    return {name for name in functions if everywhere[name] and everywhere[name] == there[name]}


def _used(node: ast.AST) -> list[str]:
    return [each.id for each in ast.walk(node) if isinstance(each, ast.Name)]


_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_IMPORTS = (ast.Import, ast.ImportFrom)
_BODIES = ("body", "orelse", "finalbody", "handlers", "cases")


def _pieces(node: ast.AST, names: set[str]) -> Iterator[ast.AST]:
    """Yield the smallest parts of a module that are about limits."""
    if isinstance(node, _IMPORTS):
        yield from [node] if _imports_limits(node, names) else ()
    elif isinstance(node, _FUNCTIONS) and node.name in names:
        yield node
    elif hasattr(node, "body"):
        bodies = [part for field in _BODIES for part in getattr(node, field, ())]
        yield from (part for part in _heads(node) if part not in bodies and _mentions(part, names))
        for part in bodies:
            yield from _pieces(part, names)
    elif _mentions(node, names):
        call = getattr(node, "value", None)
        yield from _arguments(call, names) if _is_of_others(call, names) and not _makes(node, names) else [node]


def _imports_limits(node: ast.Import | ast.ImportFrom, names: set[str]) -> bool:
    if isinstance(node, ast.ImportFrom) and not node.level and _is_ours(node.module or ""):
        return True
    return any(_is_ours(alias.name) or (alias.asname or alias.name) in names for alias in node.names)


def _heads(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the parts of a statement that has a body; of a function each argument and each default by itself."""
    for part in ast.iter_child_nodes(node):
        yield from ast.iter_child_nodes(part) if isinstance(part, ast.arguments) else [part]


def _is_of_others(call: ast.AST | None, names: set[str]) -> bool:
    """Return whether something is a call of a function that is not about limits: of its arguments some may be."""
    return isinstance(call, ast.Call) and ast.unparse(call.func) != "Depends" and not _mentions(call.func, names)


def _makes(node: ast.AST, names: set[str]) -> bool:
    return isinstance(node, ast.Assign) and any(
        isinstance(each, ast.Name) and each.id in names for each in node.targets
    )


def _arguments(call: ast.Call, names: set[str]) -> Iterator[ast.AST]:
    yield from (part for part in (*call.args, *call.keywords) if _mentions(part, names))


def _mentions(node: ast.AST, names: set[str]) -> bool:
    return any(
        (isinstance(each, ast.Name) and each.id in names)
        or (isinstance(each, ast.Constant) and isinstance(each.value, str) and _is_rate(each.value))
        for each in ast.walk(node)
    )


def _is_rate(text: str) -> bool:
    try:
        parse_rates(text)
    except InvalidRate:
        return False
    return True


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] == "sluicegate"
