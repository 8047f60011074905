"""Prompts that are solved by a certain sequence."""

from collections.abc import Sequence
from dataclasses import replace

from eager_sgl.core import TokenCounts
from evals.records.record import PromptRecord
from tests.evals.fakes.build import record


def prompts(method: str, solved_at: Sequence[int | None], cost: int) -> list[PromptRecord]:
    """Prompts whose n-th sequence is the first correct one, each of `cost` tokens."""
    records = []
    for number, first in enumerate(solved_at):
        correct = [index == first for index in range(20)]
        base = record(correct, method=method, sample_id=f"{number:02d}", threshold=None)
        sequences = tuple(replace(s, token_ids=(1,) * cost, branch=None) for s in base.sequences)
        counts = TokenCounts(generated=20 * cost)
        records.append(replace(base, sequences=sequences, counts=counts, max_sequences=20))
    return records


def swept(solved: Sequence[bool], cap: int) -> list[PromptRecord]:
    """EAGer-init with one M."""
    return [
        record([is_solved], method="eager_init", sample_id=f"{number:02d}", max_sequences=cap)
        for number, is_solved in enumerate(solved)
    ]
