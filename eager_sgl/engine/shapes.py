"""The shape of a server's answers: fields looked up with their types."""

from __future__ import annotations

from typing import Any, TypeVar

__all__ = ["ShapeError", "as_object", "field", "list_of", "shown"]

_T = TypeVar("_T")
_NUM_SHOWN = 60


class ShapeError(ValueError):
    """An answer is not what SGLang's route gives; the text is a clause that says how."""


def as_object(answer: object) -> Any:
    """An answer that must be a JSON object.

    Raises:
        ShapeError: it is something else.
    """
    if not isinstance(answer, dict):
        raise ShapeError(f"{shown(answer)} is no JSON object")
    return answer


def field(answer: object, name: str, kind: type[_T]) -> _T:
    """A field of an object in an answer.

    Raises:
        ShapeError: it is not there, or of another type.
    """
    if name not in as_object(answer):
        raise ShapeError(f"it has no {name!r}")
    value = answer[name]  # type: ignore[index]
    # bool is a subclass of int, but no number.
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ShapeError(f"its {name!r} is {shown(value)}, which is no {kind.__name__}")
    return value


def list_of(kind: type[_T], answer: object, name: str, num_checked: int = 0) -> list[_T]:
    """A field that is a list whose values are all of one type.

    Args:
        num_checked: values at its beginning that need no look, since they were there before.

    Raises:
        ShapeError: it is not there, or of another type.
    """
    values = field(answer, name, list)
    if set(map(type, values[num_checked:])) - {kind}:
        raise ShapeError(f"its {name!r} is {shown(values)}, which is no list of {kind.__name__}")
    return values


def shown(value: object) -> str:
    """A value as an error quotes it: the beginning, where it is long."""
    text = repr(value)
    return text if len(text) <= _NUM_SHOWN else f"{text[:_NUM_SHOWN]}…"
