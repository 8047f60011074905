"""A group of cells while it runs: who begins, what is written, who gets extra sequences."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from eager_sgl.budget.reallocation import StageOne
from eager_sgl.budget.tokens import Bidder, TokenLedger
from evals.analysis.judged import Verdicts
from evals.config.bidding import utility_by
from evals.execution.cell_runs import CellRun, FollowerRun
from evals.execution.meter import Snapshot
from evals.execution.progress import View
from evals.execution.worker import Worker, without_extra
from evals.records.failures import Failure, FailureLog
from evals.records.plan import Cell, Group, Plan
from evals.records.store import PromptRecord, ResultStore
from evals.tasks import Sample

__all__ = ["GroupRun"]

BIDDERS_PER_ROUND = 4
"""Prompts that share tokens, to each round that runs: with fewer there is little to choose from."""
MAX_SAID = 5
"""Failures of a group that are said as they happen; the others are in the file."""


@dataclass(frozen=True)
class _Task:
    """What a future is of.

    Attributes:
        num_reserved: sequences of the cell's budget that stay reserved for it if it fails.
        num_spent: those that its first stage has taken, where it is of the second.
        bidder: the prompt's part of the tokens that a search shares.
    """

    run: CellRun
    sample: Sample
    num_reserved: int
    num_spent: int = 0
    bidder: Bidder | None = None


class GroupRun:
    """Runs what is missing of a group; used by one thread."""

    def __init__(
        self,
        group: Group,
        plan: Plan,
        worker: Worker,
        store: ResultStore,
        failures: FailureLog,
        view: View,
        pool: ThreadPoolExecutor,
    ) -> None:
        self._worker = worker
        self._store = store
        self._failures = failures
        self._view = view
        self._pool = pool
        self._started = time.monotonic()
        self._samples = {sample.id: sample for sample in worker.settings.samples}
        samples = worker.settings.samples
        self._first = CellRun(group.first, plan.label(group.first), samples)
        self._followers = [FollowerRun(c, plan.label(c), samples) for c in group.followers]
        self._runs: Mapping[Cell, CellRun] = {
            run.cell: run for run in (self._first, *self._followers)
        }
        self.pending: dict[Future[PromptRecord], _Task] = {}
        self._tokens: TokenLedger | None = None
        self._failed_bidders: list[Bidder] = []
        self._num_said = 0
        self._replay()

    def _replay(self) -> None:
        """Bring the budgets to where earlier sessions left them."""
        known = self._store.records
        for run in self._runs.values():
            for sample_id in self._samples:
                if record := known.get((run.cell, sample_id)):
                    run.replay(record)
                    if run is self._first:
                        self._settle(record)

    def _settle(self, first: PromptRecord) -> None:
        for follower in self._followers:
            follower.settle(first)

    def snapshots(self) -> list[Snapshot]:
        """Where the cells stand."""
        return [run.meter.snapshot() for run in self._runs.values()]

    @property
    def last_news(self) -> float:
        """When anything has last come, by the monotonic clock."""
        return max(run.meter.last_news for run in self._runs.values())

    def check(self) -> None:
        """At the end: every budget adds up."""
        for run in self._runs.values():
            run.check()
        if self._tokens is not None:
            generated = sum(record.counts.generated for record in self._first.records.values())
            kept = sum(bidder.spent for bidder in self._failed_bidders)
            spent = self._tokens.spent
            assert spent == generated + kept, f"{spent} ≠ {generated} + {kept} tokens"

    def begin(self) -> None:
        """Ask for the first stage of all prompts that lack it."""
        run = self._first
        missing = [sample for sample in self._samples.values() if sample.id not in run.records]
        self._tokens = tokens = self._shared_tokens(len(missing))
        settings, ledger = self._worker.settings, run.ledger
        verdicts = [Verdicts(settings.task, sample) for sample in missing]
        # All join before the first begins: nothing is granted before all of them have bid.
        bidders = [self._join(tokens, own) if tokens else None for own in verdicts]
        for sample, own, bidder in zip(missing, verdicts, bidders, strict=True):
            task = _Task(run, sample, run.cell.max_sequences, bidder=bidder)
            self._submit(task, self._worker.first, run.cell, sample, own, ledger, run.meter, bidder)

    def _join(self, tokens: TokenLedger, verdicts: Verdicts) -> Bidder:
        settings = self._worker.settings
        utility = utility_by(settings.bids, verdicts, settings.priority)
        return tokens.join(utility, share=settings.token_budget or 0)

    def _shared_tokens(self, num_missing: int) -> TokenLedger | None:
        """What the prompts of the group share, less what finished ones have spent of it."""
        settings, run = self._worker.settings, self._first
        total = settings.shared_tokens(run.cell)
        if total is None:
            return None
        return TokenLedger(
            total,
            max_running=max(1, min(settings.concurrency, num_missing // BIDDERS_PER_ROUND)),
            spent=sum(record.counts.generated for record in run.records.values()),
        )

    def close(self) -> None:
        """Let nobody wait for tokens any more."""
        if self._tokens is not None:
            self._tokens.close()

    def _submit(self, task: _Task, function: Any, *arguments: Any) -> None:
        self.pending[self._pool.submit(function, *arguments)] = task

    def collect(self, future: Future[PromptRecord]) -> None:
        """Write what became of a prompt.

        Raises:
            BaseException: the prompt's own, where it ends the run.
        """
        error = future.exception()
        if error is None:
            self._write(future.result())
        else:
            self._worker.server.require_alive(error)
            self._fail(self.pending[future], error)
        del self.pending[future]

    def keep_finished(self) -> None:
        """At the end of a run that is broken off: write what has finished by now."""
        for future in list(self.pending):
            if future.done() and not future.cancelled() and not future.exception():
                record = future.result()
                if record.key not in self._store.records:
                    self._store.append(self._dated(record))

    def _dated(self, record: PromptRecord) -> PromptRecord:
        elapsed = time.monotonic() - self._started
        return replace(record, session=self._store.session, elapsed=elapsed)

    def _write(self, record: PromptRecord) -> None:
        """A prompt has finished in one of the cells."""
        record = self._dated(record)
        self._store.append(record)
        run = self._runs[record.cell]
        run.add(record)
        if run is self._first:
            self._settle(record)

    def _fail(self, task: _Task, error: BaseException) -> None:
        """A prompt has failed for good in one of the cells."""
        run, sample = task.run, task.sample
        counts = run.fail(sample.id, task.num_reserved, task.num_spent)
        is_first = run is self._first
        if is_first:
            for follower in self._followers:
                follower.lose(sample.id)
        if task.bidder is not None:
            self._failed_bidders.append(task.bidder)
        failure = Failure.of(
            error,
            run.cell,
            sample,
            stage=1 if is_first else 2,
            generated=counts.generated,
            session=self._store.session,
        )
        self._failures.append(failure)
        self._num_said += 1
        if self._num_said <= MAX_SAID:
            self._view.say(f"failed: {run.label}, prompt {failure.prompt}: {failure.sentence}")

    def advance(self) -> None:
        """Begin the second stage wherever it is certain."""
        for follower in self._followers:
            self._grant(follower)

    def _grant(self, run: FollowerRun) -> None:
        firsts, cell = self._first.records, run.cell
        assert cell.threshold is not None, f"{cell.method} has no θ"
        stage_ones = self._stage_ones()
        rule = self._worker.settings.rules[cell.method]
        grants = rule.certain_grants(stage_ones, len(self._samples), cell.threshold)
        decided = self._samples if len(stage_ones) == len(self._samples) else grants
        for sample_id in [i for i in decided if i in firsts and i not in run.begun]:
            run.begun.add(sample_id)
            grant, first = grants.get(sample_id), firsts[sample_id]
            if grant is not None:
                # Where prompts failed in an earlier session, others may have had more then.
                grant = replace(grant, extra=min(grant.extra, run.ledger.free))
            if grant is None or grant.extra == 0:
                self._write(without_extra(first, cell, grant))
                continue
            account = run.ledger.reserve(grant.extra)
            sample = self._samples[sample_id]
            task = _Task(run, sample, grant.extra, len(first.sequences))
            self._submit(task, self._worker.second, cell, sample, first, grant, account, run.meter)

    def _stage_ones(self) -> dict[str, StageOne]:
        """What is known of the first stages.

        A failed prompt counts as one that leaves nothing over and is eligible by either rule: it
        keeps its M sequences and a part of the surplus until it is tried again.
        """
        max_sequences = self._first.cell.max_sequences
        failed = StageOne(max_sequences, max_sequences, solved=False)
        firsts = self._first.records
        return {
            i: _stage_one(firsts[i]) if i in firsts else failed
            for i in self._samples
            if i in firsts or i in self._first.failed
        }


def _stage_one(record: PromptRecord) -> StageOne:
    return StageOne(len(record.sequences), record.max_sequences, record.solved)
