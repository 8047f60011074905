"""A group of cells while it runs: prompts begin, results are written, extra sequences granted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from eager_sgl import Bidder, StageOne, TokenLedger
from evals.analysis.judged import Verdicts
from evals.config import utility_by
from evals.execution.cell_runs import CellRun, FollowerRun
from evals.execution.progress.snapshot import Snapshot
from evals.execution.progress.view import View
from evals.execution.prompt_tasks import Outcome, PromptInCell, PromptTasks
from evals.execution.worker import Worker, without_extra
from evals.records.failures import Failure, FailureLog
from evals.records.plan import Cell, Group, Plan
from evals.records.record import PromptRecord
from evals.records.results import ResultStore

__all__ = ["GroupRun"]

BIDDERS_PER_ROUND = 4
"""Prompts that share tokens per running round: with fewer, bids have little to choose between."""
MAX_PRINTED = 5
"""Failures of a group that are printed as they happen; the file has all of them."""
GRANT_SECONDS = 1.0
"""Between two looks at all prompts for certain grants."""


class GroupRun:
    """Runs what is missing of a group; used in one event loop.

    Attributes:
        prompts: those that run, or wait.
    """

    def __init__(
        self,
        group: Group,
        plan: Plan,
        worker: Worker,
        store: ResultStore,
        failures: FailureLog,
        view: View,
    ) -> None:
        self._worker = worker
        self._store = store
        self._failures = failures
        self._view = view
        self._started = time.monotonic()
        samples = worker.experiment.samples
        self._samples = {sample.id: sample for sample in samples}
        sampling, profile = worker.experiment.base.sampling, worker.server.client.profile
        limit = min(sampling.max_new_tokens, profile.context_length)
        self._first = CellRun(group.first, plan.label(group.first), samples, limit)
        self._followers = [FollowerRun(c, plan.label(c), samples, limit) for c in group.followers]
        self._runs: Mapping[Cell, CellRun] = {
            run.cell: run for run in (self._first, *self._followers)
        }
        self.prompts = PromptTasks(worker.experiment.concurrency)
        self._tokens: TokenLedger | None = None
        self._failed_bidders: list[Bidder] = []
        self._num_printed = 0
        self._num_granted_by, self._next_grants = -1, 0.0
        self._replay()

    def _replay(self) -> None:
        """Restore the budgets of earlier sessions."""
        stored = self._store.records
        for run in self._runs.values():
            for sample_id in self._samples:
                if record := stored.get((run.cell, sample_id)):
                    run.replay(record)
                    if run is self._first:
                        self._settle(record)

    def _settle(self, first: PromptRecord) -> None:
        for follower in self._followers:
            follower.settle(first)

    def snapshots(self) -> list[Snapshot]:
        """The present state of the cells."""
        return [run.meter.snapshot() for run in self._runs.values()]

    @property
    def last_report(self) -> float:
        """Time of the last report of any prompt, by the monotonic clock."""
        return max(run.meter.last_report for run in self._runs.values())

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
        """Submit the first stage of all prompts that lack it; `advance` begins them."""
        run = self._first
        missing = [sample for sample in self._samples.values() if sample.id not in run.records]
        self._tokens = tokens = self._shared_tokens(len(missing))
        if tokens is not None:
            self.prompts.max_running = len(missing)  # each has to bid
            run.meter.share(tokens.total - tokens.spent)
        experiment, ledger = self._worker.experiment, run.ledger
        verdicts = [Verdicts(experiment.task, sample) for sample in missing]
        # All join before the first begins: nothing is granted before all of them have bid.
        bidders = [self._join(tokens, judge) if tokens else None for judge in verdicts]
        for sample, judge, bidder in zip(missing, verdicts, bidders, strict=True):
            prompt = PromptInCell(run, sample, run.cell.max_sequences, bidder=bidder)
            first_stage = self._worker.first_stage
            arguments = (run.cell, sample, judge, ledger, run.meter, bidder)
            self.prompts.submit(prompt, partial(first_stage, *arguments))

    def _join(self, tokens: TokenLedger, verdicts: Verdicts) -> Bidder:
        experiment = self._worker.experiment
        utility = utility_by(experiment.bids, verdicts, experiment.priority)
        return tokens.join(utility, share=experiment.token_budget or 0)

    def _shared_tokens(self, num_missing: int) -> TokenLedger | None:
        """The tokens that the prompts share, less those that finished prompts have spent."""
        experiment, run = self._worker.experiment, self._first
        total = experiment.shared_tokens(run.cell)
        if total is None:
            return None
        return TokenLedger(
            total,
            max_running=max(1, min(experiment.concurrency, num_missing // BIDDERS_PER_ROUND)),
            spent=sum(record.counts.generated for record in run.records.values()),
        )

    async def collect(self, task: asyncio.Task[Outcome]) -> None:
        """Write the result of a prompt, or its failure.

        Raises:
            BaseException: the error of a prompt that ends the run.
        """
        outcome = task.result()
        if isinstance(outcome, PromptRecord):
            self._write(outcome)
        else:
            await self._worker.server.require_alive(outcome)
            self._fail(self.prompts.running[task], outcome)
        del self.prompts.running[task]

    def keep_finished(self) -> None:
        """Write the results that have finished, at the end of a run that is broken off."""
        for record in self.prompts.results():
            if record.key not in self._store.records:
                self._store.append(self._dated(record))

    async def cancel(self, timeout: float | None = None) -> None:
        """End the prompts that run, and their requests on the servers.

        Args:
            timeout: seconds to wait for that; None to wait until all have ended.
        """
        self.prompts.cancel()
        self.close()
        if self.prompts.running:
            await asyncio.wait(self.prompts.running, timeout=timeout)

    def close(self) -> None:
        """End all waiting for tokens."""
        if self._tokens is not None:
            self._tokens.close()

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

    def _fail(self, prompt: PromptInCell, error: BaseException) -> None:
        """A prompt has failed in one of the cells, after all retries."""
        run, sample = prompt.run, prompt.sample
        counts = run.fail(sample.id, prompt.num_reserved, prompt.num_spent)
        is_first = run is self._first
        if is_first:
            for follower in self._followers:
                follower.lose(sample.id)
        if prompt.bidder is not None:
            self._failed_bidders.append(prompt.bidder)
        failure = Failure.of(
            error,
            run.cell,
            sample,
            stage=1 if is_first else 2,
            generated=counts.generated,
            session=self._store.session,
        )
        self._failures.append(failure)
        self._num_printed += 1
        if self._num_printed <= MAX_PRINTED:
            self._view.say(f"failed: {run.label}, prompt {failure.prompt}: {failure.sentence}")

    def advance(self) -> None:
        """Grant extra sequences where that is certain, and begin as many prompts as may run."""
        num_ended = len(self._first.records) + len(self._first.failed)
        has_news = num_ended > self._num_granted_by
        is_due = num_ended == len(self._samples) or time.monotonic() >= self._next_grants
        if has_news and is_due:
            self._num_granted_by = num_ended
            self._next_grants = time.monotonic() + GRANT_SECONDS
            for follower in self._followers:
                self._grant(follower)
        self.prompts.start()

    def _grant(self, run: FollowerRun) -> None:
        firsts, cell = self._first.records, run.cell
        assert cell.threshold is not None, f"{cell.method} has no θ"
        stage_ones = self._stage_ones()
        rule = self._worker.experiment.rules[cell.method]
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
            prompt = PromptInCell(run, sample, grant.extra, len(first.sequences))
            arguments = (cell, sample, first, grant, account, run.meter)
            self.prompts.submit(prompt, partial(self._worker.second_stage, *arguments))

    def _stage_ones(self) -> dict[str, StageOne]:
        """The first stages that have ended.

        A failed prompt counts as one that leaves nothing over and is eligible by either rule: it
        keeps its M sequences and a part of the surplus until it is retried.
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
