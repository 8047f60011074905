"""The folder of a run that can be compared."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from evals.config import VOTE_UNCERTAINTY
from evals.records.failures import FAILURES, failed_per_cell, read_failures
from evals.records.files import StoreError
from evals.records.header import SearchFields, read_header
from evals.records.lines import describe
from evals.records.plan import Plan
from evals.records.record import PromptRecord
from evals.records.results import RESULTS, read_results

__all__ = ["read_run"]


@dataclass(frozen=True)
class ComparableRun:
    """The part of a run that a comparison reads.

    Attributes:
        records: of the prompts with a result in every cell.
        width: paths that a search opens at once.
        has_shared: whether the searches shared their tokens.
    """

    plan: Plan
    records: list[PromptRecord]
    width: int
    has_shared: bool


def read_run(folder: Path) -> ComparableRun:
    """Read the folder of a finished run.

    Raises:
        StoreError: the run is of another version, is not finished, or cannot be compared.
    """
    config = read_header(folder).config
    search = config.search
    _require_complete_searches(folder, search)
    return ComparableRun(
        plan=config.plan,
        records=_records(folder, config.plan),
        width=search.width,
        has_shared=search.token_budget is not None,
    )


def _require_complete_searches(folder: Path, search: SearchFields) -> None:
    """The searches are the first part of longer ones, or shared tokens by their votes."""
    ended = {"--stop": search.stop}
    if search.token_budget and search.bids != VOTE_UNCERTAINTY:
        ended["--bids"] = search.bids
    for option, value in ended.items():
        if value is not None:
            raise StoreError(
                f"{folder} was run with {option} {value}; its searches are not the first part of "
                f"longer ones, so that nothing can be read off them: compare a run without {option}"
            )


def _records(folder: Path, plan: Plan) -> list[PromptRecord]:
    """The results of the prompts that have one in every cell.

    Raises:
        StoreError: some are missing and have not failed.
    """
    records, bad = read_results(folder / RESULTS, plan.cells)
    if bad:
        print(f"warning: left out {describe(bad, folder / RESULTS)}", file=sys.stderr)
    keys = {record.key for record in records}
    failures, _ = read_failures(folder / FAILURES, keys)
    num_failed = sum(failed_per_cell(failures, plan, keys).values())
    num_missing = sum(plan.missing(cell for cell, _ in keys).values())
    if num_missing > num_failed:
        raise StoreError(
            f"{folder} lacks {num_missing} results; repeat its command to complete them"
        )
    complete = [r for r in records if all((cell, r.sample_id) in keys for cell in plan.cells)]
    if not complete:
        raise StoreError(f"{folder} has no prompt with a result in every cell")
    if num_failed:
        num_prompts = len({record.sample_id for record in complete})
        print(
            f"warning: {num_failed} results failed; only the {num_prompts} prompts with a result "
            "in every cell are compared",
            file=sys.stderr,
        )
    return complete
