"""What the statements of a program define, what they need, and which only try it."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator

from evals.grading.programs.blocks import parsed

__all__ = ["all_names", "definition", "missing", "names", "without_usage"]


def all_names(body: list[ast.stmt]) -> set[str]:
    return set[str]().union(*map(names, body))


def names(node: ast.stmt) -> set[str]:
    """The names that a statement gives a value where it stands."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
    if isinstance(node, ast.If):
        return all_names(node.body) | all_names(node.orelse)
    if isinstance(node, ast.Try):
        return all_names([*node.body, *node.orelse, *node.finalbody])
    targets = node.targets if isinstance(node, ast.Assign) else []
    if isinstance(node, ast.AnnAssign) and node.value is not None:
        targets = [node.target]
    return {target.id for target in targets if isinstance(target, ast.Name)}


def missing(body: list[ast.stmt]) -> set[str]:
    """Names that statements read and nothing in them, nor Python, gives a value."""
    read = {
        node.id
        for node in _nodes(body)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }
    return read - _given(body) - set(dir(builtins))


def _given(body: list[ast.stmt]) -> set[str]:
    """Names that statements, and what they hold, give a value."""
    given = set[str]()
    for node in _nodes(body):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            given.add(node.id)
        elif isinstance(node, ast.arg):
            given.add(node.arg)
        elif isinstance(node, ast.stmt):
            given |= names(node)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            given.add(node.name)
    return given


def _nodes(body: list[ast.stmt]) -> Iterator[ast.AST]:
    return (node for statement in body for node in ast.walk(statement))


def definition(body: list[ast.stmt], entry_point: str) -> int | None:
    """The index of the last statement that says what the function does."""
    for index, node in reversed(list(enumerate(body))):
        if entry_point in names(node) and not _is_hollow(node, entry_point):
            return index
    return None


def _is_hollow(node: ast.stmt, entry_point: str) -> bool:
    """Whether a statement that names the function imports it, reads it or does nothing."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return all(map(_does_nothing, node.body))
    if isinstance(node, ast.Assign | ast.AnnAssign):
        return _reads(node, entry_point)
    return isinstance(node, ast.Import | ast.ImportFrom)


def _does_nothing(node: ast.stmt) -> bool:
    """A docstring, pass, ... or raise."""
    is_constant = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return is_constant or isinstance(node, ast.Pass | ast.Raise)


def _reads(node: ast.AST, name: str) -> bool:
    found = (each for each in ast.walk(node) if isinstance(each, ast.Name))
    return any(each.id == name and isinstance(each.ctx, ast.Load) for each in found)


def _calls(node: ast.AST, name: str) -> bool:
    calls = (each.func for each in ast.walk(node) if isinstance(each, ast.Call))
    return any(isinstance(called, ast.Name) and called.id == name for called in calls)


def without_usage(source: str, entry_point: str) -> str:
    """The source up to the statements that try the function, unless it needs what they give."""
    tree = parsed(source)
    place = definition(tree.body, entry_point) if tree else None
    if tree is None or place is None:
        return source
    needed = missing(tree.body[: place + 1])
    start = _first_usage(tree.body, place + 1, entry_point, needed)
    kept, rest = tree.body[:start], tree.body[start:]
    if not rest or rest[0].lineno <= (kept[-1].end_lineno or 0) or _given(rest) & missing(kept):
        return source
    return "\n".join(re.split(r"\r?\n", source)[: rest[0].lineno - 1]).rstrip()


def _first_usage(body: list[ast.stmt], start: int, entry_point: str, needed: set[str]) -> int:
    """The index of the first statement, from `start` on, that tries the function.

    Values that nothing but the trial uses belong to it.
    """
    while start < len(body) and not _is_usage(body[start], entry_point):
        start += 1
    if start == len(body):
        return start
    while isinstance(body[start - 1], ast.Assign) and not names(body[start - 1]) & {
        entry_point,
        *needed,
    }:
        start -= 1
    return start


def _is_usage(node: ast.stmt, entry_point: str) -> bool:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return False
    if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
        return node.value is not None and _calls(node.value, entry_point)
    return _reads(node, entry_point)
