"""Typed access to the fields of a server's JSON answers."""

from __future__ import annotations

from typing import Any, TypeVar

__all__ = ["ShapeError", "as_object", "field", "list_of", "shown"]

_T = TypeVar("_T")
_MAX_SHOWN = 60


class ShapeError(ValueError):
    """An answer has another shape than SGLang's; the text is a clause on the mismatch."""


def as_object(answer: object) -> Any:
    """A JSON object.

    Raises:
        ShapeError: the answer is another JSON value.
    """
    if not isinstance(answer, dict):
        raise ShapeError(f"{shown(answer)} is no JSON object")
    return answer


def field(answer: object, name: str, kind: type[_T]) -> _T:
    """A field of a JSON object.

    Raises:
        ShapeError: the field is missing or has another type.
    """
    if name not in as_object(answer):
        raise ShapeError(f"it has no {name!r}")
    value = answer[name]  # type: ignore[index]
    # bool is a subclass of int, but no number.
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ShapeError(f"its {name!r} is {shown(value)}, which is no {kind.__name__}")
    return value


def list_of(kind: type[_T], answer: object, name: str, num_checked: int = 0) -> list[_T]:
    """A field that is a list of values of one type.

    Args:
        num_checked: leading values that are not checked, since an earlier answer held them.

    Raises:
        ShapeError: the field is missing or has another type.
    """
    values = field(answer, name, list)
    if set(map(type, values[num_checked:])) - {kind}:
        raise ShapeError(f"its {name!r} is {shown(values)}, which is no list of {kind.__name__}")
    return values


def shown(value: object) -> str:
    """A value as errors quote it: `repr`, shortened."""
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"
