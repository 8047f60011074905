"""Functions of the user's in a role: their arguments and the types of their values, checked.

The signature is checked where the function is given, before anything is generated, and the value at
every call: a value of another type would otherwise decide something silently.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from numbers import Real
from reprlib import repr as short
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eager_sgl.errors import EagerError, PlugInError

__all__ = ["PlugIn"]


class PlugIn:
    """A function in a role.

    Args:
        role: as in "verifier", for messages.
        function: of the user's.
        arguments: the names of its arguments, in order.
        name: as the user gave it; None for the module and name of its definition.

    Raises:
        PlugInError: it is not a function, or does not take these arguments.
    """

    def __init__(
        self,
        role: str,
        function: Callable[..., Any],
        arguments: Sequence[str],
        name: str | None = None,
    ) -> None:
        self._function = function
        self._name = f"{role} {(_name_of(function) if name is None else name)!r}"
        if not callable(function):
            raise PlugInError(f"{self._name} is a {type(function).__name__}, not a function")
        self._require(arguments)

    def __str__(self) -> str:
        return self._name

    def _require(self, arguments: Sequence[str]) -> None:
        try:
            signature = inspect.signature(self._function)
        except ValueError:  # of some functions written in C
            return
        try:
            signature.bind(*arguments)
        except TypeError as error:
            raise PlugInError(
                f"{self._name} takes {signature}; it is called with ({', '.join(arguments)}): "
                f"{error}"
            ) from error

    @contextmanager
    def blamed(self) -> Iterator[None]:
        """Raise exceptions as PlugInError with the name."""
        try:
            yield
        except EagerError:
            raise
        except Exception as error:
            raise PlugInError(f"{self._name} raised {type(error).__name__}: {error}") from error

    def boolean(self, *arguments: Any, none: bool | None = None) -> bool:
        """Its value, which must be True or False.

        Args:
            none: the value that None stands for; None where it is an error.

        Raises:
            PlugInError: the value is something else.
        """
        value = self._function(*arguments)
        if value is None and none is not None:
            return none
        if not isinstance(value, bool | np.bool_):
            raise self._wrong(value, "True or False")
        return bool(value)

    def number(self, *arguments: Any) -> float:
        """Its value, which must be a real number or an infinity.

        Raises:
            PlugInError: the value is something else, or NaN.
        """
        value = self._function(*arguments)
        if not isinstance(value, Real) or isinstance(value, bool) or math.isnan(value):
            raise self._wrong(value, "a number")
        return float(value)

    def score(self, *arguments: Any) -> float:
        """Its value, which must be a finite number, or a verifier's True (1) or False (0).

        Raises:
            PlugInError: the value is something else.
        """
        value = self._function(*arguments)
        if not isinstance(value, Real | np.bool_) or not math.isfinite(value):
            raise self._wrong(value, "a finite number, True or False")
        return float(value)

    def values(self, number: int, *arguments: Any) -> NDArray[np.float64]:
        """Its value, which must be an array [number] of numbers.

        Raises:
            PlugInError: the value is something else, or has a NaN.
        """
        value = self._function(*arguments)
        try:
            array = np.asarray(value)
        except ValueError as error:  # rows of different lengths
            raise self._wrong(value, f"an array [{number}] of numbers") from error
        if array.dtype.kind not in "fiu" or array.shape != (number,):
            kind = f"{array.dtype} {list(array.shape)}"
            raise self._wrong(value, f"an array [{number}] of numbers, this is {kind}")
        if np.isnan(array).any():
            index = int(np.flatnonzero(np.isnan(array))[0])
            raise PlugInError(f"{self._name} returned NaN for number {index} of {number}")
        return array.astype(np.float64)

    def hashable(self, *arguments: Any) -> Hashable:
        """Its value, which must be hashable.

        Raises:
            PlugInError: the value is something else.
        """
        value: Hashable = self._function(*arguments)
        self._require_hashable(value)
        return value

    def classes(self, sequences: Sequence[Any]) -> list[Hashable | None]:
        """Its value for these sequences, which must be a list of one class per sequence.

        Raises:
            PlugInError: the value is something else.
        """
        value = self._function(sequences)
        if not isinstance(value, Sequence | np.ndarray) or len(value) != len(sequences):
            raise self._wrong(value, f"a list of {len(sequences)} classes, one per sequence")
        for item in value:
            self._require_hashable(item)
        return list(value)

    def _require_hashable(self, value: Any) -> None:
        try:
            hash(value)
        except TypeError as error:
            raise self._wrong(value, "a hashable value (a text, a number, a tuple)") from error

    def _wrong(self, value: Any, expected: str) -> PlugInError:
        kind = type(value).__name__
        if inspect.iscoroutine(value):
            value.close()  # else Python warns of it, beside the error
        return PlugInError(
            f"{self._name} returned {short(value)} ({kind}); it must return {expected}"
        )


def _name_of(function: Any) -> str:
    """The module and name of a function, or of the class of an object."""
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}:{named.__qualname__}"
