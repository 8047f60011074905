"""One prompt in one cell: generated, judged, recorded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Sequence as Items
from concurrent.futures import Executor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np

from eager_sgl import (
    Account,
    AdaptiveThreshold,
    Bidder,
    EagerInit,
    Grant,
    Ledger,
    PromptResult,
    Sequence,
)
from eager_sgl.signals import censored_mean_peak
from evals.analysis.judged import Verdicts, classes_of
from evals.config import Experiment
from evals.execution.calls import FIRST_STAGES, SECOND_STAGES, Call
from evals.execution.connection import Server
from evals.execution.journal import packed_steps, untaken_steps
from evals.execution.methods import method_of
from evals.execution.progress.meter import Meter
from evals.records.columns import columns_of, pack_columns
from evals.records.judging import judged_by
from evals.records.plan import PARALLEL, STAGE_ONE, Cell
from evals.records.record import Journal, PromptRecord, SequenceRecord, StageTwo, VoteCost
from evals.tasks import Sample, Task

if TYPE_CHECKING:
    from eager_sgl import OnProgress

__all__ = ["Worker", "packed_columns", "without_extra"]


@dataclass(frozen=True)
class Worker:
    """Runs prompts on the servers of a run.

    Attributes:
        judges: threads in which sequences are judged.
        adaptive_threshold: of every cell with an adaptive θ, with the prompts of earlier sessions.
        unfit: the errors of prompts that the model cannot take, by id.
    """

    experiment: Experiment
    server: Server
    judges: Executor
    adaptive_threshold: Mapping[Cell, AdaptiveThreshold] = field(default_factory=dict)
    unfit: Mapping[str, Exception] = field(default_factory=dict)

    async def first_stage(
        self,
        cell: Cell,
        sample: Sample,
        verdicts: Verdicts,
        ledger: Ledger,
        meter: Meter,
        bidder: Bidder | None = None,
    ) -> PromptRecord:
        """A prompt by a method of one stage, or by the first stage of two.

        If it fails, all its sequences stay reserved.
        """
        with _reserved_if_failed(ledger.reserve(cell.max_sequences)) as account:
            on_progress = partial(meter.report, sample.id)
            with bidder or nullcontext():  # left even if the prompt cannot start
                call = self._first_call(cell, sample, verdicts, account, on_progress, bidder)
                started = time.monotonic()
                result = await FIRST_STAGES[cell.method](call)
            seconds = time.monotonic() - started
            record = partial(self._first_record, cell, sample, verdicts, result, seconds)
            return await self._in_judges(record)

    async def _in_judges(self, record: Callable[[], PromptRecord]) -> PromptRecord:
        """The record of a prompt, judged in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self.judges, record)

    def _first_call(
        self,
        cell: Cell,
        sample: Sample,
        verdicts: Verdicts,
        account: Account,
        on_progress: OnProgress,
        bidder: Bidder | None,
    ) -> Call:
        if sample.id in self.unfit:
            raise self.unfit[sample.id]
        experiment, stop = self.experiment, None
        if experiment.stop is not None:
            stop = experiment.stop.rule(sample, verdicts, experiment.verifier)
        adaptive = self.adaptive_threshold.get(cell)
        method = method_of(cell, experiment, verdicts.classes, stop, bidder, adaptive)
        return Call(self.server.client, sample, method, account, on_progress)

    def _first_record(
        self, cell: Cell, sample: Sample, verdicts: Verdicts, result: PromptResult, seconds: float
    ) -> PromptRecord:
        sequences = _judged(verdicts, result, stage=1)
        return PromptRecord(
            method=cell.method,
            max_sequences=cell.max_sequences,
            threshold=cell.threshold,
            temperature=cell.temperature,
            seed=cell.seed,
            sample_id=sample.id,
            level=sample.level,
            prompt=sample.prompt,
            prompt_ids=result.prompt_ids,
            sequences=_weighed(_with_votes(self.experiment.task, sample, sequences), result),
            counts=result.counts,
            seconds=seconds,
            peak_entropy=_mean(_peak(s, result.monitor, cell) for s in result.sequences),
            solved=self._solved(sample, result, sequences) if cell.method == STAGE_ONE else None,
            deferred=result.deferred[: self._max_extra(cell)],
            inexact_steps=result.inexact_steps,
            entropy_histogram=result.entropy_histogram,
            judged_by=judged_by(self.experiment.task, sample),
            journal=self._journal(cell, sample, result),
            vote_cost=_vote_cost(result),
        )

    def _journal(self, cell: Cell, sample: Sample, result: PromptResult) -> Journal | None:
        if cell.method == PARALLEL:
            return None
        if cell.method != STAGE_ONE:
            return Journal(steps=packed_steps(result))
        experiment, histogram = self.experiment, result.entropy_histogram
        threshold = histogram.threshold if histogram else experiment.config(cell).threshold
        # A step of lower entropy can neither branch nor be among the best deferred ones.
        listed = [branch.point.entropy for branch in result.deferred[: self._max_extra(cell)]]
        lowest = min([threshold, *listed[-1:]])
        is_shared = bool(set(experiment.plan.methods) & set(experiment.rules))
        return Journal(
            prompt=experiment.order[sample.id] if is_shared else None,
            untaken=tuple(untaken_steps(result.sequences, lowest)),
        )

    def _solved(self, sample: Sample, result: PromptResult, judged: Items[SequenceRecord]) -> bool:
        """Whether a sequence is correct, by the verifier if there is one, else by the labels."""
        if self.experiment.verifier is None:
            return any(sequence.correct for sequence in judged)
        return any(self.experiment.verifier(sample, s.text) for s in result.sequences)

    def _max_extra(self, cell: Cell) -> int:
        rules = self.experiment.rules.values()
        return max(rule.max_extra(cell.max_sequences) for rule in rules)

    async def second_stage(
        self,
        cell: Cell,
        sample: Sample,
        first: PromptRecord,
        grant: Grant,
        account: Account,
        meter: Meter,
    ) -> PromptRecord:
        """A prompt after its first stage, with the extra sequences of its grant.

        If it fails, the grant stays reserved.
        """
        with _reserved_if_failed(account):
            on_progress = partial(meter.report, sample.id)
            config = replace(self.experiment.config(cell), max_sequences=grant.extra)
            method = EagerInit(config, seed=cell.seed)
            call = Call(self.server.client, sample, method, account, on_progress)
            assert cell.stage_two is not None, f"{cell.method} has no second stage"
            thresholds = self.experiment.rules[cell.method].thresholds(grant.threshold)
            started = time.monotonic()
            result = await SECOND_STAGES[cell.stage_two](call, first, thresholds)
            seconds = time.monotonic() - started
            record = partial(self._second_record, cell, sample, first, grant, result, seconds)
            return await self._in_judges(record)

    def _second_record(
        self,
        cell: Cell,
        sample: Sample,
        first: PromptRecord,
        grant: Grant,
        result: PromptResult,
        seconds: float,
    ) -> PromptRecord:
        assert cell.stage_two is not None, f"{cell.method} has no second stage"
        extra = _judged(Verdicts(self.experiment.task, sample), result, stage=2)
        lowest = self.experiment.rules[cell.method].thresholds(grant.threshold)[-1]
        untaken = untaken_steps(result.sequences, lowest, len(first.sequences))
        return replace(
            without_extra(first, cell, grant),
            sequences=_with_votes(self.experiment.task, sample, (*first.sequences, *extra)),
            counts=first.counts + result.counts,
            seconds=first.seconds + seconds,
            stage_two=StageTwo(
                mode=cell.stage_two,
                eligible=True,
                extra_granted=grant.extra,
                extra_used=len(extra),
                threshold=grant.threshold,
                generated=result.counts.generated,
            ),
            journal=Journal(untaken=tuple(untaken)),
        )


@contextmanager
def _reserved_if_failed(account: Account) -> Iterator[Account]:
    """Close an account at the end; if its prompt fails, all its sequences stay reserved."""
    try:
        yield account
    except BaseException:
        account.restore()
        raise
    account.release()


def without_extra(first: PromptRecord, cell: Cell, grant: Grant | None) -> PromptRecord:
    """The record of a prompt in a method of two stages, before any extra sequence.

    Args:
        first: the record of the first stage.
        cell: of the method.
        grant: of the prompt; None if it is not eligible.
    """
    assert cell.threshold is not None, f"{cell.method} has no θ"
    assert cell.stage_two is not None, f"{cell.method} has no second stage"
    extra, threshold = (grant.extra, grant.threshold) if grant else (0, cell.threshold)
    stage_two = StageTwo(cell.stage_two, grant is not None, extra, 0, threshold)
    return replace(first, method=cell.method, stage_two=stage_two, deferred=(), journal=Journal())


def _peak(sequence: Sequence, monitor: str | None, cell: Cell) -> float | None:
    """Mean peak entropy in nats; under the gate, steps without an entropy count as θ."""
    if monitor != "gate" or cell.threshold is None:
        return sequence.peak_entropy
    return censored_mean_peak(np.array(sequence.entropies), cell.threshold)


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _judged(verdicts: Verdicts, result: PromptResult, stage: int) -> tuple[SequenceRecord, ...]:
    """The sequences, judged by the task, without votes."""
    return tuple(_judge(verdicts, sequence, stage) for sequence in result.sequences)


def _judge(verdicts: Verdicts, sequence: Sequence, stage: int) -> SequenceRecord:
    score = verdicts.score(sequence)
    return SequenceRecord(
        text=sequence.text,
        token_ids=sequence.token_ids,
        finish_reason=sequence.finish_reason,
        raw_logprob=sequence.raw_logprob,
        parent=sequence.parent,
        branch=sequence.branch,
        answer=score.answer,
        correct=score.correct,
        explanation=score.explanation,
        vote=None,
        stage=stage,
        status=score.status,
        final_text=sequence.final_text,
        columns=packed_columns(sequence),
    )


def packed_columns(sequence: Sequence) -> str | None:
    """The values of its tokens as text; None where none were asked for."""
    columns = columns_of(sequence)
    return None if columns is None else pack_columns(columns)


def _weighed(
    sequences: tuple[SequenceRecord, ...], result: PromptResult
) -> tuple[SequenceRecord, ...]:
    """The sequences of a vote with the weights of their votes."""
    if result.vote is None or not result.vote.weights:
        return sequences
    pairs = zip(sequences, result.vote.weights, strict=True)
    return tuple(replace(sequence, weight=weight) for sequence, weight in pairs)


def _vote_cost(result: PromptResult) -> VoteCost | None:
    if (vote := result.vote) is None:
        return None
    return VoteCost(vote.num_left_tokens, vote.num_probe_tokens, vote.num_probes)


def _with_votes(
    task: Task, sample: Sample, sequences: tuple[SequenceRecord, ...]
) -> tuple[SequenceRecord, ...]:
    """The sequences of a prompt, with their classes of equivalent answers as votes."""
    votes = classes_of(task, sample, [s.answer for s in sequences])
    return tuple(replace(s, vote=vote) for s, vote in zip(sequences, votes, strict=True))
