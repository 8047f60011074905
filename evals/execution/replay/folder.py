"""The replay of a run's folder, and its report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from evals.config import Experiment
from evals.execution.progress.view import View
from evals.execution.replay.methods import experiment_of, is_end_recorded
from evals.execution.replay.recorded import DisagreementError, NotRecordedError
from evals.execution.replay.stages import Replay
from evals.records.failures import FAILURES, read_failures
from evals.records.files import StoreError
from evals.records.header import StoredConfig, read_header
from evals.records.lines import describe
from evals.records.plan import STOPPABLE
from evals.records.record import PromptRecord
from evals.records.results import RESULTS, read_results

__all__ = ["replay_folder"]

MAX_NAMED = 5
"""Disagreements of a cell that are printed."""
ENDS = "searches end where their records end: {options} decided that, by more than a record has"


@dataclass
class _CellReplay:
    """The replays of the results of a cell.

    Attributes:
        num_agreed: results that agree.
        disagreements: sentences about those that do not.
        not_recorded: number of results that cannot be replayed, by reason.
    """

    num_agreed: int = 0
    disagreements: list[str] = field(default_factory=list)
    not_recorded: Counter[str] = field(default_factory=Counter)

    def add(self, replay: Replay, record: PromptRecord) -> None:
        try:
            replay.require_same(record)
        except DisagreementError as error:
            self.disagreements.append(f"prompt {record.sample_id!r}: {error}")
        except NotRecordedError as error:
            self.not_recorded[str(error)] += 1
        else:
            self.num_agreed += 1

    @property
    def num_replayed(self) -> int:
        return self.num_agreed + len(self.disagreements)

    def lines(self, label: str) -> Iterable[str]:
        """The report on the cell."""
        if self.num_replayed:
            yield f"{label}: {self.num_replayed} prompts replayed, {self.num_agreed} agree"
        for sentence in self.disagreements[:MAX_NAMED]:
            yield f"  {sentence}"
        if (more := len(self.disagreements) - MAX_NAMED) > 0:
            yield f"  and {more} more"
        for reason, number in self.not_recorded.items():
            yield f"{label}: {number} prompts cannot be replayed: {reason}"


def replay_folder(folder: Path, experiment: Experiment, view: View) -> str:
    """Replay the results of a run's folder and report on each cell.

    Args:
        experiment: whose plan and methods are replaced by those of the run.

    Returns:
        How many results disagree or cannot be replayed, and how many lines cannot be read; empty
        if all agree.

    Raises:
        StoreError: the folder holds no results, or cannot be used.
    """
    config = read_header(folder).config
    records, bad = read_results(folder / RESULTS, config.plan.cells)
    failures, bad_failures = read_failures(folder / FAILURES, ())
    for name, lines in ((RESULTS, bad), (FAILURES, bad_failures)):
        if lines:
            view.say(f"warning: left out {describe(lines, folder / name)}")
    if not records:
        raise StoreError(f"{folder} holds no results that could be replayed")
    try:
        stored = experiment_of(experiment, config)
    except (KeyError, ValueError) as error:
        raise StoreError(f"the methods of {folder} cannot be made again: {error}") from error
    by_key = {record.key: record for record in records}
    replay = Replay(stored, config, by_key, {failure.cell for failure in failures})
    if options := _recorded_ends(config):
        view.say(ENDS.format(options=options))
    cells = {cell: _CellReplay() for cell in config.plan.cells}
    for record in records:
        cells[record.cell].add(replay, record)
    for cell, result in cells.items():
        for line in result.lines(config.plan.label(cell)):
            view.say(line)
    return _failure(cells.values(), len(bad) + len(bad_failures))


def _failure(cells: Collection[_CellReplay], num_bad: int) -> str:
    num_disagreed = sum(len(cell.disagreements) for cell in cells)
    num_not_recorded = sum(cell.not_recorded.total() for cell in cells)
    parts = [f"{num_disagreed} results disagree with their replay"] if num_disagreed else []
    parts += [f"{num_not_recorded} results cannot be replayed"] if num_not_recorded else []
    parts += [f"{num_bad} lines cannot be read"] if num_bad else []
    return ", ".join(parts)


def _recorded_ends(config: StoredConfig) -> str:
    """The options by which searches ended, where a replay cannot decide on it."""
    if not (is_end_recorded(config) and set(config.plan.methods) & set(STOPPABLE)):
        return ""
    search = config.search
    options = {"--token-budget": search.token_budget, "--stop": search.stop}
    return " and ".join(f"{name} {value}" for name, value in options.items() if value is not None)
