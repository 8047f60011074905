"""Messages between two sandboxed processes: a length, then plain data.

One side of the channel is hostile. Its messages are unpickled with nothing to call except the
constructors of built-in types, so it can only choose values.

Plain data are built-in values, and Fraction and Decimal, which are sent as their parts. A numpy
scalar is sent as the Python number of the same value: a numpy scalar compares with a list element
by element, so that a 1 would equal [1] and not differ from [].
"""

from __future__ import annotations

import io
import os
import pickle
import select
import struct
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

__all__ = ["ClosedError", "NotPlainError", "receive", "send"]

MAX_MESSAGE_BYTES = 512 << 20
MAX_INTEGER_BYTES = 128 << 10  # the time to write an integer in digits grows with the square
MAX_DIGITS = 4300  # Python's default limit, which `start` turns off
MAX_FRACTION_BITS = 14285  # as many digits; the time to reduce a fraction grows with the square
LENGTH = struct.Struct("!Q")

# Reads the value of a subclass without calling methods of the subclass, where that is possible.
BASES: dict[type, Callable[[Any], Any]] = {
    int: int.__pos__,
    float: float.__pos__,
    complex: complex.__pos__,
    str: str.__str__,
    bytes: bytes,
    bytearray: bytearray,
    list: list,
    tuple: tuple,
    set: set,
    frozenset: frozenset,
    dict: dict,
}
LOADABLE = {kind.__name__: kind for kind in (*BASES, bool)}


class ClosedError(EOFError):
    """The other side has closed the channel."""


class NotPlainError(TypeError):
    """A value that is not made of built-in types, or too large to send."""


class _Pickler(pickle.Pickler):
    """Writes built-in values unchanged, subclasses (Counter, a numpy string) as their base."""

    def persistent_id(self, value: Any) -> tuple[Any, ...] | None:
        kind = type(value)
        if kind is Fraction:
            return "fraction", value.numerator, value.denominator
        return ("decimal", str(value)) if kind is Decimal else None

    def reducer_override(self, value: Any) -> Any:
        # By identity: an object of the candidate may be equal to anything.
        if type(value) in BASES or any(value is kind for kind in LOADABLE.values()):
            return NotImplemented
        if (number := _number(value)) is not None:
            return type(number), (number,)
        for base, plain in BASES.items():
            if isinstance(value, base):
                return base, (plain(value),)
        raise NotPlainError(f"a value of type {type(value).__name__}")


def _number(value: Any) -> bool | int | float | complex | None:
    """The Python number of a numpy scalar, or of an array without dimensions; else None."""
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(value, numpy.generic | numpy.ndarray) or value.shape:
        return None
    kind = {"b": bool, "i": int, "u": int, "f": float, "c": complex}.get(value.dtype.kind)
    return None if kind is None else kind(value)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module == "builtins" and name in LOADABLE:
            return LOADABLE[name]
        raise NotPlainError(f"a value of type {module}.{name}")

    def persistent_load(self, parts: Any) -> Fraction | Decimal:
        match parts:
            case ("fraction", int(numerator), int(denominator)):
                return _fraction(numerator, denominator)
            case ("decimal", str(text)):
                return _decimal(text)
        raise NotPlainError("a value of an unknown kind")


def _fraction(numerator: int, denominator: int) -> Fraction:
    if max(numerator.bit_length(), denominator.bit_length()) > MAX_FRACTION_BITS:
        raise NotPlainError(f"a fraction of more than {MAX_DIGITS} digits")
    return Fraction(numerator, denominator)


def _decimal(text: str) -> Decimal:
    """Zeros count as digits: as an integer, 1e999999999 would fill the memory."""
    if len(text) <= MAX_DIGITS:
        value = Decimal(text)
        if not value.is_finite() or abs(value.adjusted()) <= MAX_DIGITS:
            return value
    raise NotPlainError(f"a decimal of more than {MAX_DIGITS} digits")


def send(channel: int, value: object) -> None:
    """Write a message. Raises ClosedError, and NotPlainError before anything is sent."""
    buffer = io.BytesIO(bytes(LENGTH.size))
    buffer.seek(LENGTH.size)
    try:
        _Pickler(buffer, protocol=5).dump(value)
    except RecursionError:
        raise NotPlainError("a value nested too deeply") from None
    size = buffer.tell() - LENGTH.size
    if size > MAX_MESSAGE_BYTES:
        raise NotPlainError(f"a value of {size} bytes")
    message = buffer.getbuffer()
    message[: LENGTH.size] = LENGTH.pack(size)
    while message:
        try:
            message = message[os.write(channel, message) :]
        except (BrokenPipeError, ConnectionResetError):
            raise ClosedError from None


def receive(channel: int, deadline: float | None = None) -> Any:
    """Read a message.

    Raises ClosedError, TimeoutError after `deadline` (of time.monotonic; None for no deadline), and
    NotPlainError for a message that is not plain data, or has an integer of over a million bits.
    """
    (size,) = LENGTH.unpack(_read(channel, LENGTH.size, deadline))
    if size > MAX_MESSAGE_BYTES:
        raise NotPlainError(f"a message of {size} bytes")
    message = _read(channel, size, deadline)
    digits = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(MAX_DIGITS)
    try:
        value = _Unpickler(io.BytesIO(message)).load()
    except NotPlainError:
        raise
    except Exception as error:
        raise NotPlainError(f"a message that cannot be read ({type(error).__name__})") from error
    finally:
        sys.set_int_max_str_digits(digits)
    if size > MAX_INTEGER_BYTES:
        _refuse_huge_integers(value)
    return value


def _refuse_huge_integers(message: object) -> None:
    """Raise NotPlainError for an integer beyond the limit; no container is visited twice."""
    seen, waiting = set[int](), [message]
    while waiting:
        value = waiting.pop()
        if isinstance(value, int):
            if value.bit_length() > 8 * MAX_INTEGER_BYTES:
                raise NotPlainError(f"an integer of {value.bit_length()} bits")
        elif isinstance(value, list | tuple | set | frozenset | dict) and id(value) not in seen:
            seen.add(id(value))
            waiting += [*value, *value.values()] if isinstance(value, dict) else value


def _read(channel: int, size: int, deadline: float | None) -> bytearray:
    data = bytearray()
    while len(data) < size:
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([channel], [], [], left)[0]:
                raise TimeoutError
        try:
            part = os.read(channel, min(size - len(data), 1 << 20))
        except ConnectionResetError:
            part = b""
        if not part:
            raise ClosedError
        data += part
    return data
