"""Requests through SGLang's router: the fields that it passes on, and the way of the others.

The router (0.3.2) reads a request into its types and sends on what these hold: fields that
it does not know disappear, without an error. Of a request for tokens

- sampling parameters that only servers know travel in the request id, from which a plugin of the
  server can read them (`carried_params`);
- the compact form of alternatives is left out, so they are answered as nested lists;
- a request with any other field that the router drops has no form (`routed` returns None): it is
  sent past the router.

Answers and the events of streams pass unchanged, and so does the closing of a request's connection,
at which SGLang aborts the request: at once if it is a stream, else within four seconds. Aborts do
not pass.
"""

from __future__ import annotations

import orjson

from eager_sgl.engine.protocol import Json

__all__ = ["carried_params", "plain_id", "routed"]

_MARK = "?"
_CARRIED = ("custom_params", "stream_interval")
_LEFT_OUT = ("return_flat_raw_output_top_logprobs", "return_flat_raw_top_logprobs_b64")
_MAX_SEED = 2**63
"""The router refuses negative seeds."""
_PARAMS = {
    "ebnf",
    "frequency_penalty",
    "ignore_eos",
    "json_schema",
    "max_new_tokens",
    "min_new_tokens",
    "min_p",
    "n",
    "no_stop_trim",
    "presence_penalty",
    "regex",
    "repetition_penalty",
    "sampling_seed",
    "skip_special_tokens",
    "stop",
    "stop_token_ids",
    "temperature",
    "top_k",
    "top_p",
}
_FIELDS = {
    "input_ids",
    "logprob_start_len",
    "return_logprob",
    "return_text_in_logprobs",
    "rid",
    "sampling_params",
    "stream",
    "text",
    "token_ids_logprob",
    "top_logprobs_num",
}


def routed(body: Json) -> Json | None:
    """The same request in fields that the router passes on; None if it has no such form.

    Args:
        body: of `/generate`.
    """
    params = dict(body.get("sampling_params") or {})
    carried = {name: params.pop(name) for name in _CARRIED if name in params}
    fields = {name: value for name, value in body.items() if name not in _LEFT_OUT}
    if not (params.keys() <= _PARAMS and fields.keys() <= _FIELDS):
        return None
    if "sampling_seed" in params:
        params["sampling_seed"] %= _MAX_SEED
    if carried:
        fields["rid"] = f"{fields['rid']}{_MARK}{orjson.dumps(carried).decode()}"
    return fields | {"sampling_params": params}


def plain_id(request_id: str) -> str:
    """A request id without what it carries."""
    return request_id.partition(_MARK)[0]


def carried_params(request_id: str) -> Json:
    """The sampling parameters that a request id carries.

    Raises:
        ValueError: the text after the mark is no JSON object.
    """
    text = request_id.partition(_MARK)[2]
    params = orjson.loads(text) if text else {}
    if not isinstance(params, dict):
        raise ValueError(f"the request id carries {params!r}; it must be an object")
    return params
