"""The requests that generate the tree of a prompt.

The schedule decides again after every answer, and its segments are requested at once. So all
segments of all prompts run in the server's batch, none waits for the slowest, and a segment that
can no longer branch is generated to its end in one request while others are monitored. A request
whose segment is no longer on a path is aborted.

A request may be interrupted: its stream ends early, its time limit aborts it, or its replica dies.
Its tokens stay in the tree, and the schedule requests the rest. The distribution does not change if
the moment depends only on time and on the tokens before it, as for aborted requests. It changes
slightly if a stream with a θ ends early: the tokens since its last report are lost, all of which
were below θ, and the tokens sampled in their place may reach it. So the number of superfluous
branches is at most the number of streams that ended early. The steps that a search stores arrive
with the tokens, and nothing depends on when.

Under the chunk monitor a request is for as many tokens as the path has since its last branch,
between `chunk_tokens` and eight times that. About half of the tails after branches are discarded,
so chunks are short where branches are frequent; a request costs a forward pass for its prefill, so
they are long where branches are rare. With `chunk_tokens` = 1 every request is for a single token,
as in the paper's reference implementation.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from dataclasses import replace

from eager_sgl.config import SamplingConfig
from eager_sgl.core import DeferredBranch, Generation, Monitor, PromptResult, TokenCounts
from eager_sgl.engine.limits import ABORT_TIMEOUT
from eager_sgl.engine.loop import spawn
from eager_sgl.engine.replicas import Replicas
from eager_sgl.engine.requests import Request
from eager_sgl.errors import ServerError
from eager_sgl.generate.flights import InFlight, Outcome
from eager_sgl.generate.stops import StopTokens
from eager_sgl.methods import Method
from eager_sgl.plugin.vocabulary import Gate
from eager_sgl.schedule import Decision, Monitored
from eager_sgl.tree import Segment, TokenTree

__all__ = ["TreeExecutor"]

MAX_CHUNK_FACTOR = 8
"""Length of the longest chunk in `chunk_tokens`."""
MIN_OBSERVED_PART = 32
"""Tokens of a request with alternatives, where its tokens are to be reported while it runs and the
server has no gate."""
AWAITED_INTERVAL, AWAITED_PARTS = 16, 64
"""Tokens between two parts of an answer on which decisions depend, at least; and the number of such
parts, at most. SGLang sends all tokens so far with every part."""
MAX_FRUITLESS = 7
"""Interrupted requests without a token, in a row, after which a prompt fails."""
SECONDS_BETWEEN_ABORTS = 0.5
"""An abort that overtook its request is repeated."""


class TreeExecutor:
    """The running requests of a tree; used by one task of an event loop.

    Args:
        replicas: on one of which the tree lives.
        tree: of the prompt.
        stops: the tokens that end sequences, for the tree.
        method: how sequences are sampled and observed.
        stream_interval: tokens between two parts of an answer; 0 for the replica's pace where the
            server can stream, None for whole answers.
    """

    def __init__(
        self,
        replicas: Replicas,
        tree: TokenTree,
        stops: StopTokens,
        method: Method,
        stream_interval: int | None = None,
    ) -> None:
        self.tree = tree
        self._lease = replicas.lease(method.sampling.max_new_tokens, self.on_down)
        self._stops = stops
        self._method, self._interval = method, stream_interval
        self._top_k = self._lease.client.top_k(method.top_k)
        self._in_flight: dict[Segment, InFlight] = {}
        self._num_running_tokens = 0
        self._outcomes: deque[tuple[InFlight, Outcome]] = deque()
        self._has_news = asyncio.Event()
        self._is_down = False
        self._fruitless: dict[Segment, int] = {}
        self._awaited: frozenset[Segment] = frozenset()

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
    def counts(self) -> TokenCounts:
        """The cost so far, with the tokens that running requests have reported."""
        spent = self.tree.spent
        return replace(spent, generated=spent.generated + self._num_running_tokens)

    # Requests

    async def prefill(self) -> None:
        """Put the prompt into the radix tree, before several requests with it start at once."""
        client = self._lease.client
        self.tree.record(await self._lease.call(lambda c: c.prefill(self.tree.prompt_ids)))
        if self._lease.client is not client:
            self._is_down = False  # the tree has moved already

    async def open_deferred(self, result: PromptResult, deferred: DeferredBranch) -> Segment:
        """The segment of a deferred branch of an earlier result."""
        before = result.sequences[deferred.sequence].token_ids[: deferred.point.position]
        tokens = *before, *deferred.point.token_ids
        self._lease.client.require_known("the result", tokens)
        await self._stops.learn(deferred.point.token_ids)
        return self.tree.branch_given(before, deferred.point, deferred.choice)

    def submit(self, decision: Decision) -> None:
        """Request the segments that continue; abort the requests of segments on no path."""
        self._awaited = decision.awaited
        on_paths = {leaf.segment for leaf in decision.leaves}
        on_paths.update(decision.drawn, decision.probes)
        for segment, flight in self._in_flight.items():
            if segment not in on_paths and not flight.is_discarded:
                flight.is_discarded = True
                self._abort(flight)
        for monitored in decision.monitored:
            if monitored.segment not in self._in_flight:
                self._submit_monitored(monitored)
        for segment in (*decision.free, *decision.probes):
            if segment not in self._in_flight:
                self._submit_free(segment)
        for segment in decision.drawn:
            if segment.awaits_draw and segment not in self._in_flight:
                self._submit_draw(segment)

    def _submit_draw(self, segment: Segment) -> None:
        """Request the first token of a segment, with its logprob."""
        if (gate := self.gate) is not None:
            self._start(segment, 1, gate=Gate(top_k=gate.top_k, columns=("logprobs",)))
        else:
            self._start(segment, 1, top_k=1)

    def _submit_free(self, segment: Segment) -> None:
        """Request the tokens of a segment that does not branch while it runs."""
        remaining = self.tree.remaining(segment)
        # Steps that can no longer branch need no alternatives; a search stores its steps.
        if self._method.monitoring is not None or not self._top_k or segment.probe:
            self._start(segment, remaining)
        elif (gate := self.gate) is not None:
            self._start(segment, remaining, gate=_with_floor(gate, segment))
        else:
            # SGLang streams no alternatives in the compact form, so their parts are requests.
            interval = self._stream_interval() if self._awaited else self._interval
            part = max(interval, MIN_OBSERVED_PART) if interval else remaining
            self._start(segment, min(remaining, part), top_k=self._top_k)

    def _submit_monitored(self, monitored: Monitored) -> None:
        config, segment = self._method.monitoring, monitored.segment
        assert config is not None, "the method monitors nothing"
        remaining = self.tree.remaining(segment)
        if (gate := self.gate) is not None:
            self._start(segment, remaining, gate=monitored.narrowed(gate))
        else:
            longest = MAX_CHUNK_FACTOR * config.chunk_tokens if config.chunk_tokens > 1 else 1
            chunk = max(config.chunk_tokens, monitored.steps_since_branch)
            num_tokens = min(chunk, longest, remaining)
            self._start(segment, num_tokens, top_k=self._top_k)

    def _start(
        self,
        segment: Segment,
        num_tokens: int,
        *,
        top_k: int = 0,
        gate: Gate | None = None,
    ) -> None:
        client = self._lease.client
        request = Request(
            token_ids=(*self.tree.prompt_ids, *segment.path()),
            num_tokens=num_tokens,
            sampling=self._sampling(segment),
            top_k=top_k,
            gate=self._with_origin(gate, segment),
            is_pickled=client.profile.gate == "pickle",
            seed=segment.seed if client.profile.honours_seed else None,
            excluded=segment.draw.excluded if segment.draw and segment.awaits_draw else (),
            stream_interval=None if top_k else self._stream_interval(),
        )
        flight = InFlight(segment, num_tokens)
        self._in_flight[segment] = flight
        self._lease.add(num_tokens)
        flight.task = spawn(flight.run(client, request, self._put))

    def _sampling(self, segment: Segment) -> SamplingConfig:
        """The method's; probes are greedy."""
        sampling = self._method.sampling
        return sampling if segment.probe is None else replace(sampling, temperature=0.0)

    def _stream_interval(self) -> int | None:
        pace = self._lease.client.pace
        interval = pace.interval if self._interval == 0 else self._interval
        if not self._awaited:
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
        if parent := self._running_parent(segment):
            gate = replace(gate or Gate(), parent=parent)
        if self._method.seed is None or profile.honours_seed or not profile.gate_honours_seed:
            return gate
        return replace(gate or Gate(), seed=segment.seed)

    def _running_parent(self, segment: Segment) -> str | None:
        """The request that has decoded the tokens before the segment, and is not over."""
        flight = self._in_flight.get(segment.parent) if segment.parent else None
        if flight is None or segment.start <= flight.start:
            return None
        return flight.handle.request_id or None

    def _put(self, flight: InFlight, outcome: Outcome) -> None:
        if self._in_flight.get(flight.segment) is flight:  # its cancellation may have come too late
            self._outcomes.append((flight, outcome))
            self._has_news.set()

    def _abort(self, flight: InFlight) -> None:
        flight.handle.aborted = True
        spawn(self._lease.client.abort(flight.handle))

    # Answers

    async def wait(self) -> bool:
        """Wait for a part of an answer; put all parts so far into the tree.

        Returns:
            Whether decisions may depend on what has arrived.

        Raises:
            ServerError: a request failed.
        """
        if not self._outcomes and not self._is_down:
            self._has_news.clear()
            await self._has_news.wait()
        is_decisive = False
        while self._outcomes and not self._is_down:
            is_decisive |= await self._take_next()
        if self._is_down:
            await self._move()
            return True
        return is_decisive

    async def _take_next(self) -> bool:
        """Put the next outcome into the tree; whether decisions may depend on it."""
        flight, outcome = self._outcomes[0]
        if isinstance(outcome, Exception):
            if self._lease.report(outcome):
                self._outcomes.popleft()
                self._is_down = True
                return True
        elif outcome.interrupted:
            await self._stops.learn(outcome.token_ids[-1:])
        self._outcomes.popleft()  # not before: the question may be cancelled
        num_known = len(flight.segment.branch_points)
        has_ended = self._receive(flight, outcome)
        new = flight.segment.branch_points[num_known:]
        await self._stops.learn(token for point in new for token in point.token_ids)
        return has_ended or bool(new) or flight.segment in self._awaited

    def _receive(self, flight: InFlight, outcome: Outcome) -> bool:
        """Put an outcome into the tree; whether the request has ended."""
        has_ended = isinstance(outcome, Exception) or outcome.is_over
        if has_ended:
            self._end(flight)
        elif not isinstance(outcome, Exception):
            num_new = outcome.num_decoded - flight.num_received
            self._num_running_tokens += num_new
            self._lease.remove(num_new)
            self._lease.client.pace.note(len(outcome.token_ids), flight.seconds)
            flight.latest = outcome
        if isinstance(outcome, Exception):
            if not flight.handle.aborted:
                raise outcome
        elif flight.is_discarded:
            self._receive_discarded(flight, outcome)
        else:
            self.tree.append(flight.segment, outcome, flight.num_tokens, flight.start)
            if not flight.handle.aborted:
                self._require_progress(flight, outcome)
        return has_ended

    def _end(self, flight: InFlight) -> None:
        del self._in_flight[flight.segment]
        self._num_running_tokens -= flight.num_received
        self._lease.remove(flight.num_tokens - flight.num_received)

    def _receive_discarded(self, flight: InFlight, outcome: Generation) -> None:
        if outcome.is_over:
            self.tree.record(outcome)
        else:  # the abort has overtaken the request
            self._abort(flight)

    def _require_progress(self, flight: InFlight, outcome: Generation) -> None:
        """Fail after several interrupted requests in a row without a token."""
        segment = flight.segment
        if outcome.interrupted is None or segment.end > flight.start:
            self._fruitless.pop(segment, None)
            return
        self._fruitless[segment] = number = self._fruitless.get(segment, 0) + 1
        if number >= MAX_FRUITLESS:
            raise ServerError(
                f"{number} requests in a row ended without a token: {outcome.interrupted}"
            )

    # Failures and ends

    def on_down(self) -> None:
        """The replica has failed: the requests continue on another."""
        self._is_down = True
        self._has_news.set()

    async def _move(self) -> None:
        """Keep what the running requests have reported, and change the replica."""
        handles = [flight.handle for flight in self._in_flight.values()]
        running = [handle.request_id for handle in handles if handle.request_id]
        for flight in self._in_flight.values():
            flight.task.cancel()  # so that nothing arrives while stop tokens are asked for
        while self._outcomes:
            if isinstance(self._outcomes[0][1], Exception):
                self._outcomes.popleft()
            else:
                await self._take_next()
        latest = (flight.latest for flight in self._in_flight.values() if flight.latest)
        await self._stops.learn(token for part in latest for token in part.token_ids[-1:])
        self._end_all("its server has failed")
        await self._lease.move(running)
        self._is_down = False
        self._top_k = self._lease.client.top_k(self._method.top_k)

    async def stop(self) -> None:
        """Abort all requests, and put what they have decoded into the tree.

        A server that does not answer the aborts in time has its connections closed.
        """
        with contextlib.suppress(TimeoutError, ServerError):
            async with asyncio.timeout(ABORT_TIMEOUT):
                while self._in_flight and not self._is_down:
                    for flight in self._in_flight.values():
                        self._abort(flight)
                    await self._wait_for(SECONDS_BETWEEN_ABORTS)
        self._end_all("its server has not answered the abort")

    async def _wait_for(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._in_flight and not self._is_down:
                    await self.wait()

    def close(self) -> None:
        """Close the connections of all requests, and leave the replica."""
        self._end_all("it was closed")
        self._lease.close()

    def _end_all(self, reason: str) -> None:
        """Close the connections of the running requests, which end with their latest parts."""
        while self._outcomes:
            flight, outcome = self._outcomes.popleft()
            if not isinstance(outcome, Exception):
                # Whether its last token ends the sequence can no longer be asked.
                self._receive(flight, replace(outcome, interrupted=None))
        for flight in list(self._in_flight.values()):
            flight.task.cancel()
            if flight.latest is None:
                self._end(flight)
            else:
                self._receive(flight, replace(flight.latest, interrupted=reason))

    async def wait_for_all(self) -> None:
        """Wait until all requests have ended."""
        while self._in_flight:
            await self.wait()


def _with_floor(gate: Gate, segment: Segment) -> Gate:
    """With the floor of the segment, and the confidences that its next steps' windows begin with.

    So a request ends where the path would, wherever on the path the request starts.
    """
    if segment.floor is None:
        return gate
    known = segment.path_confidences()
    before = known[max(0, len(known) - gate.window + 1) :]
    return replace(gate, floor=segment.floor, before=tuple(before))
