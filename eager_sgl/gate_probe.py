"""Whether a server lets the entropy gate work, found out with real requests."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice

from eager_sgl.gate import Gate, processor_text
from eager_sgl.wire import (
    GATE_REPORT,
    Json,
    Transport,
    generate_payload,
    matched_stop_token,
    new_request_id,
)

__all__ = ["find_gate"]

_CONTROL_CHARACTERS = "\x00\x01\x02\x03\x1c\x1d\x7f"
_NUM_FIRST = 16
_NUM_KEPT = 3
_MOST_LIKELY = math.log(1e-3)
"""What a reserved token's probability has to stay below wherever it is asked for."""


def find_gate(
    transport: Transport,
    server_info: Json,
    path: Sequence[int],
    is_stop: Callable[[int], bool],
) -> tuple[tuple[int, ...], str | None]:
    """The tokens that the gate may reserve, best first; if there are none, why.

    Args:
        server_info: of the route of that name.
        path: tokens that the model wrote.
        is_stop: whether a token ends a sequence anyway.
    """
    if not server_info.get("enable_custom_logit_processor"):
        return (), "it was started without --enable-custom-logit-processor"
    if server_info.get("speculative_algorithm"):
        return (), "speculative decoding skips custom logit processors"
    rare = tuple(islice((t for t in _rare_tokens(transport, path) if not is_stop(t)), _NUM_KEPT))
    if not rare:
        return (), "the model has no token that it all but never writes among those tried"
    if not _works(transport, path, rare[0]):
        return (
            (),
            "its custom logit processors do not end a request and report on it as they should",
        )
    return rare, None


def _rare_tokens(transport: Transport, path: Sequence[int]) -> list[int]:
    """Those that stand for no text, the rarest first."""
    candidates = _tokens_without_text(transport)
    if not candidates:
        return []
    answer = _generate(
        transport,
        path,
        {"max_new_tokens": 1},
        return_logprob=True,
        logprob_start_len=0,
        token_ids_logprob=candidates,
    )
    meta = answer["meta_info"]
    rows = [*meta["input_token_ids_logprobs"], *meta["output_token_ids_logprobs"]]
    highest = dict.fromkeys(candidates, -math.inf)
    for row in filter(None, rows):
        for logprob, token_id, *_ in row:
            highest[token_id] = max(highest[token_id], logprob)
    rare = [token_id for token_id in candidates if highest[token_id] < _MOST_LIKELY]
    return sorted(rare, key=highest.__getitem__)


def _tokens_without_text(transport: Transport) -> list[int]:
    """Special tokens among the lowest ids, and tokens that are a control character."""
    body = {"prompt": _CONTROL_CHARACTERS, "add_special_tokens": False}
    written = transport.post("/tokenize", lambda: body)["tokens"]
    known = sorted({*written, *range(_NUM_FIRST)})
    shown, kept = (
        transport.post(
            "/detokenize", partial(dict, tokens=[[t] for t in known], skip_special_tokens=skip)
        )["text"]
        for skip in (False, True)
    )
    return [
        token_id
        for token_id, text, rest in zip(known, shown, kept, strict=True)
        if (text and not rest) or (len(text) == 1 and text in _CONTROL_CHARACTERS)
    ]


def _works(transport: Transport, path: Sequence[int], token_id: int) -> bool:
    """Whether an open gate ends a request at once, and a shut one does not."""
    opened, shut = (
        _generate(
            transport,
            path,
            {
                "max_new_tokens": 2,
                "temperature": 1.0,
                "stop_token_ids": [token_id],
                "custom_params": Gate(threshold, 20, 1.0, token_id).custom_params(),
            },
            custom_logit_processor=processor_text(),
        )
        for threshold in (1e-30, 1e30)
    )
    return (
        opened["output_ids"] == [token_id]
        and matched_stop_token(opened) == token_id
        and GATE_REPORT in opened["meta_info"]
        and token_id not in shut["output_ids"]
    )


def _generate(transport: Transport, ids: Sequence[int], params: Json, **options: object) -> Json:
    return transport.post(
        "/generate",
        lambda: generate_payload(ids, params, request_id=new_request_id()) | options,
    )
