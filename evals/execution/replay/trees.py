"""A schedule at work on the recorded tokens of one tree, in place of a server's answers."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from eager_sgl import BranchPoint
from eager_sgl.core import FinishReason, Generation
from eager_sgl.schedule import Leaf, Schedule
from eager_sgl.tree import Segment, TokenTree
from evals.execution.replay.recorded import DisagreementError, RecordedTree
from evals.records.record import SequenceRecord, UntakenStep
from evals.records.steps import unpack_steps

__all__ = ["replay_monitored", "replay_rounds"]

UNKNOWN = -1
"""The untried token of a step that did not branch is not recorded."""

Begin = Callable[[TokenTree], Schedule]
"""Empty tree -> the schedule that decides on it; opens the first segments."""
Replayed = tuple[TokenTree, tuple[Leaf, ...]]
"""A tree and its leaves, which are the recorded sequences."""


def replay_rounds(recorded: RecordedTree, begin: Begin) -> Replayed:
    """Run a schedule that decides when all sequences have ended: Full Parallel, or a search.

    Raises:
        DisagreementError: it decides otherwise than the record.
    """
    tree = _empty_tree(recorded)
    schedule = begin(tree)
    leaves = _opened(schedule, tree, recorded, ())
    while alive := _alive(leaves):
        for leaf in alive:
            _finish(tree, leaf.segment, recorded.of(leaf))
            if leaf.index < len(recorded.steps) and (packed := recorded.steps[leaf.index]):
                _store(leaf, packed)
        leaves = _opened(schedule, tree, recorded, leaves)
    recorded.require_all(leaves)
    return tree, leaves


def replay_monitored(recorded: RecordedTree, begin: Begin, max_sequences: int) -> Replayed:
    """Run EAGer-init: every sequence advances to the next step that branched or might have.

    Args:
        max_sequences: M, from which on no step branches.

    Raises:
        DisagreementError: it decides otherwise than the record.
    """
    tree = _empty_tree(recorded)
    schedule, points = begin(tree), _branch_points(recorded)
    leaves = schedule.replay(tree).leaves
    for position in sorted({point.position for group in points.values() for point in group}):
        if len(leaves) >= max_sequences:
            break
        _advance(tree, leaves, recorded, points, position + 1)
        leaves = _opened(schedule, tree, recorded, leaves)
        recorded.require_number(_num_opened(recorded, position), len(leaves))
    _advance(tree, leaves, recorded, points, None)
    leaves = _opened(schedule, tree, recorded, leaves)
    recorded.require_all(leaves)
    return tree, leaves


def _empty_tree(recorded: RecordedTree) -> TokenTree:
    reasons = {sequence.finish_reason for sequence in recorded.sequences}
    stops = {s.token_ids[-1] for s in recorded.sequences if s.finish_reason == "stop"}
    # A prompt that nearly fills the context leaves less room than the limit.
    longest = max((len(sequence.token_ids) for sequence in recorded.sequences), default=0)
    return TokenTree(
        recorded.prompt_ids,
        max_new_tokens=longest if "length" in reasons else recorded.max_new_tokens,
        is_stop=stops.__contains__,
    )


def _alive(leaves: Iterable[Leaf]) -> list[Leaf]:
    return [leaf for leaf in leaves if leaf.segment.finish_reason is None]


def _opened(
    schedule: Schedule, tree: TokenTree, recorded: RecordedTree, known: Iterable[Leaf]
) -> tuple[Leaf, ...]:
    """The leaves by the next replay, of which the new ones are as recorded."""
    leaves, indices = schedule.replay(tree).leaves, {leaf.index for leaf in known}
    recorded.require_opened(leaf for leaf in leaves if leaf.index not in indices)
    return leaves


def _num_opened(recorded: RecordedTree, position: int) -> int:
    """Sequences that have been opened once all steps up to a position are decided."""
    branches = (sequence.branch for sequence in recorded.sequences)
    return sum(branch is None or branch.position <= position for branch in branches)


def _branch_points(recorded: RecordedTree) -> Mapping[int, Sequence[BranchPoint]]:
    """The steps of each sequence that branched or might have, by rising position."""
    points: dict[int, list[BranchPoint]] = defaultdict(list)
    for sequence in recorded.sequences:
        if sequence.parent is not None and sequence.branch is not None:
            points[sequence.parent].append(sequence.branch)
    for step in recorded.untaken:
        points[step.sequence].append(_untaken_point(recorded, step))
    return {index: sorted(group, key=lambda p: p.position) for index, group in points.items()}


def _untaken_point(recorded: RecordedTree, step: UntakenStep) -> BranchPoint:
    token_ids = recorded.sequences[step.sequence].token_ids
    if step.position >= len(token_ids):
        raise DisagreementError(
            f"the journal has position {step.position} of sequence "
            f"{step.sequence + recorded.num_before}; the record has {len(token_ids)} tokens of it"
        )
    sampled = token_ids[step.position]
    return BranchPoint(
        position=step.position,
        entropy=step.entropy,
        token_ids=(sampled, UNKNOWN),
        probabilities=(1.0, 0.0),
        logprobs=(0.0, -math.inf),
        sampled=sampled,
    )


def _advance(
    tree: TokenTree,
    leaves: Iterable[Leaf],
    recorded: RecordedTree,
    points: Mapping[int, Sequence[BranchPoint]],
    end: int | None,
) -> None:
    """Append tokens up to a position, to all unfinished leaves; None for all their tokens."""
    for leaf in _alive(leaves):
        _extend(tree, leaf.segment, recorded.of(leaf), points.get(leaf.index, ()), end)


def _extend(
    tree: TokenTree,
    segment: Segment,
    sequence: SequenceRecord,
    points: Iterable[BranchPoint],
    end: int | None,
) -> None:
    """Append the tokens of a sequence as they were drawn, and the points that may branch."""
    start, num_tokens = segment.end, len(sequence.token_ids)
    end = num_tokens if end is None else min(end, num_tokens)
    tokens = list(sequence.token_ids[start:end])
    new = [point for point in points if start <= point.position < end]
    if new and new[-1].position == end - 1 and new[-1].sampled != tokens[-1]:
        # Another token was drawn at the last step, before the branch forced this one.
        tokens[-1] = new[-1].sampled
        _append(tree, segment, tokens, None)
    elif end == num_tokens:
        _append(tree, segment, tokens, sequence.finish_reason)
    else:
        _append(tree, segment, tokens, None)
    segment.branch_points += new


def _finish(tree: TokenTree, segment: Segment, sequence: SequenceRecord) -> None:
    _append(tree, segment, sequence.token_ids[segment.end :], sequence.finish_reason)


def _append(
    tree: TokenTree, segment: Segment, tokens: Sequence[int], finish_reason: FinishReason | None
) -> None:
    """Append tokens, the last of the segment if there is a reason."""
    generation = Generation(tuple(tokens), finish_reason, prompt_tokens=0, cached_tokens=0)
    tree.append(segment, generation, num_asked=len(tokens) + 1)


def _store(leaf: Leaf, packed: str) -> None:
    segment = leaf.segment
    try:
        steps = unpack_steps(packed)
    except ValueError as error:
        raise DisagreementError(f"the journal of sequence {leaf.index}: {error}") from error
    if len(steps.positions) and not segment.start <= steps.positions[-1] < segment.end:
        raise DisagreementError(
            f"the journal has steps up to position {steps.positions[-1]} of a segment from "
            f"{segment.start} to {segment.end}"
        )
    segment.stored.append(steps)
