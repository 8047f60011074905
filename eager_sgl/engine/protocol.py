"""SGLang's JSON formats (measured on 0.5.23): requests built, answers checked and parsed.

Nothing here imports sglang, and no tuple or dictionary of the server passes beyond this file
unchecked: an answer of another shape ends in a `ShapeError` that says what is wrong with it.
"""

from __future__ import annotations

import base64
import binascii
import json
import operator
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from eager_sgl.core import FinishReason, Generation, TopLogprobs
from eager_sgl.engine.shapes import ShapeError, as_object, field, list_of, shown
from eager_sgl.errors import ServerError

__all__ = [
    "GATE_REPORT",
    "Json",
    "error_message",
    "event_status",
    "gate_reports",
    "generate_payload",
    "matched_stop_token",
    "new_request_id",
    "parse_generation",
    "parse_score",
    "parse_text_answer",
    "texts_of",
    "tokens_of",
]

Json = dict[str, Any]

GATE_REPORT = "eager_gate"
"""What the entropy gate calls its report among a request's `meta_info`."""
_FINISH_REASONS: dict[str, FinishReason] = {"stop": "stop", "length": "length"}


# What is sent


def new_request_id() -> str:
    """A `rid` that no other request has."""
    return f"eager-{uuid.uuid4().hex}"


def generate_payload(
    input_ids: Sequence[int],
    sampling_params: Mapping[str, object],
    *,
    request_id: str,
    top_logprobs: int = 0,
    processor: str | None = None,
) -> Json:
    """The body of `/generate`.

    Args:
        input_ids: the whole path; what of it is cached, the server finds out.
        sampling_params: SGLang's own names and values.
        request_id: the `rid`, for `/abort_request`.
        top_logprobs: K; 0 asks for no logprobs at all.
        processor: text of a custom logit processor, whose parameters are among the others; the
            answer is then a stream.
    """
    payload: Json = {
        "rid": request_id,
        "input_ids": list(input_ids),
        "sampling_params": dict(sampling_params),
    }
    if processor is not None:
        payload |= {"custom_logit_processor": processor, "stream": True}
    if top_logprobs:
        # Flat base64 arrays are half the bytes of nested lists, and need no Python loop to read.
        payload |= {
            "return_logprob": True,
            "top_logprobs_num": top_logprobs,
            "return_flat_raw_output_top_logprobs": True,
            "return_flat_raw_top_logprobs_b64": True,
        }
    return payload


# What comes back, checked


def tokens_of(answer: object) -> tuple[int, ...]:
    """The answer of `/tokenize`."""
    return tuple(list_of(int, answer, "tokens"))


def texts_of(answer: object, number: int) -> list[str]:
    """The answer of `/detokenize` to this many sequences."""
    texts = list_of(str, answer, "text")
    if len(texts) != number:
        raise ShapeError(f"its 'text' holds {len(texts)} texts for {number} sequences")
    return texts


def parse_generation(
    answer: object,
    *,
    logprob_temperature: float,
    top_k: int = 0,
    gate_top_k: int = 0,
    may_be_aborted: bool = False,
    num_checked: int = 0,
) -> Generation:
    """The answer of `/generate`, or what a stream brings before it.

    Args:
        answer: the decoded body.
        logprob_temperature: of the distribution that the server's logprobs belong to.
        top_k: K of the alternatives asked for at each step; 0 where none were.
        gate_top_k: K of the request's gate; 0 where it has none.
        may_be_aborted: whether what came until it was aborted is an answer.
        num_checked: tokens at its beginning that an earlier part of the same stream brought.

    Raises:
        ServerError: the request was aborted on the server.
        ShapeError: it is no such answer.
    """
    meta = field(answer, "meta_info", dict)
    token_ids = tuple(list_of(int, answer, "output_ids", num_checked))
    reason, message = _finish_of(meta)
    if reason == "abort" and not may_be_aborted:
        raise ServerError(f"the server aborted a request: {message}")
    logprobs, top = _logprobs_of(meta, logprob_temperature)
    parts = (logprobs, None if top is None else top.logprobs)
    steps = [len(part) for part in parts if part is not None]
    if set(steps) - {len(token_ids)}:
        raise ShapeError(f"it has logprobs of {steps} steps for {len(token_ids)} tokens")
    if top_k and token_ids and top is None:
        raise ShapeError("the alternatives that were asked for are not in it")
    reported = None
    if gate_top_k:
        reported, top = gate_reports(meta, gate_top_k)
        if reported and not 0 <= reported[0] <= reported[-1] < len(token_ids):
            raise ShapeError(f"the gate reports steps {shown(reported)} of {len(token_ids)} tokens")
    return Generation(
        token_ids=token_ids,
        finish_reason=_FINISH_REASONS.get(reason or ""),
        # Neither is there where a request was aborted before its turn.
        prompt_tokens=field(meta, "prompt_tokens", int) if "prompt_tokens" in meta else 0,
        cached_tokens=field(meta, "cached_tokens", int) if "cached_tokens" in meta else 0,
        logprobs=logprobs,
        top=top,
        reported=reported,
        interrupted=f"the server aborted it ({message})" if reason == "abort" else None,
    )


def _finish_of(meta: Json) -> tuple[str | None, str]:
    """How a request ended, None where it goes on, and what the server says of it."""
    if meta.get("finish_reason", ...) is None:
        return None, ""
    finish = field(meta, "finish_reason", dict)
    reason = field(finish, "type", str)
    if reason not in (*_FINISH_REASONS, "abort"):
        raise ShapeError(f"its 'finish_reason' is {shown(finish)}")
    return reason, str(finish.get("message", "no reason"))


def _logprobs_of(
    meta: Json, temperature: float
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
    except (KeyError, IndexError, TypeError, ValueError, binascii.Error) as error:
        raise ShapeError(f"its logprobs cannot be read ({error!r})") from error
    return logprobs, top


def _flat_array(meta: Json, key: str) -> np.ndarray[Any, Any]:
    array = np.frombuffer(base64.b64decode(meta[key]), dtype=np.dtype(meta[f"{key}_dtype"]))
    return array.reshape(meta["output_top_logprobs_shape"])


def gate_reports(meta: Json, top_k: int) -> tuple[tuple[int, ...], TopLogprobs]:
    """The steps that the entropy gate tells of: their places in the answer, and what they were.

    Raises:
        ShapeError: the reports are none of the gate's.
    """
    try:
        # SGLang pads what requests do not have with None.
        reports = [report for report in meta.get(GATE_REPORT) or () if report]
        if not reports:
            empty = np.empty((0, top_k))
            return (), TopLogprobs(empty.astype(np.int32), empty.astype(np.float32), 1.0)
        places, token_ids, logprobs = zip(*reports, strict=True)
        top = _top_logprobs(np.array(token_ids, np.int32), np.array(logprobs, np.float32), 1.0)
        return tuple(operator.index(place) for place in places), top
    except (TypeError, ValueError) as error:
        raise ShapeError(f"its {GATE_REPORT!r} is {shown(meta.get(GATE_REPORT))}") from error


def _top_logprobs(
    token_ids: np.ndarray[Any, Any], logprobs: np.ndarray[Any, Any], temperature: float
) -> TopLogprobs:
    if token_ids.ndim != 2 or token_ids.shape != logprobs.shape:
        raise ValueError(f"{token_ids.shape} ids, {logprobs.shape} logprobs")
    return TopLogprobs(token_ids, logprobs, temperature)


def parse_text_answer(answer: object) -> Json:
    """The answer of `/generate` to a state's request, with the fields that states read.

    Raises:
        ServerError: the request was aborted on the server.
        ShapeError: it is no such answer.
    """
    field(answer, "text", str)
    list_of(int, answer, "output_ids")
    reason, message = _finish_of(field(answer, "meta_info", dict))
    if reason is None:
        raise ShapeError("its request has not ended")
    if reason == "abort":
        raise ServerError(f"the server aborted a request: {message}")
    return as_object(answer)  # type: ignore[no-any-return]


def parse_score(answer: object, *, has_logprobs: bool) -> Json:
    """The answer of `/generate` to a text that nothing is generated after.

    Raises:
        ServerError: the request was aborted on the server.
        ShapeError: it is no such answer.
    """
    meta = field(answer, "meta_info", dict)
    reason, message = _finish_of(meta)
    if reason == "abort":
        raise ServerError(f"the server aborted a request: {message}")
    field(meta, "prompt_tokens", int)
    if has_logprobs:
        for name in ("input_token_logprobs", "output_token_logprobs"):
            list_of(list, meta, name)
        if not meta["input_token_logprobs"]:
            raise ShapeError("it has logprobs of no token")
    return as_object(answer)  # type: ignore[no-any-return]


def matched_stop_token(answer: Json) -> int | None:
    """The EOS or stop token that ended a generation; None if something else did."""
    finish = answer["meta_info"]["finish_reason"]
    matched = finish.get("matched")
    return matched if isinstance(matched, int) else None


def event_status(event: object) -> int | None:
    """The HTTP status that a stream's event stands for; None where more is to come.

    A stream begins as a success, before its request is looked at.
    """
    if "error" in as_object(event):
        error = event["error"]  # type: ignore[index]
        code = error.get("code") if isinstance(error, dict) else None
        return code if isinstance(code, int) and 400 <= code < 600 else 400
    meta = field(event, "meta_info", dict)
    reason, _ = _finish_of(meta)
    if reason is None:
        return None
    return meta["finish_reason"].get("status_code") or 200


def error_message(data: bytes) -> str:
    """The server's own words; its errors come in several shapes."""
    try:
        content = orjson.loads(data)
    except json.JSONDecodeError:
        text = " ".join(data.decode(errors="replace").split())
        return "no message" if not text or text.startswith("<") else text[:500]
    if isinstance(content, dict) and isinstance(content.get("meta_info"), dict):
        content = content["meta_info"].get("finish_reason")  # the end of a stream
    while isinstance(content, dict):
        content = content.get("message") or content.get("error") or content.get("detail") or "?"
    return str(content)
