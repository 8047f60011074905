"""Names that the statements of a program define and need, and statements that only try it."""

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
    """The names that a statement binds in its scope."""
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
    """Names that statements read and neither they nor Python bind."""
    read = {
        node.id
        for node in _nodes(body)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }
    return read - _bound(body) - set(dir(builtins))


def _bound(body: list[ast.stmt]) -> set[str]:
    """Names that statements bind, nested statements included."""
    bound = set[str]()
    for node in _nodes(body):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            bound.add(node.id)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, ast.stmt):
            bound |= names(node)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            bound.add(node.name)
    return bound


def _nodes(body: list[ast.stmt]) -> Iterator[ast.AST]:
    return (node for statement in body for node in ast.walk(statement))


def definition(body: list[ast.stmt], entry_point: str) -> int | None:
    """The index of the last statement that defines what the function does."""
    for index, node in reversed(list(enumerate(body))):
        if entry_point in names(node) and not _is_hollow(node, entry_point):
            return index
    return None


def _is_hollow(node: ast.stmt, entry_point: str) -> bool:
    """Whether a statement that binds the function only imports it, reads it or does nothing."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return all(map(_does_nothing, node.body))
    if isinstance(node, ast.Assign | ast.AnnAssign):
        return _reads(node, entry_point)
    return isinstance(node, ast.Import | ast.ImportFrom)


def _does_nothing(node: ast.stmt) -> bool:
    """Whether it is a docstring, pass, ... or raise."""
    is_constant = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return is_constant or isinstance(node, ast.Pass | ast.Raise)


def _reads(node: ast.AST, name: str) -> bool:
    nodes = (child for child in ast.walk(node) if isinstance(child, ast.Name))
    return any(child.id == name and isinstance(child.ctx, ast.Load) for child in nodes)


def _calls(node: ast.AST, name: str) -> bool:
    functions = (child.func for child in ast.walk(node) if isinstance(child, ast.Call))
    return any(isinstance(called, ast.Name) and called.id == name for called in functions)


def without_usage(source: str, entry_point: str) -> str:
    """The source up to the statements that try the function, unless it needs names they bind."""
    tree = parsed(source)
    index = definition(tree.body, entry_point) if tree else None
    if tree is None or index is None:
        return source
    needed = missing(tree.body[: index + 1])
    start = _first_usage(tree.body, index + 1, entry_point, needed)
    kept, rest = tree.body[:start], tree.body[start:]
    if not rest or rest[0].lineno <= (kept[-1].end_lineno or 0) or _bound(rest) & missing(kept):
        return source
    return "\n".join(re.split(r"\r?\n", source)[: rest[0].lineno - 1]).rstrip()


def _first_usage(body: list[ast.stmt], start: int, entry_point: str, needed: set[str]) -> int:
    """The index of the first statement, from `start` on, that tries the function.

    Assignments before it that only the trial uses belong to the trial.
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
