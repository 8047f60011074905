"""Functions of sequences that are called once for each of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar
from weakref import finalize

from eager_sgl.core import Sequence

__all__ = ["OncePerSequence"]

_T = TypeVar("_T")


class OncePerSequence(Generic[_T]):
    """The values of a function, each known as long as its sequence exists.

    Args:
        function: called once per sequence.
    """

    def __init__(self, function: Callable[[Sequence], _T]) -> None:
        self._function = function
        self._known: dict[int, _T] = {}

    def __call__(self, sequence: Sequence) -> _T:
        key = id(sequence)
        if key not in self._known:
            self._known[key] = self._function(sequence)
            finalize(sequence, self._known.pop, key, None).atexit = False
        return self._known[key]
