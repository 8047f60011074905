"""The request for a segment: for how many tokens, how they are observed, and in which parts."""

from __future__ import annotations

from dataclasses import replace

from eager_sgl.config import SamplingConfig
from eager_sgl.core import Monitor
from eager_sgl.engine.replicas import Lease
from eager_sgl.engine.requests import Request
from eager_sgl.generate.executor.flights import Flights
from eager_sgl.methods import Method
from eager_sgl.plugin.vocabulary import Gate
from eager_sgl.schedule import Monitored
from eager_sgl.tree import Segment, TokenTree

__all__ = ["MIN_OBSERVED_PART", "RequestBuilder"]

MAX_CHUNK_FACTOR = 8
"""Length of the longest chunk in `chunk_tokens`."""
MIN_OBSERVED_PART = 32
"""Tokens of a request with alternatives, where its tokens are to be reported while it runs and the
server has no gate."""
AWAITED_INTERVAL, AWAITED_PARTS = 16, 64
"""Tokens between two parts of an answer on which decisions depend, at least; and the number of such
parts, at most. SGLang sends all tokens so far with every part."""


class RequestBuilder:
    """Builds the requests of a tree.

    Args:
        lease: of the replica that they are sent to.
        tree: of the prompt.
        method: how sequences are sampled and observed.
        flights: the running requests of the tree.
        stream_interval: as of `TreeExecutor`.
    """

    def __init__(
        self,
        lease: Lease,
        tree: TokenTree,
        method: Method,
        flights: Flights,
        stream_interval: int | None,
    ) -> None:
        self._lease, self._tree, self._method = lease, tree, method
        self._flights, self._interval = flights, stream_interval

    @property
    def gate(self) -> Gate | None:
        """The gate of observed requests; None where chunks are observed, or nothing."""
        return self._lease.client.gate(self._method)

    @property
    def monitor(self) -> Monitor | None:
        """How steps are observed; None where none are."""
        if not self._method.top_k:
            return None
        return "gate" if self.gate else "chunk"

    @property
    def has_sampling_logprobs(self) -> bool:
        """Whether logprobs are of the whole distribution at the sampling temperature.

        Those of the gate are, and those of a server that does not return raw ones.
        """
        client, method = self._lease.client, self._method
        is_tempered = client.profile.logprobs == "tempered" or method.sampling.temperature == 1
        return is_tempered or client.find_gate(method)[0] is not None

    @property
    def _top_k(self) -> int:
        return self._lease.client.top_k(self._method.top_k)

    def draw(self, segment: Segment, is_awaited: bool) -> Request:
        """For the first token of a segment, with its logprob.

        Args:
            is_awaited: whether decisions may depend on a part of the answer.
        """
        if (gate := self.gate) is None:
            return self._request(segment, 1, is_awaited, top_k=1)
        gate = Gate(top_k=gate.top_k, columns=("logprobs",))
        return self._request(segment, 1, is_awaited, gate=gate)

    def free(self, segment: Segment, is_awaited: bool) -> Request:
        """For the tokens of a segment that does not branch while it runs."""
        remaining = self._tree.remaining(segment)
        # Steps that can no longer branch need no alternatives; a search stores its steps.
        if self._method.monitoring is not None or not self._top_k or segment.probe:
            return self._request(segment, remaining, is_awaited)
        if (gate := self.gate) is not None:
            return self._request(segment, remaining, is_awaited, gate=_with_floor(gate, segment))
        # SGLang streams no alternatives in the compact form, so their parts are requests.
        interval = self._stream_interval(is_awaited) if is_awaited else self._interval
        part = max(interval, MIN_OBSERVED_PART) if interval else remaining
        return self._request(segment, min(remaining, part), is_awaited, top_k=self._top_k)

    def monitored(self, monitored: Monitored, is_awaited: bool) -> Request:
        """For tokens of a segment that may branch while it runs."""
        config, segment = self._method.monitoring, monitored.segment
        assert config is not None, "the method monitors nothing"
        remaining = self._tree.remaining(segment)
        if (gate := self.gate) is not None:
            return self._request(segment, remaining, is_awaited, gate=monitored.narrowed(gate))
        longest = MAX_CHUNK_FACTOR * config.chunk_tokens if config.chunk_tokens > 1 else 1
        chunk = max(config.chunk_tokens, monitored.steps_since_branch)
        num_tokens = min(chunk, longest, remaining)
        return self._request(segment, num_tokens, is_awaited, top_k=self._top_k)

    def _request(
        self,
        segment: Segment,
        num_tokens: int,
        is_awaited: bool,
        *,
        top_k: int = 0,
        gate: Gate | None = None,
    ) -> Request:
        profile = self._lease.client.profile
        return Request(
            token_ids=(*self._tree.prompt_ids, *segment.path()),
            num_tokens=num_tokens,
            sampling=self._sampling(segment),
            top_k=top_k,
            gate=self._with_origin(gate, segment),
            is_pickled=profile.gate == "pickle",
            seed=segment.seed if profile.honours_seed else None,
            excluded=segment.draw.excluded if segment.draw and segment.awaits_draw else (),
            stream_interval=None if top_k else self._stream_interval(is_awaited),
        )

    def _sampling(self, segment: Segment) -> SamplingConfig:
        """The method's; probes are greedy."""
        sampling = self._method.sampling
        return sampling if segment.probe is None else replace(sampling, temperature=0.0)

    def _stream_interval(self, is_awaited: bool) -> int | None:
        pace = self._lease.client.pace
        interval = pace.interval if self._interval == 0 else self._interval
        if not is_awaited:
            return interval
        awaited = max(AWAITED_INTERVAL, self._method.sampling.max_new_tokens // AWAITED_PARTS)
        return min(interval or awaited, awaited)

    def _with_origin(self, gate: Gate | None, segment: Segment) -> Gate | None:
        """With the running request that the segment leaves, and with a seed of the user's.

        A seed slows the server, so that without one of the user's there is none.
        """
        profile = self._lease.client.profile
        if profile.gate != "plugin":
            return gate
        if parent := self._flights.running_parent(segment):
            gate = replace(gate or Gate(), parent=parent)
        if self._method.seed is None or profile.honours_seed or not profile.gate_honours_seed:
            return gate
        return replace(gate or Gate(), seed=segment.seed)


def _with_floor(gate: Gate, segment: Segment) -> Gate:
    """With the floor of the segment, and the confidences that its next steps' windows begin with.

    So a request ends where the path would, wherever on the path the request starts. All confidences
    of such a path are known: its requests report them, and its branches have those of the steps
    that they leave.
    """
    if segment.floor is None:
        return gate
    known = segment.path_confidences()
    before = known[max(0, len(known) - gate.window + 1) :]
    return replace(gate, floor=segment.floor, before=tuple(before))
