"""Validation of a request's token ids, sampling parameters and texts, before it is sent.

SGLang checks few numbers before the model runs: a token id outside the vocabulary, more
alternatives than tokens, or a number that its tensors cannot hold kills the scheduler, and with it
the requests of all clients. NaN has no form in JSON, and would arrive as "not given".
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import orjson

from eager_sgl.engine.shapes import shown

__all__ = ["require_params", "require_sampling", "require_tokens", "to_json"]

MAX_INT = 2**30
"""SGLang's own value for "all"; it keeps counts in tensors of 32 bits."""
MAX_FLOAT = 1e38


class _Range(NamedTuple):
    lowest: float
    highest: float
    is_whole: bool = False
    also: float | None = None

    def __contains__(self, value: object) -> bool:
        kinds = int if self.is_whole else (int, float)
        if not isinstance(value, kinds) or isinstance(value, bool):
            return False
        return self.lowest <= value <= self.highest or value == self.also

    def __str__(self) -> str:
        kind = "a whole number" if self.is_whole else "a number"
        also = "" if self.also is None else f"{self.also} or "
        return f"{also}{kind} from {self.lowest:g} to {self.highest:g}"


_COUNT = _Range(0, MAX_INT, is_whole=True)
_RANGES = {
    "max_new_tokens": _COUNT,
    "min_new_tokens": _COUNT,
    "temperature": _Range(0, MAX_FLOAT),
    "top_p": _Range(math.ulp(0.0), 1),
    "top_k": _Range(1, MAX_INT, is_whole=True, also=-1),
    "min_p": _Range(0, 1),
    "frequency_penalty": _Range(-2, 2),
    "presence_penalty": _Range(-2, 2),
    "repetition_penalty": _Range(math.ulp(0.0), 2),
}


def require_tokens(noun: str, token_ids: object, vocabulary_size: int) -> tuple[int, ...]:
    """Token ids of the model, as plain integers.

    Args:
        noun: for them in the error, such as "the prompt".
        token_ids: a sequence of integers, numpy's included.
        vocabulary_size: one above the highest id.

    Raises:
        ValueError: the value is not a sequence of integers below the vocabulary's size.
    """
    if isinstance(token_ids, bytes | bytearray | memoryview):
        raise ValueError(f"{noun} is {shown(token_ids)}; decode bytes to text, or give token ids")
    try:
        items: tuple[Any, ...] = tuple(token_ids)  # type: ignore[arg-type]
    except TypeError:
        raise ValueError(f"{noun} is {shown(token_ids)}; it must be a list of token ids") from None
    if set(map(type, items)) - {int}:
        items = tuple(_token(noun, item, position) for position, item in enumerate(items))
    if items and not 0 <= min(items) <= max(items) < vocabulary_size:
        position, wrong = next((p, t) for p, t in enumerate(items) if not 0 <= t < vocabulary_size)
        raise ValueError(
            f"token id {wrong} at position {position} of {noun} is outside the model's vocabulary; "
            f"ids are 0 to {vocabulary_size - 1}"
        )
    return items


def _token(noun: str, item: Any, position: int) -> int:
    if isinstance(item, numbers.Integral) and not isinstance(item, bool):
        return int(item)
    raise ValueError(f"position {position} of {noun} is {shown(item)}; it must be a token id")


def require_params(params: Mapping[str, object], vocabulary_size: int, num_tokens: int) -> None:
    """Check the numbers among a request's sampling parameters and options.

    Args:
        params: by SGLang's names; None stands for "not given".
        vocabulary_size: of the model.
        num_tokens: in the request's input.

    Raises:
        ValueError: a number is outside its range.
    """
    ranges = _RANGES | {
        "top_logprobs_num": _Range(0, vocabulary_size, is_whole=True),
        "logprob_start_len": _Range(-1, num_tokens, is_whole=True),
    }
    _require_within(ranges, params)
    require_tokens("stop_token_ids", params.get("stop_token_ids") or (), vocabulary_size)


def require_sampling(params: Mapping[str, object]) -> None:
    """Check sampling parameters that any model may have.

    Raises:
        ValueError: a number is outside its range.
    """
    _require_within(_RANGES, params)


def _require_within(ranges: Mapping[str, _Range], params: Mapping[str, object]) -> None:
    for name, allowed in ranges.items():
        value = params.get(name)
        if value is not None and value not in allowed:
            raise ValueError(f"{name} is {shown(value)}; it must be {allowed}")


def to_json(body: Mapping[str, object]) -> bytes:
    """The bytes of a request's body.

    Raises:
        ValueError: the body has a text that UTF-8 cannot encode, or a value that JSON cannot.
    """
    try:
        return orjson.dumps(body)
    except TypeError as error:
        if text := next(filter(_is_broken, _texts_in(body)), None):
            raise ValueError(
                f"the text {text!r} has half of a surrogate pair, which cannot be encoded; "
                "repair it where it was decoded"
            ) from error
        raise ValueError(f"the request cannot be written as JSON: {error}") from error


def _texts_in(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts_in(item)
    elif isinstance(value, Mapping):
        for pair in value.items():
            yield from _texts_in(pair)


def _is_broken(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)
