"""Whether two SymPy objects mean the same; runs in a worker process.

An ordered tuple never equals a set, nor an interval the set of its ends, nor an equation the value
of its right side, unless its left side is a name. `(1,2)` is a pair or an open interval, according
to the other side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sympy import Expr, FiniteSet, Interval, MatrixBase, S, Set, Tuple, Union

from evals.grading.equality.relations import is_relation, members, named_value, same_relation
from evals.grading.equality.values import has_value, same_value

__all__ = ["agree", "is_defined"]


def agree(left: Any, right: Any) -> bool:
    """Whether two objects, as read by `equivalence`, mean the same."""
    if is_relation(left) and is_relation(right):
        return _same_relation(left, right)
    left, right = (_values(side) if is_relation(side) else side for side in (left, right))
    if isinstance(left, MatrixBase) or isinstance(right, MatrixBase):
        return _same_matrix(left, right)
    if isinstance(left, Expr) and isinstance(right, Expr):
        return same_value(left, right)
    if isinstance(left, Expr | Set | Tuple) and isinstance(right, Expr | Set | Tuple):
        return _same_collection(left, right)
    return False


def is_defined(side: Any) -> bool:
    """Whether every number in it has a value; nothing agrees with an undefined object."""
    if isinstance(side, MatrixBase | Tuple | FiniteSet):
        return all(map(is_defined, side))
    return not isinstance(side, Expr) or has_value(side)


def _same_relation(left: Any, right: Any) -> bool:
    left_value, right_value = named_value(left), named_value(right)
    if left_value and right_value and left_value[0] == right_value[0]:
        return agree(left_value[1], right_value[1])
    if same_relation(left, right):
        return True
    if (left_value and right_value) or left.free_symbols != right.free_symbols:
        return False
    left, right = _values(left), _values(right)
    return isinstance(left, Set) and isinstance(right, Set) and _same_collection(left, right)


def _values(relation: Any) -> Any:
    """The values of a relation's variable: a named value, or the set of an inequality."""
    named = named_value(relation)
    return named[1] if named else members(relation)


def _same_matrix(left: Any, right: Any) -> bool:
    if not isinstance(left, MatrixBase) or not isinstance(right, MatrixBase):
        return False
    return left.shape == right.shape and _same_in_order(left.flat(), right.flat())


def _same_collection(left: Any, right: Any) -> bool:
    left, right = _collection(left), _collection(right)
    if isinstance(left, Tuple) or isinstance(right, Tuple):
        left, right = _in_order(left), _in_order(right)
        return left is not None and right is not None and _same_in_order(left, right)
    if isinstance(left, Interval) and isinstance(right, Interval):
        return (left.left_open, left.right_open) == (right.left_open, right.right_open) and (
            _same_in_order((left.start, left.end), (right.start, right.end))
        )
    for kind in (FiniteSet, Union):
        if isinstance(left, kind) and isinstance(right, kind):
            return _same_elements(left.args, right.args)
    return bool(left == right)


def _collection(side: Any) -> Any:
    if isinstance(side, Expr):
        return FiniteSet(side)
    if side == S.Reals:
        return Interval(-S.Infinity, S.Infinity)
    is_computed = isinstance(side, Tuple | FiniteSet | Interval)
    return side if is_computed else side.doit()


def _in_order(side: Any) -> Sequence[Any] | None:
    if isinstance(side, Tuple):
        return tuple(side)
    is_pair = isinstance(side, Interval) and side.left_open and side.right_open
    return (side.start, side.end) if is_pair else None


def _same_in_order(left: Sequence[Any], right: Sequence[Any]) -> bool:
    return len(left) == len(right) and all(map(agree, left, right))


def _same_elements(left: Sequence[Any], right: Sequence[Any]) -> bool:
    """Whether every element has an equal element on the other side."""
    return all(any(agree(a, b) for b in right) for a in left) and all(
        any(agree(a, b) for a in left) for b in right
    )
