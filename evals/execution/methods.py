"""The methods that there are, and one prompt in one cell, judged."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Sequence as Items
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial, reduce
from operator import add
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from eager_sgl.adaptive_threshold import AdaptiveThreshold
from eager_sgl.budget.reallocation import RULES, Grant
from eager_sgl.budget.sequences import Account, Ledger
from eager_sgl.budget.tokens import Bidder
from eager_sgl.config import EagerConfig, SearchConfig
from eager_sgl.core import PromptResult, Sequence
from eager_sgl.search.stopping import Stop
from eager_sgl.signals import censored_mean_peak
from evals.analysis.judged import Verdicts, classes_of
from evals.config import Experiment
from evals.execution.connection import Server
from evals.execution.meter import Meter
from evals.records.judging import judged_by
from evals.records.plan import PARALLEL, RESTART, RESUME, SEARCHES, STAGE_ONE, Cell
from evals.records.store import PromptRecord, SequenceRecord, StageTwo
from evals.tasks import Sample, Task

if TYPE_CHECKING:
    from sglang.lang.ir import SglFunction

    from eager_sgl.engine.endpoint import TokenEndpoint
    from eager_sgl.program import OnProgress

__all__ = ["FIRST", "METHODS", "SECOND", "Call", "Worker", "without_extra"]

METHODS = (PARALLEL, STAGE_ONE, *RULES, *SEARCHES)


@dataclass(frozen=True)
class Call:
    """What generating on one prompt needs.

    Attributes:
        config: M is the most sequences that may be taken from the account.
        account: the prompt's part of the cell's budget.
        on_progress: to be told of progress.
        until: ends a search early.
        bidder: the prompt's part of the tokens that a search shares with others.
        adaptive_threshold: gives EAGer-init its θ; None where that is fixed.
    """

    endpoint: TokenEndpoint
    sample: Sample
    config: EagerConfig | SearchConfig
    account: Account
    on_progress: OnProgress
    until: Stop | None = None
    bidder: Bidder | None = None
    adaptive_threshold: AdaptiveThreshold | None = None


def _run(program: SglFunction, call: Call, **arguments: Any) -> PromptResult:
    """One of `eager_sgl.program` on the call's prompt, with its further arguments."""
    state = program.run(
        prompt=call.sample.prompt, on_progress=call.on_progress, backend=call.endpoint, **arguments
    )
    result: PromptResult = state.ret_value
    return result


def _parallel(call: Call) -> PromptResult:
    from eager_sgl.program import parallel

    config = call.config
    call.account.commit(config.max_sequences)
    return _run(
        parallel,
        call,
        num_sequences=config.max_sequences,
        sampling=config.sampling,
        reasoning_end=config.reasoning_end,
    )


def _eager_init(call: Call) -> PromptResult:
    from eager_sgl.program import eager_init

    return _run(
        eager_init,
        call,
        config=call.config,
        account=call.account,
        adaptive_threshold=call.adaptive_threshold,
    )


def _search(call: Call) -> PromptResult:
    from eager_sgl.program import search

    return _run(
        search,
        call,
        config=call.config,
        until=call.until,
        account=call.account,
        bidder=call.bidder,
    )


FIRST = {PARALLEL: _parallel, STAGE_ONE: _eager_init, **dict.fromkeys(SEARCHES, _search)}
"""What generates from the prompt, by method; called from several threads at once."""


def _restart(call: Call, first: PromptRecord, thresholds: Items[float]) -> PromptResult:
    """From the prompt, at the first θ, and at the next while sequences are still to be had."""
    results: list[PromptResult] = []
    offset = len(first.sequences)
    for threshold in thresholds:
        if call.account.spent == call.account.granted:
            break
        assert isinstance(call.config, EagerConfig), f"{call.config} has no θ"
        config = replace(call.config, threshold=threshold, deferred_threshold=None)
        result = FIRST[STAGE_ONE](replace(call, config=config))
        results.append(_shifted(result, offset))
        offset += len(result.sequences)
    return replace(
        results[0],
        sequences=tuple(sequence for result in results for sequence in result.sequences),
        counts=reduce(add, (result.counts for result in results)),
    )


def _shifted(result: PromptResult, offset: int) -> PromptResult:
    """With parents counted from `offset` on."""
    shifted = (
        sequence if sequence.parent is None else replace(sequence, parent=sequence.parent + offset)
        for sequence in result.sequences
    )
    return replace(result, sequences=tuple(shifted))


def _resume(call: Call, first: PromptRecord, thresholds: Items[float]) -> PromptResult:
    from eager_sgl.program import resume

    result = _run(
        resume,
        call,
        result=first.to_result(),
        num_sequences=call.config.max_sequences,
        sampling=call.config.sampling,
        threshold=thresholds[-1],
        reasoning_end=call.config.reasoning_end,
    )
    call.account.commit(len(result.sequences))
    return result


SECOND = {RESTART: _restart, RESUME: _resume}
"""What generates M more sequences at the θ of each try, by `--stage-two`.

The parents of the new sequences are indices over both stages.
"""


@dataclass(frozen=True)
class Worker:
    """Runs prompts on a server; its methods are called from several threads at once.

    Attributes:
        adaptive_threshold: of each cell with a adaptive θ, as earlier sessions left it.
        unfit: what is wrong with prompts that the model cannot be given, by id.
    """

    settings: Experiment
    server: Server
    adaptive_threshold: Mapping[Cell, AdaptiveThreshold] = field(default_factory=dict)
    unfit: Mapping[str, Exception] = field(default_factory=dict)

    def first(
        self,
        cell: Cell,
        sample: Sample,
        verdicts: Verdicts,
        ledger: Ledger,
        meter: Meter,
        bidder: Bidder | None = None,
    ) -> PromptRecord:
        """A prompt by a method of one stage, or the first of two.

        Where it fails, all that it may take stays reserved for it.
        """
        with _kept_if_failed(ledger.reserve(cell.max_sequences)) as account:
            on_progress = partial(meter.report, sample.id)
            with bidder or nullcontext():
                call = self._first_call(cell, sample, verdicts, account, on_progress, bidder)
                started = time.monotonic()
                result = FIRST[cell.method](call)
            seconds = time.monotonic() - started
            return self._first_record(cell, sample, verdicts, result, seconds)

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
        settings = self.settings
        searches = cell.method in SEARCHES
        config = settings.search_config(cell) if searches else settings.config(cell)
        until = None
        if searches and settings.stop is not None:
            until = settings.stop.rule(sample, verdicts, settings.verifier)
        adaptive_threshold, endpoint = self.adaptive_threshold.get(cell), self.server.endpoint
        return Call(
            endpoint, sample, config, account, on_progress, until, bidder, adaptive_threshold
        )

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
            sequences=_with_votes(self.settings.task, sample, sequences),
            counts=result.counts,
            seconds=seconds,
            peak_entropy=_mean(_peak(each, result.monitor, cell) for each in result.sequences),
            solved=self._solved(sample, result, sequences) if cell.method == STAGE_ONE else None,
            deferred=result.deferred[: self._max_extra(cell)],
            inexact_steps=result.inexact_steps,
            entropy_histogram=result.entropy_histogram,
            judged_by=judged_by(self.settings.task, sample),
        )

    def _solved(self, sample: Sample, result: PromptResult, judged: Items[SequenceRecord]) -> bool:
        """By the verifier where there is one, else by the labels."""
        if self.settings.verifier is None:
            return any(sequence.correct for sequence in judged)
        return any(self.settings.verifier(sample, each.text) for each in result.sequences)

    def _max_extra(self, cell: Cell) -> int:
        rules = self.settings.rules.values()
        return max(rule.max_extra(cell.max_sequences) for rule in rules)

    def second(
        self,
        cell: Cell,
        sample: Sample,
        first: PromptRecord,
        grant: Grant,
        account: Account,
        meter: Meter,
    ) -> PromptRecord:
        """A prompt whose first stage is there, with the extra sequences of its grant.

        Where it fails, the grant stays reserved for it.
        """
        with _kept_if_failed(account):
            on_progress = partial(meter.report, sample.id)
            config = replace(self.settings.config(cell), max_sequences=grant.extra)
            call = Call(self.server.endpoint, sample, config, account, on_progress)
            return self._second_record(cell, first, grant, call)

    def _second_record(
        self, cell: Cell, first: PromptRecord, grant: Grant, call: Call
    ) -> PromptRecord:
        assert cell.stage_two is not None, f"{cell.method} has no second stage"
        sample = call.sample
        thresholds = self.settings.rules[cell.method].thresholds(grant.threshold)
        started = time.monotonic()
        result = SECOND[cell.stage_two](call, first, thresholds)
        seconds = time.monotonic() - started
        extra = _judged(Verdicts(self.settings.task, sample), result, stage=2)
        return replace(
            without_extra(first, cell, grant),
            sequences=_with_votes(self.settings.task, sample, (*first.sequences, *extra)),
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
        )


@contextmanager
def _kept_if_failed(account: Account) -> Iterator[Account]:
    """Closes an account at the end; where its prompt fails, all of it stays reserved."""
    try:
        yield account
    except BaseException:
        account.restore()
        raise
    account.release()


def without_extra(first: PromptRecord, cell: Cell, grant: Grant | None) -> PromptRecord:
    """What a method of two stages makes of a prompt that gets nothing.

    Args:
        first: the prompt's first stage.
        cell: of the method.
        grant: of the prompt; None if it is not eligible.
    """
    assert cell.threshold is not None, f"{cell.method} has no θ"
    assert cell.stage_two is not None, f"{cell.method} has no second stage"
    extra, threshold = (grant.extra, grant.threshold) if grant else (0, cell.threshold)
    stage_two = StageTwo(cell.stage_two, grant is not None, extra, 0, threshold)
    return replace(first, method=cell.method, stage_two=stage_two, deferred=())


def _peak(sequence: Sequence, monitor: str | None, cell: Cell) -> float | None:
    """Mean peak entropy; under the gate a step whose entropy is not known counts as θ at most."""
    if monitor != "gate" or cell.threshold is None:
        return sequence.peak_entropy
    return censored_mean_peak(np.array(sequence.entropies), cell.threshold)


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _judged(verdicts: Verdicts, result: PromptResult, stage: int) -> tuple[SequenceRecord, ...]:
    """The sequences with the task's judgement on each, votes still to come."""
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
    )


def _with_votes(
    task: Task, sample: Sample, sequences: tuple[SequenceRecord, ...]
) -> tuple[SequenceRecord, ...]:
    """The sequences of a prompt with their classes of equivalent answers."""
    votes = classes_of(task, sample, [s.answer for s in sequences])
    return tuple(replace(s, vote=vote) for s, vote in zip(sequences, votes, strict=True))
