"""The requests that generate the tree of a prompt.

The schedule decides again after every answer, and its segments are requested at once. So all
segments of all prompts run in the server's batch, none waits for the slowest, and a segment that
can no longer branch is generated to its end in one request while others are monitored. A request
whose segment is no longer on a path is aborted.

A request may be interrupted: its stream ends early, or its time limit aborts it. Its tokens stay in
the tree, and the schedule requests the rest. The distribution does not change if the moment depends
only on time and on the tokens before it, as for aborted requests. It changes slightly if a stream
with a gate ends early: the tokens since its last report are lost, all of which were below θ, and
the tokens sampled in their place may reach it. So the number of superfluous branches is at most the
number of streams that ended early.

Under the chunk monitor a request is for as many tokens as the path has since its last branch,
between `chunk_tokens` and eight times that. About half of the tails after branches are discarded,
so chunks are short where branches are frequent; a request costs a forward pass for its prefill, so
they are long where branches are rare. With `chunk_tokens` = 1 every request is for a single token,
as in the paper's reference implementation.
"""

from __future__ import annotations

import queue
from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from sglang.lang.interpreter import ProgramState

from eager_sgl.core import DeferredBranch, Generation, Monitor, PromptResult, Sequence
from eager_sgl.engine.endpoint import endpoint_of
from eager_sgl.engine.gate.parameters import Gate
from eager_sgl.engine.requests import Request, RequestHandle
from eager_sgl.errors import ServerError
from eager_sgl.methods import Method
from eager_sgl.reasoning import decode_all
from eager_sgl.schedule import Decision, Leaf, Monitored, deferred_branches, sequences_of
from eager_sgl.tree import Segment, TokenTree

__all__ = ["TreeExecutor"]

MAX_CHUNK_FACTOR = 8
"""Length of the longest chunk in `chunk_tokens`."""
MAX_FRUITLESS = 7
"""Interrupted requests without a token, in a row, after which a prompt fails."""


class InFlight(NamedTuple):
    """A running request for `num_tokens` tokens of a segment, the first at position `start`."""

    handle: RequestHandle
    num_tokens: int
    start: int


class TreeExecutor:
    """A prompt's tree and its running requests.

    Args:
        source: the state that the sequences continue from.
        method: how they are sampled and observed.
    """

    def __init__(self, source: ProgramState, method: Method) -> None:
        self._endpoint = endpoint = endpoint_of(source)
        self._method, sampling = method, method.sampling
        self._top_k = endpoint.top_k(method.top_k)
        self._in_flight: dict[Segment, InFlight] = {}
        self._answers: queue.SimpleQueue[tuple[Segment, Generation | Exception]] = (
            queue.SimpleQueue()
        )
        self._fruitless: dict[Segment, int] = {}
        self._sequences: dict[Leaf, Sequence] = {}
        # Checked once: later tokens are from the server.
        prompt_ids = endpoint.require_known("the state", endpoint.token_ids(source))
        self.tree = TokenTree(
            prompt_ids,
            max_new_tokens=min(sampling.max_new_tokens, endpoint.room_for(len(prompt_ids))),
            policy=method.policy(),
            reasoning_end=endpoint.marker(method.observed_until),
            is_stop=lambda t: t in sampling.stop_token_ids or endpoint.is_stop_token(t),
            seed=method.seed,
        )
        self._gate = endpoint.gate(method.monitoring) if method.monitoring else None

    def __enter__(self) -> TreeExecutor:
        return self

    def __exit__(self, *exception: object) -> None:
        """Abort the running requests, whose answers are not needed."""
        self._abort(self._in_flight)

    @property
    def _monitor(self) -> Monitor | None:
        if self._method.monitoring is None:
            return None
        return "gate" if self._gate else "chunk"

    def prefill(self) -> None:
        """Put the prompt into the radix tree, before several requests with it start at once."""
        self.tree.record(self._endpoint.prefill(self.tree.prompt_ids))

    def open_deferred(self, result: PromptResult, deferred: DeferredBranch) -> Segment:
        """The segment of a deferred branch of an earlier result."""
        before = result.sequences[deferred.sequence].token_ids[: deferred.point.position]
        self._endpoint.require_known("the result", (*before, *deferred.point.token_ids))
        return self.tree.branch_given(before, deferred.point, deferred.choice)

    def submit(self, decision: Decision) -> None:
        """Request the segments that continue; abort the requests of segments on no path."""
        on_paths = {leaf.segment for leaf in decision.leaves}
        self._abort(segment for segment in self._in_flight if segment not in on_paths)
        for monitored in decision.monitored:
            if monitored.segment not in self._in_flight:
                self._submit_monitored(monitored)
        # Steps that can no longer branch need no alternatives; a search records all steps.
        top_k = 0 if self._method.monitoring else self._top_k
        for segment in decision.free:
            if segment not in self._in_flight:
                self._start(segment, self.tree.remaining(segment), top_k=top_k)

    def _submit_monitored(self, monitored: Monitored) -> None:
        config, segment = self._method.monitoring, monitored.segment
        assert config is not None, "the method monitors nothing"
        remaining = self.tree.remaining(segment)
        if self._gate is not None:
            gate = replace(self._gate, max_reports=monitored.max_reports)
            self._start(segment, remaining, gate=gate)
        else:
            longest = MAX_CHUNK_FACTOR * config.chunk_tokens if config.chunk_tokens > 1 else 1
            chunk = max(config.chunk_tokens, monitored.steps_since_branch)
            self._start(segment, min(chunk, longest, remaining), top_k=self._top_k)

    def _start(
        self, segment: Segment, num_tokens: int, *, top_k: int = 0, gate: Gate | None = None
    ) -> None:
        request = Request(
            token_ids=(*self.tree.prompt_ids, *segment.path()),
            num_tokens=num_tokens,
            sampling=self._method.sampling,
            top_k=top_k,
            gate=gate,
            seed=segment.seed,
        )
        answers = self._answers
        handle = self._endpoint.start(request, lambda outcome: answers.put((segment, outcome)))
        self._in_flight[segment] = InFlight(handle, num_tokens, segment.end)

    def wait(self) -> None:
        """Wait for an answer; put all answers so far into the tree.

        Raises:
            ServerError: a request failed.
        """
        self._receive(*self._answers.get())
        while not self._answers.empty():
            self._receive(*self._answers.get())

    def wait_for_all(self) -> None:
        """Wait until all requests have ended."""
        while self._in_flight:
            self.wait()

    def _receive(self, segment: Segment, outcome: Generation | Exception) -> None:
        has_ended = isinstance(outcome, Exception) or outcome.is_over
        request = self._in_flight.pop(segment) if has_ended else self._in_flight[segment]
        if isinstance(outcome, Exception):
            if not request.handle.aborted:
                raise outcome
        elif not request.handle.aborted:
            self.tree.append(segment, outcome, request.num_tokens, request.start)
            self._require_progress(segment, outcome, has_grown=segment.end > request.start)
        elif has_ended:
            self.tree.record(outcome)
        else:  # the abort has overtaken the request
            self._endpoint.abort(request.handle)

    def _require_progress(self, segment: Segment, outcome: Generation, *, has_grown: bool) -> None:
        """Fail after several interrupted requests in a row without a token."""
        if outcome.interrupted is None or has_grown:
            self._fruitless.pop(segment, None)
            return
        self._fruitless[segment] = number = self._fruitless.get(segment, 0) + 1
        if number >= MAX_FRUITLESS:
            raise ServerError(
                f"{number} requests in a row ended without a token: {outcome.interrupted}"
            )

    def _abort(self, segments: Iterable[Segment]) -> None:
        for segment in segments:
            handle = self._in_flight[segment].handle
            if not handle.aborted:
                self._endpoint.abort(handle)

    def sequences(self, leaves: Iterable[Leaf]) -> tuple[Sequence, ...]:
        """The sequences of finished leaves with their texts, each decoded once."""
        leaves = tuple(leaves)
        if new := [leaf for leaf in leaves if leaf not in self._sequences]:
            bare, reasoning_end = sequences_of(new), self._method.reasoning_end or ""
            texts = decode_all(
                [sequence.token_ids for sequence in bare],
                self._endpoint.decode,
                self._endpoint.marker(reasoning_end),
                reasoning_end,
            )
            for leaf, sequence, (text, final) in zip(new, bare, texts, strict=True):
                self._sequences[leaf] = replace(sequence, text=text, final_text=final)
        return tuple(self._sequences[leaf] for leaf in leaves)

    def result(self, decision: Decision, max_sequences: int) -> PromptResult:
        """The sequences of the last decision with their texts, once all requests have ended."""
        self.wait_for_all()
        monitoring, leaves = self._method.monitoring, decision.leaves
        keeps_deferred = monitoring is not None and monitoring.deferred_threshold is not None
        return PromptResult(
            prompt_ids=self.tree.prompt_ids,
            sequences=self.sequences(leaves),
            counts=self.tree.counts(leaf.segment for leaf in leaves),
            max_sequences=max_sequences,
            deferred=deferred_branches(leaves) if keeps_deferred else (),
            monitor=self._monitor,
            entropy_histogram=decision.entropy_histogram,
        )
