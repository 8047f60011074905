"""Whether a server lets the entropy gate work, found out with a real request."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from eager_sgl.engine.gate.parameters import Gate, processor_text
from eager_sgl.engine.limits import PROBE
from eager_sgl.engine.protocol import Json, gate_reports, generate_payload, new_request_id
from eager_sgl.engine.shapes import field
from eager_sgl.engine.transport import Transport

__all__ = ["why_no_gate"]

_NUM_TOKENS = 64
"""Enough for a busy server to send a part of the answer before all of it."""
_TOP_K = 2


def why_no_gate(transport: Transport, server_info: Json, path: Sequence[int]) -> str | None:
    """The reason in a clause; None if there is a gate.

    Args:
        server_info: of the route of that name.
        path: tokens that the model wrote.
    """
    if not server_info.get("enable_custom_logit_processor"):
        return "it was started without --enable-custom-logit-processor"
    if server_info.get("speculative_algorithm"):
        return "speculative decoding skips custom logit processors"
    if transport.has_router:
        return "a router does not pass aborts on, and what a branch discards would run to its end"
    if server_info.get("incremental_streaming_output"):
        return "--incremental-streaming-output leaves out what was sent before"
    if not _tells(transport, path):
        return "its custom logit processors do not tell of the steps that they should"
    return None


def _tells(transport: Transport, path: Sequence[int]) -> bool:
    """Whether it tells of every step where all reach θ, the first ones before the last is drawn."""
    params = {
        "max_new_tokens": _NUM_TOKENS,
        "temperature": 1.0,
        "ignore_eos": True,
        "custom_params": Gate(0.0, _TOP_K, 1.0).custom_params(),
    }
    early: list[Json] = []
    meta_info = transport.post(
        "/generate",
        lambda: generate_payload(
            path, params, request_id=new_request_id(), processor=processor_text()
        ),
        partial(field, name="meta_info", kind=dict),
        early.append,
        PROBE,
    )
    places, top = gate_reports(meta_info, _TOP_K)
    return (
        places == tuple(range(_NUM_TOKENS))
        and top.token_ids.shape == (_NUM_TOKENS, _TOP_K)
        and any(gate_reports(part, _TOP_K)[0] for part in early)
    )
