"""Requests for tokens, and their state while they run on the server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from eager_sgl.config import SamplingConfig
from eager_sgl.core import Generation
from eager_sgl.engine.gate.pickled import PickledReports, pickled_params, processor_text
from eager_sgl.engine.gate.reports import PluginReports, ReportReader
from eager_sgl.engine.protocol import (
    Json,
    generate_payload,
    logprob_temperature,
    new_request_id,
    parse_generation,
)
from eager_sgl.engine.shapes import field
from eager_sgl.errors import ServerError
from eager_sgl.plugin.vocabulary import Gate

__all__ = ["EXCLUDING_BIAS", "Request", "RequestHandle", "Submission"]

EXCLUDING_BIAS = -3e4
"""Added to a logit before it is divided by the temperature: far below all others, and a number of
16 bits."""


@dataclass(frozen=True)
class Request:
    """A request for tokens that continue a path.

    Attributes:
        token_ids: the prompt and the tokens generated after it.
        num_tokens: the maximum to generate.
        sampling: how tokens are drawn.
        top_k: K, the alternatives to return at each step; 0 for none.
        gate: what the server reports of the request, and the seed of its draws; with a gate that
            reports steps, `top_k` is 0.
        is_pickled: whether the gate is sent as a pickle, for a server without the plugin.
        seed: of the draws, in [−2^63, 2^63); None for the server's, which is the same for all
            requests under --enable-deterministic-inference.
        excluded: tokens that are not drawn.
        stream_interval: tokens after which a part of the answer is sent; None for no parts but
            those that a gate reports.
    """

    token_ids: tuple[int, ...]
    num_tokens: int
    sampling: SamplingConfig
    top_k: int = 0
    gate: Gate | None = None
    is_pickled: bool = False
    seed: int | None = None
    excluded: tuple[int, ...] = ()
    stream_interval: int | None = None

    def params(self) -> dict[str, object]:
        """The sampling parameters of `/generate`."""
        params: dict[str, object] = {
            "max_new_tokens": self.num_tokens,
            "temperature": self.sampling.temperature,
            "top_p": self.sampling.top_p,
            "stop_token_ids": list(self.sampling.stop_token_ids),
        }
        if self.sampling.top_k is not None:
            params["top_k"] = self.sampling.top_k
        if self.gate is not None:
            params["custom_params"] = self._custom_params(self.gate)
        if self.seed is not None:
            params["sampling_seed"] = self.seed
        if self.excluded:
            params["logit_bias"] = dict.fromkeys(map(str, self.excluded), EXCLUDING_BIAS)
        if self.stream_interval is not None:
            params["stream_interval"] = self.stream_interval
        return params

    def _custom_params(self, gate: Gate) -> Mapping[str, object]:
        return pickled_params(gate) if self.is_pickled else gate.custom_params()

    def payload(self, request_id: str) -> Json:
        """The body of `/generate`."""
        has_events = self.gate is not None and self.gate.threshold is not None
        return generate_payload(
            self.token_ids,
            self.params(),
            request_id=request_id,
            top_logprobs=self.top_k,
            processor=processor_text() if self.gate and self.is_pickled else None,
            is_stream=has_events or self.stream_interval is not None,
        )

    def reader(self) -> ReportReader | None:
        """A new reader of the gate's reports; None without a gate."""
        if self.gate is None:
            return None
        if self.is_pickled:
            return PickledReports(self.gate.top_k)
        return PluginReports(self.gate, self.sampling.temperature)

    def read(self, answer: object, logprobs: str, num_checked: int = 0) -> Generation:
        """Parse the server's answer, complete or not, without the gate's reports.

        Args:
            answer: the decoded body.
            logprobs: `ServerProfile.logprobs`.
            num_checked: as of `parse_generation`.
        """
        return parse_generation(
            answer,
            logprob_temperature=logprob_temperature(logprobs, self.sampling.temperature),
            top_k=self.top_k,
            may_be_aborted=True,
            num_checked=num_checked,
        )


@dataclass
class RequestHandle:
    """Names a running request.

    Attributes:
        request_id: the `rid`; every try has a new one.
        aborted: whether the client has aborted the request.
    """

    request_id: str = ""
    aborted: bool = False


class Submission:
    """A request that was submitted: its tries, and the latest part of its answer.

    Args:
        request: to submit.
        logprobs: `ServerProfile.logprobs`.
        handle: receives the id of every try.
        done: receives parts of the answer.

    Attributes:
        latest: the latest part of the answer; None without any.
    """

    def __init__(
        self,
        request: Request,
        logprobs: str,
        handle: RequestHandle,
        done: Callable[[Generation], None],
    ) -> None:
        self.latest: Generation | None = None
        self._request, self._logprobs, self._handle, self._done = request, logprobs, handle, done
        self._reports: ReportReader | None = None

    def build(self) -> Json:
        """The body of a new try."""
        if self._handle.aborted:
            raise ServerError("the request was aborted before it was sent")
        self._handle.request_id = new_request_id()
        self._reports = self._request.reader()
        return self._request.payload(self._handle.request_id)

    def read(self, answer: object) -> Generation:
        """Parse an answer or an event."""
        num_checked = len(self.latest.token_ids) if self.latest else 0
        generation = self._with_prompt(self._request.read(answer, self._logprobs, num_checked))
        if self._reports is None:
            return generation
        return self._reports.add_to(generation, field(answer, "meta_info", dict))

    def _with_prompt(self, generation: Generation) -> Generation:
        """With the prompt's numbers, which SGLang's answer to an abort in its queue lacks."""
        if self.latest is None or generation.prompt_tokens:
            return generation
        prompt, cached = self.latest.prompt_tokens, self.latest.cached_tokens
        return replace(generation, prompt_tokens=prompt, cached_tokens=cached)

    def receive(self, generation: Generation) -> None:
        """Pass on an event of the stream."""
        self.latest = generation
        self._done(generation)
