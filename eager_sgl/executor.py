"""The tree of one prompt and the requests that make it grow.

Nothing waits for the slowest: as soon as any request has been answered, the schedule decides anew,
and what it then wants to go on is asked for. So all segments of all prompts move with the server's
own batch, and a segment that can no longer branch runs to its end in one request while others are
still watched. A request that a later decision has made useless is aborted.

A request may be interrupted: its stream breaks off, or it reaches a limit of time and is told to
stop. The tokens that came stay in the tree, and the schedule asks for the rest from there. That
leaves the distribution as it is wherever the cut depends on time and on the tokens before it alone,
as that of a request that was told to stop. It is not quite so where a gate's stream breaks off at
any time: the tokens since its last report are lost, all of which stayed below θ, and those drawn
anew in their place need not. So at most as many sequences as streams broke have a branch too many.

How much is asked for at once under the chunk monitor: as many tokens as have passed on the path
since its last branch, at least `chunk_tokens`, at most eight times as many. A tail behind a branch
is discarded in about half of the cases, so chunks are short where branches come thickly; a request
costs a forward pass for its prefill, so they are long where none comes. With `chunk_tokens` = 1
every request is for a single token: stepping, as the paper's reference implementation does it.
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

MAX_CHUNKS = 8
MAX_FRUITLESS = 7


class InFlight(NamedTuple):
    """A request that is under way: how many tokens it asks for, and from which position on."""

    handle: RequestHandle
    num_tokens: int
    start: int


class TreeExecutor:
    """A prompt's tree and what has been asked of the server for it.

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
        # Once: what is generated after them comes from the server itself.
        prompt_ids = endpoint.require_known("the state", endpoint.token_ids(source))
        self.tree = TokenTree(
            prompt_ids,
            max_new_tokens=min(sampling.max_new_tokens, endpoint.room_for(len(prompt_ids))),
            policy=method.policy(),
            reasoning_end=endpoint.marker(method.observed_until),
            is_stop=lambda t: t in sampling.stop_token_ids or endpoint.is_stop_token(t),
        )
        self._gate = endpoint.gate(method.monitoring) if method.monitoring else None

    def __enter__(self) -> TreeExecutor:
        return self

    def __exit__(self, *exception: object) -> None:
        """Abort what is still asked for: nobody will take the answers."""
        self._abort(self._in_flight)

    @property
    def _monitor(self) -> Monitor | None:
        if self._method.monitoring is None:
            return None
        return "gate" if self._gate else "chunk"

    def prefill(self) -> None:
        """Put the prompt into the radix tree before several sequences ask for it at once."""
        self.tree.record(self._endpoint.prefill(self.tree.prompt_ids))

    def open_deferred(self, result: PromptResult, deferred: DeferredBranch) -> Segment:
        """The segment that an untried branch of an earlier result opens."""
        before = result.sequences[deferred.sequence].token_ids[: deferred.point.position]
        self._endpoint.require_known("the result", (*before, *deferred.point.token_ids))
        return self.tree.branch_given(before, deferred.point, deferred.choice)

    def submit(self, decision: Decision) -> None:
        """Ask for what the schedule wants, and no longer for what no sequence holds any more."""
        wanted = {leaf.segment for leaf in decision.leaves}
        self._abort(segment for segment in self._in_flight if segment not in wanted)
        for monitored in decision.monitored:
            if monitored.segment not in self._in_flight:
                self._submit_monitored(monitored)
        self.run_to_end(decision.free)

    def run_to_end(self, segments: Iterable[Segment]) -> None:
        """Request the rest of segments that nothing can branch on, unless it is under way."""
        # What is monitored is known once it can no longer branch; a search records all of it.
        top_k = 0 if self._method.monitoring else self._top_k
        for segment in segments:
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
            longest = MAX_CHUNKS * config.chunk_tokens if config.chunk_tokens > 1 else 1
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
        )
        answers = self._answers
        handle = self._endpoint.start(request, lambda outcome: answers.put((segment, outcome)))
        self._in_flight[segment] = InFlight(handle, num_tokens, segment.end)

    def wait(self) -> None:
        """Put what has come into the tree, at least one answer.

        Raises:
            ServerError: a request failed.
        """
        self._receive(*self._answers.get())
        while not self._answers.empty():
            self._receive(*self._answers.get())

    def wait_for_all(self) -> None:
        """Wait until nothing is asked for any more."""
        while self._in_flight:
            self.wait()

    def _receive(self, segment: Segment, outcome: Generation | Exception) -> None:
        is_over = isinstance(outcome, Exception) or outcome.is_over
        flight = self._in_flight.pop(segment) if is_over else self._in_flight[segment]
        if isinstance(outcome, Exception):
            if not flight.handle.aborted:
                raise outcome
        elif not flight.handle.aborted:
            self.tree.append(segment, outcome, flight.num_tokens, flight.start)
            self._note(segment, outcome, has_grown=segment.end > flight.start)
        elif is_over:
            self.tree.record(outcome)
        else:  # it lives on: the notice came before the request did
            self._endpoint.abort(flight.handle)

    def _note(self, segment: Segment, outcome: Generation, *, has_grown: bool) -> None:
        """Count requests in a row that were interrupted before they brought a token."""
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
            flight = self._in_flight[segment]
            if not flight.handle.aborted:
                self._endpoint.abort(flight.handle)

    def sequences(self, leaves: Iterable[Leaf]) -> tuple[Sequence, ...]:
        """What has ended, each with its text, which is asked for once."""
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
