"""The grants of a second stage, by the rule and the ledger of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from eager_sgl import Grant, Ledger, Reallocation, StageOne
from evals.execution.replay.recorded import DisagreementError
from evals.records.plan import Cell
from evals.records.record import PromptRecord

__all__ = ["grants_of", "require_grant"]


def grants_of(
    cell: Cell, firsts: Sequence[PromptRecord], rule: Reallocation, num_prompts: int
) -> dict[str, Grant]:
    """The grants of a cell by sample id; prompts that are not eligible have none.

    Args:
        cell: of a method of two stages.
        firsts: the first stages that have ended, in the order of the prompts.
        rule: of the method.
        num_prompts: all prompts of the cell.

    Raises:
        DisagreementError: the first stages have spent more than the ledger has.
    """
    assert cell.threshold is not None, f"{cell.method} has no θ"
    ledger = Ledger(cell.max_sequences * num_prompts)
    accounts = [ledger.reserve(cell.max_sequences) for _ in range(num_prompts)]
    for account, first in zip(accounts, firsts, strict=False):
        try:
            with account:
                account.commit(len(first.sequences))
        except ValueError as error:
            raise DisagreementError(f"the first stage of {first.sample_id!r}: {error}") from error
    stage_ones = {
        first.sample_id: StageOne(len(first.sequences), first.max_sequences, first.solved)
        for first in firsts
    }
    grants = rule.certain_grants(stage_ones, num_prompts, cell.threshold)
    return {sample_id: _reserved(grant, ledger) for sample_id, grant in grants.items()}


def _reserved(grant: Grant, ledger: Ledger) -> Grant:
    """The grant, as far as the ledger has sequences for it."""
    granted = replace(grant, extra=min(grant.extra, ledger.free))
    if granted.extra:
        ledger.reserve(granted.extra)
    return granted


def require_grant(record: PromptRecord, grant: Grant | None) -> None:
    """Check the grant of a prompt.

    Args:
        record: of a method of two stages.
        grant: by the rule; None if the prompt is not eligible.

    Raises:
        DisagreementError: it differs from that of the record.
    """
    stage_two, threshold = record.stage_two, record.threshold
    assert stage_two is not None, f"{record.method} has no second stage"
    decided = (True, grant.extra, grant.threshold) if grant else (False, 0, threshold)
    recorded = (stage_two.eligible, stage_two.extra_granted, stage_two.threshold)
    if decided != recorded:
        raise DisagreementError(f"the rule grants {_say(*decided)}; the record {_say(*recorded)}")


def _say(is_eligible: bool, extra: int, threshold: float | None) -> str:
    return (
        f"{extra} extra sequences at θ = {threshold:.9g}" if is_eligible else "none: not eligible"
    )
