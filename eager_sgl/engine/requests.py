"""Requests for tokens: what is asked for, and the handle of one that is under way."""

from __future__ import annotations

from dataclasses import dataclass

from eager_sgl.config import SamplingConfig
from eager_sgl.core import Generation
from eager_sgl.engine.gate.parameters import Gate, processor_text
from eager_sgl.engine.protocol import Json, generate_payload, parse_generation

__all__ = ["Request", "RequestHandle"]


@dataclass
class RequestHandle:
    """A request that is under way.

    Attributes:
        request_id: the `rid`; another for every try.
        aborted: whether we asked the server to stop it.
    """

    request_id: str = ""
    aborted: bool = False


@dataclass(frozen=True)
class Request:
    """Tokens asked for on a path.

    Attributes:
        token_ids: the prompt and what was generated after it.
        num_tokens: asked for at most.
        sampling: how they are drawn.
        top_k: K, the alternatives at each step; 0 for none.
        gate: which steps to be told of while it goes on; in the place of `top_k`.
    """

    token_ids: tuple[int, ...]
    num_tokens: int
    sampling: SamplingConfig
    top_k: int = 0
    gate: Gate | None = None

    def params(self) -> dict[str, object]:
        """The sampling parameters of `/generate`."""
        params: dict[str, object] = {
            "max_new_tokens": self.num_tokens,
            "temperature": self.sampling.temperature,
            "top_p": self.sampling.top_p,
            "stop_token_ids": list(self.sampling.stop_token_ids),
        }
        if self.gate is not None:
            params["custom_params"] = self.gate.custom_params()
        return params

    def payload(self, request_id: str) -> Json:
        """The body of `/generate`."""
        return generate_payload(
            self.token_ids,
            self.params(),
            request_id=request_id,
            top_logprobs=self.top_k,
            processor=processor_text() if self.gate else None,
        )

    def read(self, answer: object, logprobs: str, num_checked: int = 0) -> Generation:
        """The server's answer to it, complete or not; the arguments are `parse_generation`'s."""
        temperature = self.sampling.temperature if logprobs == "tempered" else 1.0
        return parse_generation(
            answer,
            logprob_temperature=temperature or 1.0,
            top_k=self.top_k,
            gate_top_k=self.gate.top_k if self.gate else 0,
            may_be_aborted=True,
            num_checked=num_checked,
        )
