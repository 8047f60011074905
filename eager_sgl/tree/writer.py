"""Tokens that arrive are written into segments, with the readings of their steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from eager_sgl.core import BranchPoint, Generation
from eager_sgl.policy import Policy, StepSignals
from eager_sgl.reasoning import reasoning_ends_at
from eager_sgl.tree.segment import Segment

__all__ = ["SegmentWriter"]


class SegmentWriter:
    """Appends tokens to the segments of a tree, and ends segments.

    Args:
        max_new_tokens: length limit of a path in tokens.
        policy: reads the distributions of steps; None where there are none.
        reasoning_end: the tokens that close the reasoning; empty if nothing does.
        is_stop: whether a token ends a sequence.
    """

    def __init__(
        self,
        max_new_tokens: int,
        policy: Policy | None,
        reasoning_end: Sequence[int],
        is_stop: Callable[[int], bool],
    ) -> None:
        self._max_new_tokens = max_new_tokens
        self._policy = policy
        self._reasoning_end = tuple(reasoning_end)
        self._is_stop = is_stop

    def remaining(self, segment: Segment) -> int:
        """Number of tokens up to the length limit, or to that of a probe."""
        limit = self._max_new_tokens
        return (min(limit, segment.probe.end) if segment.probe else limit) - segment.end

    def append(self, segment: Segment, generation: Generation, num_asked: int, start: int) -> None:
        """Append the tokens of a request for `num_asked` tokens, as `TokenTree.append`."""
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
        if generation.is_over:
            self._end(segment, generation, num_asked, tokens)

    def _end(
        self, segment: Segment, generation: Generation, num_asked: int, tokens: Sequence[int]
    ) -> None:
        """Note the reason where a segment has ended with its request."""
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

    def append_given(self, segment: Segment, tokens: Sequence[int]) -> None:
        """Append tokens that no request has decoded, and of whose steps nothing is known."""
        self._extend(segment, tokens, _unknown(tokens), _unknown(tokens))
        segment.raw_logprobs += _unknown(tokens)

    def append_choice(self, segment: Segment, point: BranchPoint, choice: int) -> None:
        """Append token 0 or 1 of a branch point, which may end the sequence."""
        token_id = point.token_ids[choice]
        self._extend(segment, [token_id], [point.logprobs[choice]], [point.entropy])
        segment.raw_logprobs.append(_logarithm(point.probabilities[choice]))
        segment.confidences = segment.confidence_of_branch()
        if self._is_stop(token_id):
            segment.finish_reason = "stop"

    def correct_draw(self, segment: Segment, point: BranchPoint) -> None:
        """Give the first token of a segment, which was drawn, its values in the distribution."""
        segment.logprobs, segment.entropies = [point.logprobs[1]], [point.entropy]
        segment.raw_logprobs = [_logarithm(point.probabilities[1])]
        segment.confidences = segment.confidence_of_branch()

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
