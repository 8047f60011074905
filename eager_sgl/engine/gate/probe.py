"""Whether a server has an entropy gate, checked with a real request."""

from __future__ import annotations

from collections.abc import Sequence

from eager_sgl.core import Generation
from eager_sgl.engine.gate.parameters import Gate, processor_text
from eager_sgl.engine.limits import PROBE
from eager_sgl.engine.protocol import (
    Json,
    generate_payload,
    new_request_id,
    parse_generation,
)
from eager_sgl.engine.shapes import ShapeError, field
from eager_sgl.engine.transport import Transport

__all__ = ["why_no_gate"]

_NUM_TOKENS = 64
"""Enough for a busy server to send a part of the answer before all of it."""
_TOP_K = 2


async def why_no_gate(transport: Transport, server_info: Json, path: Sequence[int]) -> str | None:
    """The reason in a clause; None if the server has a gate.

    Args:
        transport: to the server.
        server_info: the answer of `/server_info`.
        path: tokens that the model generated.
    """
    if not server_info.get("enable_custom_logit_processor"):
        return "it was started without --enable-custom-logit-processor"
    if server_info.get("speculative_algorithm"):
        return "speculative decoding skips custom logit processors"
    if transport.has_router:
        return "SGLang's router drops the parameters of custom logit processors"
    if server_info.get("incremental_streaming_output"):
        return "--incremental-streaming-output leaves out tokens that were sent before"
    if not await _reports_all(transport, path):
        return "its custom logit processors do not report the steps that reach θ"
    return None


async def _reports_all(transport: Transport, path: Sequence[int]) -> bool:
    """Whether every step is reported at θ = 0, the first ones before the last is drawn."""
    params = {
        "max_new_tokens": _NUM_TOKENS,
        "temperature": 1.0,
        "ignore_eos": True,
        "custom_params": Gate(0.0, _TOP_K, 1.0).custom_params(),
    }
    early: list[Generation | None] = []
    whole = await transport.post(
        "/generate",
        lambda: generate_payload(
            path,
            params,
            request_id=new_request_id(),
            processor=processor_text(),
            is_stream=True,
        ),
        _read,
        early.append,
        PROBE,
    )
    return (
        whole is not None
        and whole.reported == tuple(range(_NUM_TOKENS))
        and whole.top is not None
        and whole.top.token_ids.shape == (_NUM_TOKENS, _TOP_K)
        and any(event and event.reported for event in early)
    )


def _read(answer: object) -> Generation | None:
    """An answer or an event of its stream, complete or not; None if its reports are malformed."""
    field(answer, "meta_info", dict)
    try:
        return parse_generation(
            answer, logprob_temperature=1.0, gate_top_k=_TOP_K, may_be_aborted=True
        )
    except ShapeError:
        return None
