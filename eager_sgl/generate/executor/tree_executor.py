"""`TreeExecutor`: requests what a schedule has decided, and puts the answers into the tree."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

from eager_sgl.core import DeferredBranch, Monitor, PromptResult, TokenCounts
from eager_sgl.engine.limits import ABORT_TIMEOUT
from eager_sgl.engine.replicas import Replicas
from eager_sgl.errors import ServerError
from eager_sgl.generate.executor.builder import RequestBuilder
from eager_sgl.generate.executor.flights import Flights
from eager_sgl.generate.executor.in_flight import InFlight, Outcome
from eager_sgl.generate.stops import StopTokens
from eager_sgl.methods import Method
from eager_sgl.schedule import Decision
from eager_sgl.tree import Segment, TokenTree

__all__ = ["TreeExecutor"]


class TreeExecutor:
    """Requests what is decided on a tree, and puts the answers into it.

    It is used by one task of an event loop.

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
        self._flights = Flights(self._lease)
        self._builder = RequestBuilder(self._lease, tree, method, self._flights, stream_interval)
        self._is_down = False
        self._awaited: frozenset[Segment] = frozenset()
        self._may_be_awaited = False
        self._num_known = 0

    @property
    def monitor(self) -> Monitor | None:
        """How steps are observed; None where none are."""
        return self._builder.monitor

    @property
    def has_sampling_logprobs(self) -> bool:
        """Whether logprobs are of the whole distribution at the sampling temperature."""
        return self._builder.has_sampling_logprobs

    @property
    def counts(self) -> TokenCounts:
        """The cost so far, with the tokens that running requests have reported."""
        spent = self.tree.spent
        return replace(spent, generated=spent.generated + self._flights.num_tokens)

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

    async def end_opened(self) -> bool:
        """End the new segments whose first token ends sequences; whether there are any.

        A schedule that decides in the loop cannot wait for the answer about a token.
        """
        segments = self.tree.segments
        opened = [s for s in segments[self._num_known :] if s.parent and not s.draw]
        self._num_known = len(segments)
        await self._stops.learn(segment.token_ids[0] for segment in opened)
        ended = [s for s in opened if s.finish_reason is None and self._stops(s.token_ids[0])]
        for segment in ended:
            segment.finish_reason = "stop"
        return bool(ended)

    def submit(self, decision: Decision) -> None:
        """Request the segments that continue; abort the requests of segments on no path."""
        self._awaited, self._may_be_awaited = decision.awaited, decision.may_be_awaited
        leaves = (leaf.segment for leaf in decision.leaves)
        on_paths = {segment for segment in leaves if segment.finish_reason is None}
        on_paths.update(decision.drawn, decision.probes)
        flights, builder = self._flights, self._builder
        flights.discard_others(on_paths)
        for monitored in decision.monitored:
            if (segment := monitored.segment) not in flights:
                flights.start(segment, builder.monitored(monitored, self._is_awaited(segment)))
        for segment in (*decision.free, *decision.probes):
            if segment not in flights:
                flights.start(segment, builder.free(segment, self._is_awaited(segment)))
        for segment in decision.drawn:
            if segment.awaits_draw and segment not in flights:
                flights.start(segment, builder.draw(segment, self._is_awaited(segment)))

    def _is_awaited(self, segment: Segment) -> bool:
        """Whether decisions may depend on a part of the answer about a segment."""
        return self._may_be_awaited or segment in self._awaited

    # Answers

    async def wait(self) -> bool:
        """Wait for a part of an answer; put all parts so far into the tree.

        Returns:
            Whether decisions may depend on what has arrived.

        Raises:
            ServerError: a request failed.
        """
        if not self._flights.outcomes and not self._is_down:
            self._flights.has_news.clear()
            await self._flights.has_news.wait()
        is_decisive = False
        while self._flights.outcomes and not self._is_down:
            is_decisive |= await self._take_next()
        if self._is_down:
            await self._move()
            return True
        return is_decisive

    async def _take_next(self) -> bool:
        """Put the next outcome into the tree; whether decisions may depend on it."""
        flight, outcome = self._flights.outcomes[0]
        if isinstance(outcome, Exception):
            if self._lease.report(outcome):
                self._flights.outcomes.popleft()
                self._is_down = True
                return True
        elif outcome.interrupted:
            await self._stops.learn(outcome.token_ids[-1:])
        self._flights.outcomes.popleft()  # not before: the question may be cancelled
        num_known = len(flight.segment.branch_points)
        has_ended = self._receive(flight, outcome)
        new = flight.segment.branch_points[num_known:]
        await self._stops.learn(token for point in new for token in point.token_ids)
        return has_ended or bool(new) or flight.segment in self._awaited

    def _receive(self, flight: InFlight, outcome: Outcome) -> bool:
        """Put an outcome into the tree; whether the request has ended."""
        has_ended = isinstance(outcome, Exception) or outcome.is_over
        if has_ended:
            self._flights.end(flight)
        elif not isinstance(outcome, Exception):
            self._flights.note_part(flight, outcome)
        if isinstance(outcome, Exception):
            if not flight.handle.aborted:
                raise outcome
        elif flight.is_discarded or flight.segment.finish_reason is not None:
            if has_ended:  # the schedule may have ended the segment
                self.tree.record(outcome)
        else:
            self.tree.append(flight.segment, outcome, flight.num_tokens, flight.start)
            if not flight.handle.aborted:
                self._flights.require_progress(flight, outcome)
        return has_ended

    # Failures and ends

    def on_down(self) -> None:
        """The replica has failed: the requests continue on another."""
        self._is_down = True
        self._flights.has_news.set()

    async def _move(self) -> None:
        """Keep what the running requests have reported, and change the replica."""
        handles = [flight.handle for flight in self._flights]
        running = [handle.request_id for handle in handles if handle.request_id]
        for flight in self._flights:
            flight.task.cancel()  # so that nothing arrives while stop tokens are asked for
        while self._flights.outcomes:
            if isinstance(self._flights.outcomes[0][1], Exception):
                self._flights.outcomes.popleft()
            else:
                await self._take_next()
        latest = (flight.latest for flight in self._flights if flight.latest)
        await self._stops.learn(token for part in latest for token in part.token_ids[-1:])
        self._end_all("its server has failed")
        await self._lease.move(running)
        self._is_down = False

    async def stop(self) -> None:
        """Abort all requests, and put what they have decoded into the tree.

        A server that does not answer the aborts in time has its connections closed.
        """
        with contextlib.suppress(TimeoutError, ServerError):
            async with asyncio.timeout(ABORT_TIMEOUT):
                for flight in self._flights:
                    self._flights.abort(flight)
                while self._flights and not self._is_down:
                    await self.wait()
        self._end_all("its server has not answered the abort")

    def close(self) -> None:
        """Close the connections of all requests, and leave the replica."""
        self._end_all("it was closed")
        self._lease.close()

    def _end_all(self, reason: str) -> None:
        """Close the connections of the running requests, which end with their latest parts."""
        while self._flights.outcomes:
            flight, outcome = self._flights.outcomes.popleft()
            if not isinstance(outcome, Exception):
                # Whether its last token ends the sequence can no longer be asked.
                self._receive(flight, replace(outcome, interrupted=None))
        for flight in list(self._flights):
            flight.task.cancel()
            if flight.latest is None:
                self._flights.end(flight)
            else:
                self._receive(flight, replace(flight.latest, interrupted=reason))

    async def wait_for_all(self) -> None:
        """Wait until all requests have ended."""
        while self._flights:
            await self.wait()
