"""The methods that there are, and one prompt by one of them, judged."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from eager_sgl.budget import Account, Ledger
from eager_sgl.core import EagerConfig, PromptResult
from evals.metrics import vote_classes
from evals.progress import Meter
from evals.settings import Settings
from evals.store import PromptRecord, SequenceRecord
from evals.tasks import Sample, Task

if TYPE_CHECKING:
    from eager_sgl.endpoint import TokenEndpoint
    from eager_sgl.program import OnWave

__all__ = ["METHODS", "Method", "judge", "run_prompt"]


def _parallel(
    endpoint: TokenEndpoint, sample: Sample, config: EagerConfig, account: Account, on_wave: OnWave
) -> PromptResult:
    from eager_sgl.program import parallel

    account.commit(config.max_sequences)
    state = parallel.run(
        prompt=sample.prompt,
        num_sequences=config.max_sequences,
        sampling=config.sampling,
        on_wave=on_wave,
        backend=endpoint,
    )
    result: PromptResult = state.ret_value
    return result


def _eager_init(
    endpoint: TokenEndpoint, sample: Sample, config: EagerConfig, account: Account, on_wave: OnWave
) -> PromptResult:
    from eager_sgl.program import eager_init

    state = eager_init.run(
        prompt=sample.prompt, config=config, account=account, on_wave=on_wave, backend=endpoint
    )
    result: PromptResult = state.ret_value
    return result


@dataclass(frozen=True)
class Method:
    """A way to spend M sequences on a prompt.

    Attributes:
        name: as on the command line and in files.
        generate: the sequences of one prompt; called from several threads at once.
        branches: whether θ means anything to it.
    """

    name: str
    generate: Callable[[TokenEndpoint, Sample, EagerConfig, Account, OnWave], PromptResult]
    branches: bool


METHODS = {
    method.name: method
    for method in (
        Method("parallel", _parallel, branches=False),
        Method("eager_init", _eager_init, branches=True),
    )
}


def run_prompt(
    method: Method,
    settings: Settings,
    endpoint: TokenEndpoint,
    ledger: Ledger,
    meter: Meter,
    sample: Sample,
) -> PromptRecord:
    """One prompt by one method, judged; called from several threads at once."""
    config = settings.eager
    started = time.monotonic()
    with ledger.reserve(config.max_sequences) as account:
        on_wave = partial(meter.report, sample.id)
        result = method.generate(endpoint, sample, config, account, on_wave)
    seconds = time.monotonic() - started
    return PromptRecord(
        method=method.name,
        sample_id=sample.id,
        level=sample.level,
        max_sequences=config.max_sequences,
        threshold=config.threshold if method.branches else None,
        prompt=sample.prompt,
        prompt_ids=result.prompt_ids,
        sequences=judge(settings.task, sample, result),
        counts=result.counts,
        seconds=seconds,
    )


def judge(task: Task, sample: Sample, result: PromptResult) -> tuple[SequenceRecord, ...]:
    """The sequences of a prompt with the task's judgement on each."""
    scores = [task.score(sample, sequence.text) for sequence in result.sequences]
    keys = [None if s.answer is None else task.vote_key(sample, s.answer) for s in scores]
    return tuple(
        SequenceRecord(
            text=sequence.text,
            token_ids=sequence.token_ids,
            finish_reason=sequence.finish_reason,
            parent=sequence.parent,
            branch=sequence.branch,
            answer=score.answer,
            correct=score.correct,
            explanation=score.explanation,
            vote=vote,
        )
        for sequence, score, vote in zip(result.sequences, scores, vote_classes(keys), strict=True)
    )
