"""What a request id carries: SGLang's router drops the fields that it does not know."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["carried_params", "carrying_id", "checked_interval", "is_carrying", "plain_id"]

_START, _MARK = "eager-", "?"


def carrying_id(request_id: str, params: dict[str, Any]) -> str:
    """A request id that carries sampling parameters."""
    return f"{request_id}{_MARK}{json.dumps(params, separators=(',', ':'))}"


def plain_id(request_id: str) -> str:
    """A request id without what it carries."""
    return request_id.partition(_MARK)[0]


def is_carrying(request_id: object) -> bool:
    """Whether a request id carries parameters: one of ours, with a mark."""
    is_ours = isinstance(request_id, str) and request_id.startswith(_START)
    return is_ours and _MARK in str(request_id)


def checked_interval(value: object) -> int:
    """A `stream_interval`.

    Raises:
        ValueError: it is no whole number of at least 1.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value < 2**31:
        raise ValueError(f"the request id carries stream_interval {value!r:.50}; at least 1 is due")
    return value


def carried_params(request_id: str) -> dict[str, Any]:
    """The sampling parameters that a request id carries; a stranger's id carries none.

    Raises:
        ValueError: what it carries is no JSON object.
    """
    if not is_carrying(request_id):
        return {}
    params = json.loads(request_id.partition(_MARK)[2])
    if not isinstance(params, dict):
        raise ValueError(f"the request id carries {params!r:.50}; it has to be an object")
    return params
