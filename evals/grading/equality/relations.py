"""Whether two equations or inequalities say the same; runs in a worker process."""

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
_EITHER_WAY = (Eq, Ne)


def is_relation(side: Any) -> bool:
    """Whether it is an equation, an inequality or a chain of them."""
    return isinstance(side, Relational | And)


def named_value(relation: Basic) -> tuple[Basic, Basic] | None:
    """The name and the value of `x = 5`, `f(x) = 2x`, `(x, y) = (1, 2)`; None for all else."""
    if not isinstance(relation, Eq) or not _is_name(relation.lhs):
        return None
    return relation.lhs, relation.rhs


def members(relation: Basic) -> Set | None:
    """The real numbers for which an inequality in one variable holds; None where not known."""
    if relation.has(Eq) or len(relation.free_symbols) != 1:
        return None
    (name,) = relation.free_symbols
    try:
        found: Set = exact(relation).xreplace({name: Dummy(real=True)}).as_set()
    except (NotImplementedError, TypeError, ValueError, AttributeError):
        return None  # what SymPy raises where it cannot solve it
    return S.Reals if found == S.UniversalSet else found


def same_relation(left: Basic, right: Basic) -> bool:
    """Whether the sides of each are those of the other, up to a constant factor, or solve alike."""
    if left.free_symbols != right.free_symbols:
        return False
    ours, theirs = _parts(left), _parts(right)
    if None in ours or None in theirs:
        return False
    if all(any(_proportional(our, their) for their in theirs) for our in ours) and all(
        any(_proportional(our, their) for our in ours) for their in theirs
    ):
        return True
    return len(ours) == len(theirs) == 1 and _solve_alike(ours[0], theirs[0])


def _is_name(side: Basic) -> bool:
    if isinstance(side, Symbol | AppliedUndef):
        return True
    is_tuple = bool(side.args) and not isinstance(side, Expr)
    return is_tuple and all(isinstance(part, Symbol) for part in side.args)


def _parts(relation: Basic) -> list[Any]:
    """Each inequality as `(kind, what is below zero)`; None for what is not about numbers."""
    if isinstance(relation, And):
        chained = getattr(relation, "_unsorted_args", relation.args)
        return [part for each in chained for part in _parts(each)]
    if not isinstance(relation, Relational):
        return [None]
    low, high, kind = relation.lhs, relation.rhs, type(relation)
    if kind in _MIRRORED:
        low, high, kind = high, low, _MIRRORED[kind]
    if not (isinstance(low, Expr) and isinstance(high, Expr)):
        return [None]
    return [(kind, exact(Add(low, Mul(-1, high, evaluate=False), evaluate=False)))]


def _proportional(left: tuple[type, Expr], right: tuple[type, Expr]) -> bool:
    """Whether one is a constant times the other; above zero, but for equations."""
    if left[0] is not right[0]:
        return False
    for point in points(left[1]):
        try:
            (ours, theirs), _ = evaluate([left[1], right[1]], point)
        except (UndefinedError, TooLargeError):
            continue
        if ours and theirs:
            is_allowed = left[0] in _EITHER_WAY or (ours / theirs).real > 0
            return bool(is_allowed) and same_value(
                Mul(left[1], right[1].subs(point), evaluate=False),
                Mul(right[1], left[1].subs(point), evaluate=False),
            )
    return False


def _solve_alike(left: tuple[type, Expr], right: tuple[type, Expr]) -> bool:
    """Whether two equations between polynomials, or quotients of them, have the same solutions."""
    if left[0] is not Eq or right[0] is not Eq:
        return False
    names = left[1].free_symbols
    if not all(side[1].is_rational_function(*names) for side in (left, right)):
        return False
    # For every name: a factor without it is lost in what is solved for it.
    return all(_same_solutions(solve(left[1], name), solve(right[1], name)) for name in names)


def _same_solutions(ours: list[Expr], theirs: list[Expr]) -> bool:
    return bool(ours) and all(
        any(same_value(one, other) for other in others)
        for these, others in ((ours, theirs), (theirs, ours))
        for one in these
    )
