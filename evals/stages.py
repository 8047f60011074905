"""The cells of a group at the same time: two stages, one budget per cell, nothing lost.

The second stage of a prompt begins as soon as no unfinished prompt can change its grant. For both
rules that is before the slowest prompt has finished only for grants that reach the cap; all other
grants are shares of a surplus that is known at the end of the first stage.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Any

from eager_sgl.bids import TokenLedger
from eager_sgl.budget import Ledger
from eager_sgl.reallocation import StageOne
from evals.bidding import worth_by
from evals.judged import Verdicts, is_solved
from evals.methods import Worker, without_extra
from evals.plan import Cell, Group, Plan
from evals.progress import Meter, Snapshot, View
from evals.store import PromptRecord, ResultStore
from evals.tasks import Sample

__all__ = ["run_group", "wall_seconds"]

REFRESH_SECONDS = 0.25
BIDDERS_PER_ROUND = 4
"""Prompts that share tokens, to each round that runs: with fewer there is little to choose from."""


class _CellRun:
    """A cell: its budget, and what it has brought so far."""

    def __init__(self, cell: Cell, label: str, samples: Sequence[Sample]) -> None:
        self.cell = cell
        self.ledger = Ledger(cell.max_sequences * len(samples))
        self.meter = Meter(label, len(samples), self.ledger)
        self.records: dict[str, PromptRecord] = {}

    def add(self, record: PromptRecord) -> None:
        """A prompt has finished, now or in an earlier session."""
        self.records[record.sample_id] = record
        self.meter.finish(record.sample_id, solved=is_solved(record))

    def replay(self, record: PromptRecord) -> None:
        """Take from the budget what a prompt took in an earlier session."""
        _take(self.ledger, self.cell.max_sequences, len(record.sequences))
        self.add(record)

    def check(self) -> None:
        """The budget adds up, and every sequence came from it."""
        spent, reserved, free = self.ledger.spent, self.ledger.reserved, self.ledger.free
        num_sequences = sum(len(record.sequences) for record in self.records.values())
        assert (spent, reserved, spent + free) == (num_sequences, 0, self.ledger.total), (
            f"{self.cell}: {spent} spent for {num_sequences} sequences, {reserved} reserved, "
            f"{free} free of {self.ledger.total}"
        )


def _take(ledger: Ledger, reserved: int, taken: int) -> None:
    """One prompt's whole way through the ledger."""
    with ledger.reserve(reserved) as account:
        account.commit(taken)


class _FollowerRun(_CellRun):
    """A cell of two stages. The budget is that of its own two, though the first one is shared."""

    def __init__(self, cell: Cell, label: str, samples: Sequence[Sample]) -> None:
        super().__init__(cell, label, samples)
        self._awaited = {s.id: self.ledger.reserve(cell.max_sequences) for s in samples}
        self.begun: set[str] = set()

    def settle(self, first: PromptRecord) -> None:
        """The first stage of a prompt has finished; what it left over is free."""
        with self._awaited.pop(first.sample_id) as account:
            account.commit(len(first.sequences))

    def replay(self, record: PromptRecord) -> None:
        assert record.stage_two is not None, f"{record.sample_id}: no second stage in {self.cell}"
        self.begun.add(record.sample_id)
        if record.stage_two.extra_granted:
            _take(self.ledger, record.stage_two.extra_granted, record.stage_two.extra_used)
        self.add(record)


class _GroupRun:
    """Runs what is missing of a group; used by one thread."""

    def __init__(
        self, group: Group, plan: Plan, worker: Worker, store: ResultStore, pool: ThreadPoolExecutor
    ) -> None:
        self._worker = worker
        self._store = store
        self._pool = pool
        self._started = time.monotonic()
        self._samples = {sample.id: sample for sample in worker.settings.samples}
        samples = worker.settings.samples
        self._first = _CellRun(group.first, plan.label(group.first), samples)
        self._followers = [_FollowerRun(c, plan.label(c), samples) for c in group.followers]
        self._runs: Mapping[Cell, _CellRun] = {
            run.cell: run for run in (self._first, *self._followers)
        }
        self.pending: set[Future[PromptRecord]] = set()
        self._tokens: TokenLedger | None = None
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

    def check(self) -> None:
        """At the end: every budget adds up."""
        for run in self._runs.values():
            run.check()
        if self._tokens is not None:
            generated = sum(record.counts.generated for record in self._first.records.values())
            assert self._tokens.spent == generated, f"{self._tokens.spent} ≠ {generated} tokens"

    def begin(self) -> None:
        """Ask for the first stage of all prompts that lack it."""
        run = self._first
        missing = [sample for sample in self._samples.values() if sample.id not in run.records]
        self._tokens = tokens = self._shared_tokens(len(missing))
        settings, ledger = self._worker.settings, run.ledger
        verdicts = [Verdicts(settings.task, sample) for sample in missing]
        # All join before the first begins: nothing is granted before all of them have bid.
        bidders = [
            tokens.join(worth_by(settings.bids, own, settings.search.priority)) if tokens else None
            for own in verdicts
        ]
        for sample, own, bidder in zip(missing, verdicts, bidders, strict=True):
            self._submit(self._worker.first, run.cell, sample, own, ledger, run.meter, bidder)

    def _shared_tokens(self, num_missing: int) -> TokenLedger | None:
        """What the prompts of the group share, less what finished ones have spent of it."""
        settings, run = self._worker.settings, self._first
        total = settings.shared_tokens(run.cell)
        if total is None:
            return None
        return TokenLedger(
            total,
            most_running=max(1, min(settings.concurrency, num_missing // BIDDERS_PER_ROUND)),
            spent=sum(record.counts.generated for record in run.records.values()),
        )

    def close(self) -> None:
        """Let nobody wait for tokens any more."""
        if self._tokens is not None:
            self._tokens.close()

    def _submit(self, function: Any, *arguments: Any) -> None:
        self.pending.add(self._pool.submit(function, *arguments))

    def write(self, record: PromptRecord) -> None:
        """A prompt has finished in one of the cells."""
        elapsed = time.monotonic() - self._started
        record = replace(record, session=self._store.session, elapsed=elapsed)
        self._store.append(record)
        run = self._runs[record.cell]
        run.add(record)
        if run is self._first:
            self._settle(record)

    def advance(self) -> None:
        """Begin the second stage wherever it is certain."""
        for follower in self._followers:
            self._grant(follower)

    def _grant(self, run: _FollowerRun) -> None:
        firsts, cell = self._first.records, run.cell
        assert cell.threshold is not None, f"{cell.method} has no θ"
        stage_ones = {i: _stage_one(firsts[i]) for i in self._samples if i in firsts}
        rule = self._worker.settings.rules[cell.method]
        grants = rule.certain_grants(stage_ones, len(self._samples), cell.threshold)
        decided = self._samples if len(firsts) == len(self._samples) else grants
        for sample_id in [i for i in decided if i not in run.begun]:
            run.begun.add(sample_id)
            grant, first = grants.get(sample_id), firsts[sample_id]
            if grant is None or grant.extra == 0:
                self.write(without_extra(first, cell, grant))
                continue
            account = run.ledger.reserve(grant.extra)
            sample = self._samples[sample_id]
            self._submit(self._worker.second, cell, sample, first, grant, account, run.meter)


def _stage_one(record: PromptRecord) -> StageOne:
    return StageOne(len(record.sequences), record.max_sequences, record.solved)


def run_group(group: Group, plan: Plan, worker: Worker, store: ResultStore, view: View) -> None:
    """Bring what is missing of a group, several prompts at a time; each is written as it finishes.

    Prompts that share tokens are all begun, since each has to bid. The first failure ends the run:
    what has finished is written, what waits is not begun.
    """
    settings = worker.settings
    shares = settings.shared_tokens(group.first) is not None
    pool = ThreadPoolExecutor(len(settings.samples) if shares else settings.concurrency)
    run = _GroupRun(group, plan, worker, store, pool)
    try:
        run.begin()
        run.advance()
        while run.pending:
            view.show(run.snapshots())
            done, run.pending = wait(run.pending, REFRESH_SECONDS, FIRST_COMPLETED)
            for future in sorted(done, key=_has_failed):
                run.write(future.result())
            run.advance()
        view.show(run.snapshots())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        run.close()
    run.check()


def _has_failed(future: Future[Any]) -> bool:
    return future.exception() is not None


def wall_seconds(records: Sequence[PromptRecord], plan: Plan) -> dict[Cell, float]:
    """How long each cell took: from the start of its group to its last prompt, over all sessions.

    The cells of a group run at the same time, and one of two stages includes its first.
    """
    last: dict[tuple[Cell, int], float] = {}
    for record in records:
        key = (record.cell, record.session)
        last[key] = max(last.get(key, 0.0), record.elapsed)
    sessions = {session for _, session in last}
    return {
        cell: sum(
            max(last.get((cell, session), 0.0), last.get((group.first, session), 0.0))
            for session in sessions
        )
        for group in plan.groups
        for cell in group.cells
    }
