"""Arithmetic with matrices; runs in a worker process."""

from __future__ import annotations

import operator
from functools import reduce
from typing import Any

from sympy import Add, Basic, MatAdd, MatMul, MatPow, MatrixBase, Mul, Pow, preorder_traversal
from sympy.matrices.exceptions import MatrixError

__all__ = ["evaluate_matrices"]


def evaluate_matrices(side: Any) -> Any | None:
    """An expression with matrices as a single matrix, other objects unchanged; None if undefined.

    SymPy's `doit` recurses without end in a product of a fraction and a matrix.
    """
    if isinstance(side, MatrixBase) or not _has_matrix(side):
        return side
    parts: list[Any] = [evaluate_matrices(part) for part in side.args]
    try:
        if isinstance(side, Mul | MatMul):
            return reduce(operator.mul, parts)
        if isinstance(side, Add | MatAdd):
            return reduce(operator.add, parts)
        if isinstance(side, Pow | MatPow):
            return parts[0] ** parts[1]
    except (MatrixError, TypeError, ValueError):
        return None  # the shapes do not fit, or there is no inverse
    return side.func(*parts)


def _has_matrix(side: Any) -> bool:
    if not isinstance(side, Basic):
        return False
    return any(isinstance(part, MatrixBase) for part in preorder_traversal(side))
