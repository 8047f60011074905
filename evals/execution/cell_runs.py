"""A cell while its group runs: its budget, its results and its failures."""

from __future__ import annotations

from collections.abc import Sequence

from eager_sgl import Ledger, TokenCounts
from evals.analysis.judged import is_solved
from evals.execution.progress.meter import Meter
from evals.records.plan import Cell
from evals.records.record import PromptRecord
from evals.tasks import Sample

__all__ = ["CellRun", "FollowerRun"]


class CellRun:
    """A cell whose sequences start from the prompt.

    The sequences of a failed prompt stay reserved for it, until another session retries it.

    Args:
        max_length: length limit of a sequence in tokens.

    Attributes:
        records: results, by sample id.
        failed: ids of the prompts that failed in this session.
    """

    def __init__(self, cell: Cell, label: str, samples: Sequence[Sample], max_length: int) -> None:
        self.cell = cell
        self.label = label
        self.ledger = Ledger(cell.max_sequences * len(samples))
        self.meter = Meter(label, len(samples), self.ledger, max_length)
        self.records: dict[str, PromptRecord] = {}
        self.failed: set[str] = set()
        self._num_kept = self._num_spent_on_failed = 0

    def add(self, record: PromptRecord) -> None:
        """A prompt has finished, now or in an earlier session."""
        self.records[record.sample_id] = record
        self.meter.finish(record.sample_id, solved=is_solved(record))

    def fail(self, sample_id: str, num_reserved: int, num_spent: int = 0) -> TokenCounts:
        """A prompt has failed; its known cost.

        Args:
            sample_id: of the prompt.
            num_reserved: sequences that stay reserved for it.
            num_spent: sequences of its first stage, if the second has failed.
        """
        self.failed.add(sample_id)
        self._num_kept += num_reserved
        self._num_spent_on_failed += num_spent
        return self.meter.fail(sample_id)

    def replay(self, record: PromptRecord) -> None:
        """Take the sequences of an earlier session's result from the budget."""
        _take(self.ledger, self.cell.max_sequences, len(record.sequences))
        self.add(record)

    def check(self) -> None:
        """The budget adds up, paid for every sequence, and still reserves those of failures."""
        spent, reserved, free = self.ledger.spent, self.ledger.reserved, self.ledger.free
        num_sequences = sum(len(record.sequences) for record in self.records.values())
        num_sequences += self._num_spent_on_failed
        expected = (num_sequences, self._num_kept, self.ledger.total)
        assert (spent, reserved, spent + reserved + free) == expected, (
            f"{self.cell}: {spent} spent for {num_sequences} sequences, {reserved} reserved for "
            f"failures that keep {self._num_kept}, {free} free of {self.ledger.total}"
        )


def _take(ledger: Ledger, reserved: int, taken: int) -> None:
    """Reserve, commit and release the sequences of one prompt."""
    with ledger.reserve(reserved) as account:
        account.commit(taken)


class FollowerRun(CellRun):
    """A cell of two stages. Its budget pays for both, though the first stage is shared.

    Attributes:
        begun: ids of the prompts whose second stage has begun, or is empty.
    """

    def __init__(self, cell: Cell, label: str, samples: Sequence[Sample], max_length: int) -> None:
        super().__init__(cell, label, samples, max_length)
        self._awaited = {s.id: self.ledger.reserve(cell.max_sequences) for s in samples}
        self.begun: set[str] = set()

    def settle(self, first: PromptRecord) -> None:
        """The first stage of a prompt has finished; its surplus is free."""
        with self._awaited.pop(first.sample_id) as account:
            account.commit(len(first.sequences))

    def lose(self, sample_id: str) -> None:
        """The first stage of a prompt has failed."""
        self.fail(sample_id, self._awaited.pop(sample_id).granted)

    def replay(self, record: PromptRecord) -> None:
        assert record.stage_two is not None, f"{record.sample_id}: no second stage in {self.cell}"
        self.begun.add(record.sample_id)
        if record.stage_two.extra_granted:
            _take(self.ledger, record.stage_two.extra_granted, record.stage_two.extra_used)
        self.add(record)
