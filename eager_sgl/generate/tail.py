"""Single tokens that the server draws where a sample leaves the tree beyond its known tokens."""

from __future__ import annotations

from typing import TypedDict

from eager_sgl.engine.client import TokenClient
from eager_sgl.methods import Method
from eager_sgl.plugin.vocabulary import Gate

__all__ = ["has_sampling_logprobs", "logprobs_of_draws"]


class Observation(TypedDict, total=False):
    """How the tokens of a request are observed: by K alternatives, or by a gate."""

    top_k: int
    gate: Gate


def has_sampling_logprobs(client: TokenClient, method: Method) -> bool:
    """Whether logprobs are of the whole distribution at the sampling temperature.

    Those of the gate are, and those of a server that does not return raw ones.
    """
    is_tempered = client.profile.logprobs == "tempered" or method.sampling.temperature == 1
    return is_tempered or client.find_gate(method)[0] is not None


def logprobs_of_draws(gate: Gate | None) -> Observation:
    """What a request for a drawn token reports: its logprob.

    Args:
        gate: of the method; None where it has none.
    """
    if gate is None:
        return {"top_k": 1}
    return {"gate": Gate(top_k=gate.top_k, columns=("logprobs",))}
