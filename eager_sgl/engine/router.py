"""Requests through SGLang's router: the fields that it passes on, and the way of the others.

The router (0.3.2) reads a request into its types and sends on what these hold: fields that
it does not know disappear, without an error. Of a request for tokens

- sampling parameters that only servers know travel in the request id, from which a plugin of the
  server reads them (`eager_sgl.plugin.carried`);
- the compact form of alternatives is left out, so they are answered as nested lists;
- a request with any other field that the router drops has no form (`routed` returns None): it is
  sent past the router.

Answers and the events of streams pass unchanged, and so does the closing of a request's connection,
at which SGLang aborts the request: at once if it is a stream, else within four seconds. Aborts do
not pass.
"""

from __future__ import annotations

from eager_sgl.engine.protocol import Json
from eager_sgl.plugin.carried import carrying_id

__all__ = ["routed"]

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
        fields["rid"] = carrying_id(fields["rid"], carried)
    return fields | {"sampling_params": params}
