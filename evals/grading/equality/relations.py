"""Whether two equations or inequalities are equivalent; runs in a worker process."""

from __future__ import annotations

from typing import Any

from sympy import (
    Add,
    And,
    Basic,
    Dummy,
    Eq,
    Expr,
    GreaterThan,
    LessThan,
    Mul,
    Ne,
    S,
    Set,
    StrictGreaterThan,
    StrictLessThan,
    Symbol,
    solve,
)
from sympy.core.function import AppliedUndef
from sympy.core.relational import Relational

from evals.grading.equality.evaluation import TooLargeError, UndefinedError, evaluate
from evals.grading.equality.values import exact, points, same_value

__all__ = ["is_relation", "members", "named_value", "same_relation"]

_MIRRORED = {GreaterThan: LessThan, StrictGreaterThan: StrictLessThan}
_SYMMETRIC = (Eq, Ne)


def is_relation(side: Any) -> bool:
    """Whether it is an equation, an inequality or a chain of them."""
    return isinstance(side, Relational | And)


def named_value(relation: Basic) -> tuple[Basic, Basic] | None:
    """The name and the value of `x = 5`, `f(x) = 2x`, `(x, y) = (1, 2)`; None for others."""
    if not isinstance(relation, Eq) or not _is_name(relation.lhs):
        return None
    return relation.lhs, relation.rhs


def members(relation: Basic) -> Set | None:
    """The real numbers for which an inequality in a single variable holds; None if unknown."""
    if relation.has(Eq) or len(relation.free_symbols) != 1:
        return None
    (name,) = relation.free_symbols
    try:
        solutions: Set = exact(relation).xreplace({name: Dummy(real=True)}).as_set()
    except (NotImplementedError, TypeError, ValueError, AttributeError):
        return None  # SymPy cannot solve it
    return S.Reals if solutions == S.UniversalSet else solutions


def same_relation(left: Basic, right: Basic) -> bool:
    """Whether both have the same parts, up to constant factors, or the same solutions."""
    if left.free_symbols != right.free_symbols:
        return False
    left_parts, right_parts = _parts(left), _parts(right)
    if None in left_parts or None in right_parts:
        return False
    if all(any(_proportional(a, b) for b in right_parts) for a in left_parts) and all(
        any(_proportional(a, b) for a in left_parts) for b in right_parts
    ):
        return True
    is_single = len(left_parts) == len(right_parts) == 1
    return is_single and _have_same_solutions(left_parts[0], right_parts[0])


def _is_name(side: Basic) -> bool:
    if isinstance(side, Symbol | AppliedUndef):
        return True
    is_tuple = bool(side.args) and not isinstance(side, Expr)
    return is_tuple and all(isinstance(part, Symbol) for part in side.args)


def _parts(relation: Basic) -> list[Any]:
    """Relations as `(kind, left − right)`; None for a relation that is not of numbers."""
    if isinstance(relation, And):
        chained = getattr(relation, "_unsorted_args", relation.args)
        return [part for link in chained for part in _parts(link)]
    if not isinstance(relation, Relational):
        return [None]
    low, high, kind = relation.lhs, relation.rhs, type(relation)
    if kind in _MIRRORED:
        low, high, kind = high, low, _MIRRORED[kind]
    if not (isinstance(low, Expr) and isinstance(high, Expr)):
        return [None]
    return [(kind, exact(Add(low, Mul(-1, high, evaluate=False), evaluate=False)))]


def _proportional(left: tuple[type, Expr], right: tuple[type, Expr]) -> bool:
    """Whether the parts differ by a constant factor, positive unless they are equations."""
    if left[0] is not right[0]:
        return False
    for point in points(left[1]):
        try:
            (left_value, right_value), _ = evaluate([left[1], right[1]], point)
        except (UndefinedError, TooLargeError):
            continue
        if left_value and right_value:
            is_allowed = left[0] in _SYMMETRIC or (left_value / right_value).real > 0
            return bool(is_allowed) and same_value(
                Mul(left[1], right[1].subs(point), evaluate=False),
                Mul(right[1], left[1].subs(point), evaluate=False),
            )
    return False


def _have_same_solutions(left: tuple[type, Expr], right: tuple[type, Expr]) -> bool:
    """Whether two equations of polynomials, or their quotients, have the same solutions."""
    if left[0] is not Eq or right[0] is not Eq:
        return False
    names = left[1].free_symbols
    if not all(side[1].is_rational_function(*names) for side in (left, right)):
        return False
    # For every name: solving for a name loses the factors without it.
    return all(_same_solutions(solve(left[1], name), solve(right[1], name)) for name in names)


def _same_solutions(left: list[Expr], right: list[Expr]) -> bool:
    return bool(left) and all(
        any(same_value(solution, other) for other in others)
        for solutions, others in ((left, right), (right, left))
        for solution in solutions
    )
