"""The extra sequences of a second stage, replayed: a restart's trees, or resumed branches."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import reduce
from operator import add

from eager_sgl import EagerInit, TokenCounts
from eager_sgl.schedule import FixedSchedule, Leaf, Schedule
from eager_sgl.tree import TokenTree
from evals.config import Experiment
from evals.execution.replay.recorded import DisagreementError, RecordedTree, require_counts
from evals.execution.replay.trees import replay_monitored, replay_rounds
from evals.records.plan import RESTART
from evals.records.record import PromptRecord, SequenceRecord, StageTwo

__all__ = ["replay_extra"]


def replay_extra(record: PromptRecord, first: PromptRecord, experiment: Experiment) -> None:
    """Decide again on the extra sequences of a prompt, as many as the record says were granted.

    Args:
        record: of a method of two stages.
        first: the first stage, which is replayed apart.

    Raises:
        DisagreementError: a decision differs from the record.
    """
    stage_two, number = record.stage_two, len(first.sequences)
    assert stage_two is not None, f"{record.method} has no second stage"
    if _tokens(record.sequences[:number]) != _tokens(first.sequences):
        raise DisagreementError(f"its first {number} sequences are not those of the first stage")
    if stage_two.extra_used != len(record.sequences) - number:
        raise DisagreementError(
            f"stage_two.extra_used is {stage_two.extra_used}; the record has "
            f"{len(record.sequences) - number} extra sequences"
        )
    counts = [first.counts]
    if stage_two.extra_granted:
        replay_stage = _restart if stage_two.mode == RESTART else _resume
        counts += replay_stage(record, first, stage_two, experiment)
    require_counts(record.counts, reduce(add, counts))


def _restart(
    record: PromptRecord, first: PromptRecord, stage_two: StageTwo, experiment: Experiment
) -> Iterable[TokenCounts]:
    """EAGer-init from the prompt, at the θ of every try until no extra sequence is left."""
    config = replace(experiment.config(record.cell), deferred_threshold=None)
    start, end = len(first.sequences), len(first.sequences) + stage_two.extra_granted
    for threshold in experiment.rules[record.method].thresholds(stage_two.threshold):
        if start == end:
            break
        method = EagerInit(replace(config, threshold=threshold, max_sequences=end - start))
        until = _end_of_tree(record.sequences, start)
        if until == start:
            raise DisagreementError(f"no extra sequence of the try at θ = {threshold:.9g}")
        recorded = RecordedTree.part(record, start, until, config.sampling.max_new_tokens)

        def begin(
            tree: TokenTree, method: EagerInit = method, recorded: RecordedTree = recorded
        ) -> Schedule:
            return method.schedule(tree, method.max_sequences, recorded.read)

        tree, leaves = replay_monitored(recorded, begin, method.max_sequences)
        yield tree.counts(leaf.segment for leaf in leaves)
        start = until
    if start < len(record.sequences):
        raise DisagreementError(f"sequence {start} and those after it belong to no try")


def _end_of_tree(sequences: tuple[SequenceRecord, ...], start: int) -> int:
    """Index behind the sequences of the tree that begins at `start`."""
    ends = (i for i in range(start + 1, len(sequences)) if sequences[i].parent is None)
    return min(next(ends, len(sequences)), len(sequences))


def _resume(
    record: PromptRecord, first: PromptRecord, stage_two: StageTwo, experiment: Experiment
) -> Iterable[TokenCounts]:
    """The deferred branches of highest entropy, down to the θ of the last try."""
    start = len(first.sequences)
    lowest = experiment.rules[record.method].thresholds(stage_two.threshold)[-1]
    limit = experiment.base.sampling.max_new_tokens
    recorded = RecordedTree.part(record, start, len(record.sequences), limit)

    def begin(tree: TokenTree) -> Schedule:
        leaves = []
        for index, deferred in enumerate(first.deferred[: stage_two.extra_granted]):
            if deferred.point.entropy >= lowest:
                before = first.sequences[deferred.sequence].token_ids[: deferred.point.position]
                segment = tree.branch_given(before, deferred.point, deferred.choice)
                leaves.append(Leaf(index, segment, deferred.sequence - start, deferred.point))
        return FixedSchedule(tuple(leaves))

    tree, leaves = replay_rounds(recorded, begin)
    yield tree.counts(leaf.segment for leaf in leaves)


def _tokens(sequences: Iterable[SequenceRecord]) -> list[tuple[int, ...]]:
    return [sequence.token_ids for sequence in sequences]
