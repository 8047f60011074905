"""SGLang's JSON formats (measured on 0.5.23): requests are built here, answers checked and parsed.

No dictionary of a server leaves this file unchecked: an answer of another shape raises a
`ShapeError` that names the mismatch.
"""

from __future__ import annotations

import base64
import binascii
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from eager_sgl.core import FinishReason, Generation, TopLogprobs
from eager_sgl.engine.shapes import ShapeError, as_object, field, list_of, shown
from eager_sgl.errors import ServerError
from eager_sgl.plugin.vocabulary import BELOW_FLOOR

__all__ = [
    "Finish",
    "Json",
    "event_status",
    "finish_of",
    "generate_payload",
    "logprob_temperature",
    "nested_arrays",
    "new_request_id",
    "parse_generation",
    "texts_of",
    "tokens_of",
]

Json = dict[str, Any]

_FINISH_REASONS: dict[str, FinishReason] = {"stop": "stop", "length": "length"}
_ABORT = "abort"


# Requests


def new_request_id() -> str:
    """A unique `rid`."""
    return f"eager-{uuid.uuid4().hex}"


def generate_payload(
    input_ids: Sequence[int],
    sampling_params: Mapping[str, object],
    *,
    request_id: str,
    top_logprobs: int = 0,
    processor: str | None = None,
    is_stream: bool = False,
) -> Json:
    """The body of `/generate`.

    Args:
        input_ids: the whole path; the server serves the cached part from its radix tree.
        sampling_params: by SGLang's names.
        request_id: the `rid`, for `/abort_request`.
        top_logprobs: K; 0 requests no logprobs at all.
        processor: text of a custom logit processor, whose parameters are among the sampling
            parameters.
        is_stream: whether the answer is sent in parts.
    """
    payload: Json = {
        "rid": request_id,
        "input_ids": list(input_ids),
        "sampling_params": dict(sampling_params),
    }
    if processor is not None:
        payload["custom_logit_processor"] = processor
    if is_stream:
        payload["stream"] = True
    if top_logprobs:
        # Flat base64 arrays are half the bytes of nested lists, and need no Python loop to read.
        payload |= {
            "return_logprob": True,
            "top_logprobs_num": top_logprobs,
            "return_flat_raw_output_top_logprobs": True,
            "return_flat_raw_top_logprobs_b64": True,
        }
    return payload


# Answers of `/tokenize` and `/detokenize`


def tokens_of(answer: object) -> tuple[int, ...]:
    """The token ids that `/tokenize` answers with."""
    return tuple(list_of(int, answer, "tokens"))


def texts_of(answer: object, number: int) -> list[str]:
    """The texts that `/detokenize` answers with to a number of sequences."""
    texts = list_of(str, answer, "text")
    if len(texts) != number:
        raise ShapeError(f"its 'text' holds {len(texts)} texts for {number} sequences")
    return texts


# Answers of `/generate` to a request for tokens


class Finish(NamedTuple):
    """A `finish_reason`; `kind` is None while the request runs."""

    kind: str | None = None
    message: str = ""
    matched: object = None
    status: int = 200

    def require_not_aborted(self) -> None:
        """Raise `ServerError` if the server aborted the request."""
        if self.kind == _ABORT:
            raise ServerError(f"the server aborted a request: {self.message}")

    def require_drawn(self) -> None:
        """Raise `ServerError` if a text has ended a request for tokens, which asks for none.

        So SGLang reports a token that it could not draw, since the logits were NaN; it puts a stop
        token in its place.
        """
        if isinstance(self.matched, str) and self.matched != BELOW_FLOOR:
            raise ServerError(
                f"the server ended a request for tokens at {self.matched!r}, and not at a stop "
                "token; see its log and its options"
            )


def finish_of(meta: Json) -> Finish:
    """How a request ended, by its `meta_info`."""
    if meta.get("finish_reason", ...) is None:
        return Finish()
    finish = field(meta, "finish_reason", dict)
    kind = field(finish, "type", str)
    if kind not in (*_FINISH_REASONS, _ABORT):
        raise ShapeError(f"its 'finish_reason' is {shown(finish)}")
    message = str(finish.get("message", "no reason"))
    return Finish(kind, message, finish.get("matched"), finish.get("status_code") or 200)


def logprob_temperature(kind: str, temperature: float) -> float:
    """Temperature of the distribution that a request's logprobs belong to.

    Args:
        kind: `ServerProfile.logprobs`.
        temperature: of the request; 0 is greedy, and has the logprobs of temperature 1.
    """
    return (temperature if kind == "tempered" else 1.0) or 1.0


def parse_generation(
    answer: object,
    *,
    logprob_temperature: float,
    top_k: int = 0,
    may_be_aborted: bool = False,
    num_checked: int = 0,
) -> Generation:
    """The answer of `/generate`, or an event of its stream, from the decoded body.

    Args:
        logprob_temperature: of the distribution that the server's logprobs belong to.
        top_k: K of the requested alternatives; 0 without.
        may_be_aborted: whether the tokens before an abort are an answer.
        num_checked: leading tokens that an earlier event of the stream held.

    Raises:
        ServerError: the server aborted the request, or has not drawn its last token.
        ShapeError: the answer has another shape.
    """
    meta = field(answer, "meta_info", dict)
    token_ids = tuple(list_of(int, answer, "output_ids", num_checked))
    num, finish = len(token_ids), finish_of(meta)
    finish.require_drawn()
    if not may_be_aborted:
        finish.require_not_aborted()
    logprobs, top = _logprobs_of(meta, logprob_temperature, num, is_top_due=top_k > 0)
    return Generation(
        token_ids=token_ids,
        finish_reason=_FINISH_REASONS.get(finish.kind or ""),
        prompt_tokens=_count(meta, "prompt_tokens"),
        cached_tokens=_count(meta, "cached_tokens"),
        logprobs=logprobs,
        top=top,
        interrupted=f"the server aborted it ({finish.message})" if finish.kind == _ABORT else None,
    )


def _count(meta: Json, name: str) -> int:
    """A number of tokens; 0 where a request was aborted in the queue."""
    return field(meta, name, int) if name in meta else 0


def _logprobs_of(
    meta: Json, temperature: float, num_tokens: int, *, is_top_due: bool
) -> tuple[NDArray[np.float32] | None, TopLogprobs | None]:
    """The logprobs of the tokens, and of the alternatives at their steps; None if not there."""
    top, logprobs = None, None
    try:
        if "output_token_logprobs" in meta:
            rows = meta["output_token_logprobs"]
            logprobs = np.array([row[0] for row in rows], dtype=np.float32)
        if "output_top_logprobs_shape" in meta:
            top = _top_logprobs(
                _flat_array(meta, "output_top_logprobs_idx_flat_b64"),
                _flat_array(meta, "output_top_logprobs_val_flat_b64"),
                temperature,
            )
        elif is_top_due and meta.get("output_top_logprobs"):  # through a router
            top = _top_logprobs(*nested_arrays(meta["output_top_logprobs"]), temperature)
    except (LookupError, OverflowError, TypeError, ValueError, binascii.Error) as error:
        raise ShapeError(f"its logprobs cannot be read ({error!r})") from error
    parts = (logprobs, None if top is None else top.logprobs)
    num_steps = [len(part) for part in parts if part is not None]
    if set(num_steps) - {num_tokens}:
        raise ShapeError(f"it has logprobs of {num_steps} steps for {num_tokens} tokens")
    if is_top_due and num_tokens and top is None:
        raise ShapeError("it lacks the alternatives that were requested")
    return logprobs, top


def nested_arrays(rows: list[Any]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Ids and logprobs [steps, K] of lists of (logprob, id, text).

    Raises:
        IndexError, OverflowError, TypeError, ValueError: the rows are of another shape, uneven, or
            hold an id of more than 32 bits.
    """
    ids = np.array([[entry[1] for entry in row] for row in rows], np.int32)
    return ids, np.array([[entry[0] for entry in row] for row in rows], np.float32)


def _flat_array(meta: Json, key: str) -> np.ndarray[Any, Any]:
    array = np.frombuffer(base64.b64decode(meta[key]), dtype=np.dtype(meta[f"{key}_dtype"]))
    return array.reshape(meta["output_top_logprobs_shape"])


def _top_logprobs(
    token_ids: np.ndarray[Any, Any], logprobs: np.ndarray[Any, Any], temperature: float
) -> TopLogprobs:
    if token_ids.ndim != 2 or token_ids.shape != logprobs.shape:
        raise ValueError(f"{token_ids.shape} ids, {logprobs.shape} logprobs")
    return TopLogprobs(token_ids, logprobs, temperature)


# Events of a stream


def event_status(event: object) -> int | None:
    """The HTTP status that an event of a stream stands for; None if it is not the last event.

    A stream starts with status 200, before the server checks the request.
    """
    if "error" in as_object(event):
        error = event["error"]  # type: ignore[index]
        code = error.get("code") if isinstance(error, dict) else None
        return code if isinstance(code, int) and 400 <= code < 600 else 400
    finish = finish_of(field(event, "meta_info", dict))
    return None if finish.kind is None else finish.status
