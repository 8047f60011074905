"""The token tree of a prompt: all sampled tokens, and the only place where tokens are counted.

A *segment* is a run of tokens sampled one after another. Branching does not cut a segment: a new
segment leaves it at a position, and the later tokens are kept. The schedule's replay decides which
of them a sequence holds.

Every segment has a seed. SGLang's noise is a function of the seed, the position and the token, so
two branches with the same seed would be drawn with common noise, while the requests that continue a
segment need its seed to draw what a single request would. A segment's seed follows from that of the
tree, the prompt and the branches on its path. So it does not depend on the order of answers, nor on
the lengths of requests.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from eager_sgl.core import BranchPoint, FinishReason, Generation, TokenCounts
from eager_sgl.policy import Policy, StepSignals
from eager_sgl.reasoning import reasoning_ends_at
from eager_sgl.seeds import derived_seed, fresh_seed
from eager_sgl.steps import Steps

__all__ = ["Draw", "Probe", "Segment", "TokenTree"]

Value = TypeVar("Value")


@dataclass(frozen=True)
class Draw:
    """A draw of the server, of the first token of a segment that leaves another.

    Attributes:
        excluded: the tokens that are not drawn; none where the whole distribution is drawn from.
        mass: their probability at the sampling temperature.
    """

    excluded: tuple[int, ...] = ()
    mass: float = 0.0

    def unbiased(self, logprob: float) -> float:
        """The logprob of the drawn token in the whole distribution, from that without the excluded.

        The rounding of the mass, about 1e-6, is its error in a probability.
        """
        return logprob + math.log1p(-self.mass)


@dataclass(frozen=True)
class Probe:
    """A short continuation whose first tokens are forced.

    Attributes:
        num_forced: number of those tokens.
        end: position at which it ends, at the latest.
    """

    num_forced: int
    end: int


def _no_tokens() -> array[int]:
    return array("i")


@dataclass(eq=False)
class Segment:
    """A run of tokens sampled one after another, from a position of the tree on.

    Attributes:
        index: in `TokenTree.segments`; −1 until the tree has accepted its drawn token.
        seed: of its draws on the server, for all of its requests; in [0, 2^63).
        parent: the segment it left; None at the prompt.
        start: position of its first token.
        token_ids: its tokens; the first of a segment with a parent is forced, or drawn.
        logprobs: of its tokens, as the server returned them; NaN where not requested.
        entropies: of its steps, in nats; NaN where a step was not monitored.
        branch_points: the monitored steps at which it may branch, by rising position.
        stored: the steps that a policy stored with their alternatives, in parts, one per request.
        raw_logprobs: of its tokens at temperature 1; NaN under a policy without them.
        confidences: of its first steps, as `Generation.confidences`; NaN where not known, as are
            those of the steps after them.
        open_until: position at which the reasoning closed on its path; None while it is open.
        finish_reason: how it ended; None while it can continue.
        is_given: whether its tokens were generated, and counted, by another tree.
        draw: how its first token is drawn; None where that is forced, or follows the prompt.
        floor: in nats, of the running confidence of its path, below which the gate ends it; None
            for no such floor.
        probe: of a segment that is a probe, outside `TokenTree.segments`; else None.
    """

    index: int
    seed: int
    parent: Segment | None = None
    start: int = 0
    token_ids: array[int] = field(default_factory=_no_tokens)
    logprobs: list[float] = field(default_factory=list)
    entropies: list[float] = field(default_factory=list)
    branch_points: list[BranchPoint] = field(default_factory=list)
    stored: list[Steps] = field(default_factory=list)
    raw_logprobs: list[float] = field(default_factory=list)
    confidences: array[float] = field(default_factory=lambda: array("f"))
    open_until: int | None = None
    finish_reason: FinishReason | None = None
    is_given: bool = False
    draw: Draw | None = None
    floor: float | None = None
    probe: Probe | None = None

    @property
    def num_forced(self) -> int:
        """Number of its first tokens that were set."""
        if self.probe is not None:
            return self.probe.num_forced
        return int(self.parent is not None and self.draw is None)

    @property
    def awaits_draw(self) -> bool:
        """Whether its first token is still to be drawn."""
        return self.draw is not None and not self.token_ids

    @property
    def end(self) -> int:
        """Position of the next token."""
        return self.start + len(self.token_ids)

    @property
    def reasoning_closed(self) -> bool:
        """Whether the reasoning has closed on its path."""
        return self.open_until is not None

    @property
    def steps(self) -> Steps | None:
        """All stored steps; None without any."""
        if len(self.stored) > 1:
            self.stored = [Steps.join(self.stored)]
        return self.stored[0] if self.stored else None

    def lineage(self) -> list[tuple[Segment, int]]:
        """The segments from the prompt to this one, each with the position where the path exits."""
        pieces = [(self, self.end)]
        while (parent := pieces[-1][0].parent) is not None:
            pieces.append((parent, pieces[-1][0].start))
        return pieces[::-1]

    def path(self) -> list[int]:
        """All tokens from the prompt (not included) to the end of this segment."""
        return self._along(lambda segment: segment.token_ids)

    def last_tokens(self, number: int) -> list[int]:
        """The last tokens of `path()`, at most `number`."""
        if len(self.token_ids) >= number:
            return self.token_ids[len(self.token_ids) - number :].tolist()
        return self.path()[-number:]

    def path_raw_logprobs(self) -> list[float]:
        """The raw logprobs of `path()`."""
        return self._along(lambda segment: segment.raw_logprobs)

    def path_logprobs(self) -> list[float]:
        """The logprobs of `path()`."""
        return self._along(lambda segment: segment.logprobs)

    def path_entropies(self) -> list[float]:
        """The entropies of `path()`, in nats."""
        return self._along(lambda segment: segment.entropies)

    def path_confidences(self) -> list[float]:
        """The confidences of `path()`; empty where none is known."""
        if not any(segment.confidences for segment, _ in self.lineage()):
            return []
        return self._along(Segment.padded_confidences)

    def padded_confidences(self) -> array[float]:
        """The confidences of all its steps."""
        unknown = len(self.token_ids) - len(self.confidences)
        return self.confidences + array("f", [math.nan]) * unknown

    def confidence_of_branch(self) -> array[float]:
        """The confidence of its first step, which is a step of the parent too; empty if unknown."""
        assert self.parent is not None, "a root has no branch"
        index = self.start - self.parent.start
        return self.parent.confidences[index : index + 1]

    def _along(self, column: Callable[[Segment], Sequence[Value]]) -> list[Value]:
        values: list[Value] = []
        for segment, end in self.lineage():
            values += column(segment)[: end - segment.start]
        return values


class TokenTree:
    """All segments of a prompt and their cost.

    Args:
        prompt_ids: the prompt's tokens.
        max_new_tokens: length limit of a path in tokens.
        policy: reads the distributions of steps; None where there are none.
        reasoning_end: the tokens that close the reasoning; empty if nothing does.
        is_stop: whether a token ends a sequence.
        probe_ids: the tokens of a probe's text; empty without probes.
        probe_end: the tokens after which nothing is probed; empty for no such tokens.
        seed: of all draws on the server, together with the prompt; None for one that is not
            repeated.

    Attributes:
        segments: all of them, in the order of opening.
        num_roots: segments that start at the end of the prompt.
        probes: those that were made, in their order.
        spent: the cost of the requests so far; `counts` adds the tokens of sequences.
        has_sampling_logprobs: whether the logprobs of tokens and alternatives are of the whole
            distribution at the sampling temperature.
    """

    def __init__(
        self,
        prompt_ids: Sequence[int],
        *,
        max_new_tokens: int,
        policy: Policy | None = None,
        reasoning_end: Sequence[int] = (),
        is_stop: Callable[[int], bool] = lambda token_id: False,
        seed: int | None = None,
        probe_ids: Sequence[int] = (),
        probe_end: Sequence[int] = (),
    ) -> None:
        self.prompt_ids = tuple(prompt_ids)
        self._seed = derived_seed(fresh_seed() if seed is None else seed, *self.prompt_ids)
        self.num_roots = 0
        self.segments: list[Segment] = []
        self.probes: list[Segment] = []
        self.probe_end = tuple(probe_end)
        self._probe_ids = tuple(probe_ids)
        self._max_new_tokens = max_new_tokens
        self._policy = policy
        self._reasoning_end = tuple(reasoning_end)
        self._is_stop = is_stop
        self._opened: dict[tuple[int, int, int], Segment] = {}
        self._num_draws: Counter[tuple[int, int]] = Counter()
        self.spent = TokenCounts()
        self.has_sampling_logprobs = False

    def open_root(self) -> Segment:
        """A new segment at the end of the prompt."""
        seed = derived_seed(self._seed, self.num_roots)
        self.num_roots += 1
        return self._add(Segment(len(self.segments), seed))

    def branch(self, segment: Segment, point: BranchPoint, choice: int) -> Segment:
        """The segment that holds token 0 or 1 of a branch point of `segment`.

        It is `segment` if that token was sampled there; else a new segment, opened once.
        """
        token_id = point.token_ids[choice]
        if token_id == point.sampled:
            return segment
        key = (segment.index, point.position, token_id)
        if key not in self._opened:
            self._opened[key] = self._open(segment, point, choice)
        return self._opened[key]

    def draw(self, parent: Segment, position: int, draw: Draw) -> Segment:
        """A segment that leaves `parent` with a token of the server's, for `accept`."""
        number = self._num_draws[parent.index, position]
        self._num_draws[parent.index, position] += 1
        seed = derived_seed(parent.seed, position, -1, number)
        return Segment(-1, seed, parent, position, draw=draw)

    @property
    def has_draws(self) -> bool:
        """Whether the server was asked for tokens that the tree may not have known."""
        return bool(self._num_draws)

    def accept(self, segment: Segment, point: BranchPoint) -> None:
        """Add a segment whose first token was drawn, token 1 of `point`."""
        assert segment.draw is not None, "nothing was drawn"
        assert segment.token_ids.tolist() == [point.token_ids[1]], f"{segment.token_ids} were drawn"
        segment.index = len(self.segments)
        self._add(segment)
        segment.logprobs, segment.entropies = [point.logprobs[1]], [point.entropy]
        segment.raw_logprobs = [_logarithm(point.probabilities[1])]
        segment.confidences = segment.confidence_of_branch()

    def has_room_for_probe(self, position: int) -> bool:
        """Whether a probe at a position can have a token before the length limit."""
        return position + len(self._probe_ids) < self._max_new_tokens

    def probe(self, parent: Segment, position: int, max_tokens: int) -> Segment:
        """A probe that leaves `parent`: forced tokens, and up to `max_tokens` of the server's."""
        number = len(self._probe_ids)
        seed = derived_seed(parent.seed, position, -2)
        probe = Probe(number, position + number + max_tokens)
        segment = Segment(-1, seed, parent, position, probe=probe)
        self._extend(segment, self._probe_ids, *[_unknown(self._probe_ids)] * 2)
        segment.raw_logprobs += _unknown(self._probe_ids)
        self.probes.append(segment)
        return segment

    def end_probed(self, probe: Segment) -> None:
        """Let a probe that has finished end sequences; its stop token is discarded."""
        if probe.finish_reason == "stop":
            probe.token_ids.pop()
            for column in (probe.logprobs, probe.entropies, probe.raw_logprobs):
                column.pop()
        probe.finish_reason = "probed"

    def branch_given(self, token_ids: Sequence[int], point: BranchPoint, choice: int) -> Segment:
        """A segment that leaves a sequence of another tree, which has counted the shared tokens.

        Args:
            token_ids: the sequence's tokens before `point`.
        """
        seed = derived_seed(self._seed, -1, *token_ids)
        given = self._add(Segment(len(self.segments), seed, is_given=True))
        self._extend(given, token_ids, _unknown(token_ids), _unknown(token_ids))
        given.raw_logprobs += _unknown(token_ids)
        return self._open(given, point, choice)

    def _open(self, parent: Segment, point: BranchPoint, choice: int) -> Segment:
        token_id = point.token_ids[choice]
        seed = derived_seed(parent.seed, point.position, token_id)
        segment = self._add(Segment(len(self.segments), seed, parent, point.position))
        self._extend(segment, [token_id], [point.logprobs[choice]], [point.entropy])
        segment.raw_logprobs.append(_logarithm(point.probabilities[choice]))
        segment.confidences = segment.confidence_of_branch()
        if self._is_stop(token_id):
            segment.finish_reason = "stop"
        return segment

    def _add(self, segment: Segment) -> Segment:
        self.segments.append(segment)
        return segment

    def remaining(self, segment: Segment) -> int:
        """Number of tokens up to the length limit, or to that of a probe."""
        limit = self._max_new_tokens
        return (min(limit, segment.probe.end) if segment.probe else limit) - segment.end

    def record(self, generation: Generation) -> None:
        """Count a request."""
        self.spent += TokenCounts(
            generated=generation.num_decoded,
            prompt=generation.prompt_tokens,
            cached=generation.cached_tokens,
            requests=1,
        )

    def append(
        self, segment: Segment, generation: Generation, num_asked: int, start: int | None = None
    ) -> None:
        """Append the tokens of a request for `num_asked` tokens; count it if it has ended.

        The policy reads the distributions of the steps up to the end of the reasoning. A server
        that returns fewer tokens without a stop token has no room for more, so that the segment
        has reached its length.

        Args:
            start: position at which the request started, where the segment holds a part of its
                tokens already; None for the segment's end.
        """
        assert segment.finish_reason is None, f"segment {segment.index} has ended"
        start = segment.end if start is None else start
        new = generation.after(segment.end - start)
        tokens = new.token_ids
        if new.confidences is not None:
            segment.confidences = segment.padded_confidences()
            segment.confidences.extend(new.confidences.tolist())
        if generation.reported is None:
            self._append_read(segment, new)
        else:
            columns = _known(new.logprobs, tokens), _known(new.entropies, tokens)
            self._extend(segment, tokens, *columns)
            segment.raw_logprobs += _known(new.raw_logprobs, tokens)
            self._append_reported(segment, generation, start)
        if not generation.is_over:
            return
        self.record(generation)
        # An aborted request ends as interrupted even if its last token is a stop token.
        is_cut_at_stop = generation.interrupted and tokens and self._is_stop(tokens[-1])
        if generation.finish_reason == "stop" or is_cut_at_stop:
            segment.finish_reason = "stop"
        elif generation.is_cut:
            segment.finish_reason = "cut"
        elif generation.finish_reason == "length" and len(generation.token_ids) < num_asked:
            segment.finish_reason = "length"

    def _append_read(self, segment: Segment, generation: Generation) -> None:
        """Append tokens with the distributions of all their steps, or of none."""
        start, tokens = segment.end, generation.token_ids
        logprobs = _known(generation.logprobs, tokens)
        signals = StepSignals(_known(generation.entropies, tokens), [])
        # The distribution of a draw lacks the excluded tokens.
        policy = None if segment.awaits_draw else self._policy
        if generation.top is not None and policy is not None:
            signals = policy(generation.top, tokens, start)
        num_open = self._extend(segment, tokens, logprobs, signals.entropies)
        segment.branch_points += [p for p in signals.branch_points if p.position < start + num_open]
        segment.raw_logprobs += signals.raw_logprobs or _known(generation.raw_logprobs, tokens)
        if signals.steps is not None:
            segment.stored.append(signals.steps.before(start + num_open))

    def _append_reported(self, segment: Segment, generation: Generation, start: int) -> None:
        """Append the gate's reports that are new; a generation has all reports so far."""
        assert generation.top is not None
        assert generation.reported is not None
        assert self._policy is not None, "a gate needs a policy"
        rows = _new_rows(segment, generation.reported, start)
        if not rows and (segment.stored or not generation.is_over):
            return
        positions = [start + generation.reported[row] for row in rows]
        taken = [segment.token_ids[position - segment.start] for position in positions]
        signals = self._policy(generation.top.steps(rows), taken, 0).at(positions)
        for position, entropy in zip(positions, signals.entropies, strict=True):
            segment.entropies[position - segment.start] = entropy
        segment.branch_points += signals.branch_points
        steps = signals.steps
        if steps is not None and (len(steps.positions) or not segment.stored):
            segment.stored.append(steps)

    def _extend(
        self,
        segment: Segment,
        tokens: Sequence[int],
        logprobs: Sequence[float],
        entropies: Sequence[float],
    ) -> int:
        """Append tokens; the number of those in the reasoning, its closing marker included."""
        assert len(tokens) <= self.remaining(segment), f"{len(tokens)} tokens are over the limit"
        num_open = 0
        if not segment.reasoning_closed:
            closing = self._find_reasoning_end(segment, tokens)
            num_open = len(tokens) if closing is None else closing
            if closing is not None:
                segment.open_until = segment.end + closing
        segment.token_ids.extend(tokens)
        segment.logprobs += logprobs
        segment.entropies += [*entropies[:num_open], *_unknown(tokens[num_open:])]
        if self.remaining(segment) == 0:
            segment.finish_reason = "length"
        return num_open

    def _find_reasoning_end(self, segment: Segment, tokens: Sequence[int]) -> int | None:
        """The number of new tokens after which the reasoning is closed; None if it stays open."""
        marker = self._reasoning_end
        overlap = segment.last_tokens(len(marker) - 1) if len(marker) > 1 else []
        end = reasoning_ends_at((*overlap, *tokens), marker)
        return None if end is None else end - len(overlap)

    def counts(self, leaves: Iterable[Segment]) -> TokenCounts:
        """The cost of the tree, if the sequences are the paths to the ends of these segments."""
        kept: dict[Segment, int] = {}
        naive = 0
        for leaf in leaves:
            naive += leaf.end
            for segment, end in leaf.lineage():
                kept[segment] = max(kept.get(segment, 0), end)
        return self.spent + TokenCounts(
            unique=sum(
                end - segment.start for segment, end in kept.items() if not segment.is_given
            ),
            naive=naive,
            forced=sum(segment.num_forced for segment in kept),
        )


def _new_rows(segment: Segment, reported: Sequence[int], start: int) -> list[int]:
    """The rows of reports that the segment lacks, up to the end of its reasoning.

    Args:
        reported: indices of steps, rising; 0 is that at `start`.
    """
    known = segment.branch_points[-1].position if segment.branch_points else -1
    for steps in segment.stored[-1:]:
        known = max(known, int(steps.positions.max(initial=-1)))
    last = segment.end if segment.open_until is None else segment.open_until
    rows = []
    for row, step in enumerate(reported):
        if known < start + step < last:
            rows.append(row)
            known = start + step
    return rows


def _known(column: NDArray[np.float32] | None, tokens: Sequence[int]) -> list[float]:
    """A value per token; NaN without a column."""
    return _unknown(tokens) if column is None else column.tolist()


def _logarithm(probability: float) -> float:
    return math.log(probability) if probability else -math.inf


def _unknown(tokens: Sequence[int]) -> list[float]:
    return [math.nan] * len(tokens)
