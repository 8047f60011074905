"""Answers that the library may read: some of its scorers evaluate an answer as Python.

Scorers of expressions call SymPy's `parse_expr`, and scorers of lists `eval`. An answer passes if
it holds nothing but numbers, names, operators, known functions and lists, so that evaluating it
runs no code of the model's. It may still take long, which is why scorers run in workers.
"""

from __future__ import annotations

import ast

__all__ = ["is_plain"]

EXPRESSIONS = frozenset(
    {
        "countdown",
        "intermediate_integration",
        "polynomial_multiplication",
        "puzzle24",
        "simple_integration",
    }
)
"""Data sets whose scorers call `parse_expr`."""

LISTS = frozenset({"binary_matrix", "n_queens", "spiral_matrix", "string_insertion"})
"""Data sets whose scorers call `eval` on a text that is no right answer, for partial credit."""

FUNCTIONS = frozenset(
    {"Abs", "Integral", "Rational", "exp", "ln", "log", "sqrt"}
    | {name + end for name in ("sin", "cos", "tan") for end in ("", "h")}
    | {f"a{name}{end}" for name in ("sin", "cos", "tan") for end in ("", "h")}
    | {"sec", "csc", "cot"}
)
MAX_CHARACTERS = 2_000

_SHARED = (ast.Expression, ast.BinOp, ast.UnaryOp, ast.operator, ast.unaryop, ast.Name, ast.Load)


def is_plain(name: str, answer: str) -> bool:
    """Whether the scorer of a data set may be given an answer."""
    if name not in EXPRESSIONS | LISTS:
        return True
    if len(answer) > MAX_CHARACTERS:
        return False
    try:
        tree = ast.parse(answer.strip(), mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        # Python cannot evaluate it; `parse_expr` transforms a text before that.
        return name in LISTS
    is_allowed = _is_in_list if name in LISTS else _is_in_expression
    return all(is_allowed(node) for node in ast.walk(tree))


def _is_in_list(node: ast.AST) -> bool:
    return isinstance(node, (*_SHARED, ast.Constant, ast.List, ast.Tuple))


def _is_in_expression(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return type(node.value) in (int, float)
    if isinstance(node, ast.Call):
        is_known = isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS
        return is_known and not node.keywords
    return isinstance(node, _SHARED)
