"""The replay of one result: of its first stage, and of the grant and the trees of its second."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from eager_sgl import DeferredBranch, Grant
from eager_sgl.schedule import Schedule, deferred_branches
from eager_sgl.tree import TokenTree
from evals.config import Experiment, VoteOptions
from evals.execution.replay.extra import replay_extra
from evals.execution.replay.grants import grants_of, require_grant
from evals.execution.replay.methods import first_method
from evals.execution.replay.recorded import (
    DisagreementError,
    NotRecordedError,
    RecordedTree,
    journal_of,
    require_counts,
)
from evals.execution.replay.trees import replay_monitored, replay_rounds
from evals.records.header import StoredConfig
from evals.records.plan import SEARCHES, STAGE_ONE, TRIE_PARALLEL, VOTES, Cell, Key
from evals.records.record import PromptRecord

__all__ = ["Replay"]

NO_FIRST = "their first stages are not in the folder"
PROBED = "probes may have ended their sequences, and their answers are not recorded"
VALUES = "their votes depended on values of tokens that are not recorded"
DRAWN = "the server may have drawn tokens that the tree does not know"
NO_ORDER = "the journals of their first stages lack the order of the prompts"
FAILED_FIRSTS = "grants depended on when other prompts failed, which is not recorded"


class Replay:
    """Replays the results of a run, one by one.

    Args:
        experiment: of the run, as stored.
        config: the same, as `config.json` has it.
        records: all results of the run.
        failed: cells in which a prompt has failed at any time.
    """

    def __init__(
        self,
        experiment: Experiment,
        config: StoredConfig,
        records: Mapping[Key, PromptRecord],
        failed: set[Cell],
    ) -> None:
        self._experiment = experiment
        self._config = config
        self._records = records
        self._failed = failed
        self._granted: dict[Cell, Mapping[str, Grant]] = {}

    def require_same(self, record: PromptRecord) -> None:
        """Decide again on the tokens of a result.

        Raises:
            DisagreementError: a decision differs from the record.
            NotRecordedError: the record lacks what a decision depended on.
        """
        _require_sequences(record)
        if record.stage_two is None:
            self._first_stage(record)
            return
        first = self._records.get((_first_cell(record.cell), record.sample_id))
        if first is None:
            raise NotRecordedError(NO_FIRST)
        require_grant(record, self._grants(record.cell).get(record.sample_id))
        replay_extra(record, first, self._experiment)

    def _first_stage(self, record: PromptRecord) -> None:
        cell, number = record.cell, len(record.sequences)
        method = first_method(self._experiment, record, self._config)
        recorded = RecordedTree.part(record, 0, number, method.sampling.max_new_tokens)
        if cell.method in VOTES:
            _require_recorded(self._experiment.voting_in(cell))
        if cell.method in (TRIE_PARALLEL, *VOTES) and number and not recorded.steps:
            raise NotRecordedError(DRAWN)
        if cell.method in SEARCHES and len(recorded.steps) != number:
            raise DisagreementError(
                f"the journal has the steps of {len(recorded.steps)} sequences; the record has "
                f"{number} sequences"
            )

        def begin(tree: TokenTree) -> Schedule:
            return method.schedule(tree, cell.max_sequences, recorded.read)

        if cell.method == STAGE_ONE:
            tree, leaves = replay_monitored(recorded, begin, cell.max_sequences)
        else:
            tree, leaves = replay_rounds(recorded, begin)
        require_counts(record.counts, tree.counts(leaf.segment for leaf in leaves))
        if method.monitoring and method.monitoring.deferred_threshold is not None:
            rules = self._experiment.rules.values()
            max_extra = max(rule.max_extra(cell.max_sequences) for rule in rules)
            _require_deferred(record, deferred_branches(leaves)[:max_extra])

    def _grants(self, cell: Cell) -> Mapping[str, Grant]:
        """The grants of a cell, once for all of its prompts."""
        if cell not in self._granted:
            first_cell = _first_cell(cell)
            if first_cell in self._failed:
                raise NotRecordedError(FAILED_FIRSTS)
            firsts = [record for record in self._records.values() if record.cell == first_cell]
            firsts.sort(key=_order)
            rule = self._experiment.rules[cell.method]
            num_prompts = self._experiment.plan.num_prompts
            self._granted[cell] = grants_of(cell, firsts, rule, num_prompts)
        return self._granted[cell]


def _require_sequences(record: PromptRecord) -> None:
    """Check that the record has the sequences that its journal names."""
    number = len(record.sequences)
    for step in journal_of(record).untaken:
        if step.sequence not in range(number):
            raise DisagreementError(
                f"the journal has a step of sequence {step.sequence}; the record has {number} "
                "sequences"
            )


def _require_recorded(parts: VoteOptions) -> None:
    if parts.probes:
        raise NotRecordedError(PROBED)
    if parts.cut is not None or parts.weights is not None:
        raise NotRecordedError(VALUES)


def _first_cell(cell: Cell) -> Cell:
    return cell._replace(method=STAGE_ONE, stage_two=None)


def _order(first: PromptRecord) -> int:
    """Number of prompts before this one in the run's order."""
    prompt = journal_of(first).prompt
    if prompt is None:
        raise NotRecordedError(NO_ORDER)
    return prompt


def _require_deferred(record: PromptRecord, decided: Sequence[DeferredBranch]) -> None:
    """Check the deferred branches that a second stage may open."""
    pairs = zip((*decided, None), (*record.deferred, None), strict=False)
    for number, (new, old) in enumerate(pairs):
        names = [(d.sequence, d.point.position, d.point.entropy) if d else None for d in (new, old)]
        if names[0] != names[1]:
            raise DisagreementError(
                f"deferred branch {number} is (sequence, position, entropy) {names[0]}; the "
                f"record has {names[1]}"
            )
