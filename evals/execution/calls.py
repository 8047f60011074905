"""A prompt to be generated, and the functions that generate it, by method and stage."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from collections.abc import Sequence as Items
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import TYPE_CHECKING

from eager_sgl import Account, EagerInit, Method, PromptResult
from eager_sgl.seeds import derived_seed
from evals.records.plan import PARALLEL, RESTART, RESUME, SEARCHES, STAGE_ONE
from evals.records.record import PromptRecord
from evals.tasks import Sample

if TYPE_CHECKING:
    from eager_sgl import AsyncClient, OnProgress

__all__ = ["FIRST_STAGES", "SECOND_STAGES", "Call"]


@dataclass(frozen=True)
class Call:
    """A prompt in a cell, ready to be generated.

    Attributes:
        method: its M is the maximum number of sequences taken from the account.
        account: the prompt's part of the cell's budget.
        on_progress: called with the cost so far.
    """

    client: AsyncClient
    sample: Sample
    method: Method
    account: Account
    on_progress: OnProgress


async def _generate(call: Call) -> PromptResult:
    return await call.client.generate(
        call.sample.prompt, call.method, account=call.account, on_progress=call.on_progress
    )


FIRST_STAGES: dict[str, Callable[[Call], Awaitable[PromptResult]]] = dict.fromkeys(
    (PARALLEL, STAGE_ONE, *SEARCHES), _generate
)
"""By method, the function that generates from the prompt."""


async def _restart(call: Call, first: PromptRecord, thresholds: Items[float]) -> PromptResult:
    """From the prompt at the first θ, then at the next ones while extra sequences are left."""
    results: list[PromptResult] = []
    offset = len(first.sequences)
    for threshold in thresholds:
        if call.account.spent == call.account.granted:
            break
        assert call.method.monitoring is not None, f"{call.method} has no θ"
        config = replace(call.method.monitoring, threshold=threshold, deferred_threshold=None)
        # With the seed of an earlier try its first chain would be drawn again.
        seed = None if call.method.seed is None else derived_seed(call.method.seed, len(results))
        method = EagerInit(config, seed=seed)
        result = await FIRST_STAGES[STAGE_ONE](replace(call, method=method))
        results.append(_shifted(result, offset))
        offset += len(result.sequences)
    return replace(
        results[0],
        sequences=tuple(sequence for result in results for sequence in result.sequences),
        counts=reduce(add, (result.counts for result in results)),
    )


def _shifted(result: PromptResult, offset: int) -> PromptResult:
    """The result with `offset` added to its parents."""
    shifted = (
        sequence if sequence.parent is None else replace(sequence, parent=sequence.parent + offset)
        for sequence in result.sequences
    )
    return replace(result, sequences=tuple(shifted))


async def _resume(call: Call, first: PromptRecord, thresholds: Items[float]) -> PromptResult:
    result = await call.client.resume(
        call.sample.prompt,
        first.to_result(),
        call.method.max_sequences,
        call.method.sampling,
        threshold=thresholds[-1],
        reasoning_end=call.method.reasoning_end,
        seed=call.method.seed,
        on_progress=call.on_progress,
    )
    call.account.commit(len(result.sequences))
    return result


SECOND_STAGES = {RESTART: _restart, RESUME: _resume}
"""By `--stage-two`, the function that generates M extra sequences at the θ of every try.

The parents of the new sequences are indices over both stages.
"""
