"""The limits by which a run's progress estimates the time left, from its own budgets."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from eager_sgl.core import PromptResult, TokenCounts
from evals import run
from evals.execution.calls import Call
from evals.execution.progress.snapshot import Snapshot
from evals.execution.progress.view import PlainView
from tests.evals.fakes.build import result
from tests.evals.fakes.scripted_run import PROFILE, Scripted, lines

MAX_SEQUENCES = 4


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Snapshot]:
    """All snapshots of the runs of a test, in the order in which they were shown."""
    snapshots: list[Snapshot] = []

    def show(view: PlainView, new: Sequence[Snapshot]) -> None:
        snapshots.extend(new)

    monkeypatch.setattr(PlainView, "show", show)
    return snapshots


def generate(call: Call) -> PromptResult:
    """All sequences that are allowed for every second prompt, else one."""
    saturates = sum(call.sample.id.encode()) % 2 == 0
    number = call.account.granted if saturates else 1
    call.account.commit(number)
    call.on_progress(TokenCounts(generated=10 * number), 0)
    if call.method.bidder is not None:
        call.method.bidder.leave(10 * number)
    return result(["no answer"] * number, max_sequences=MAX_SEQUENCES, generated=10 * number)


def evaluate(folder: Path, method: str, num_prompts: int, *more: str) -> int:
    swept = ("--methods", method, "--limit", str(num_prompts), "--concurrency", "1")
    sized = ("--max-sequences", str(MAX_SEQUENCES), "--output-dir", str(folder))
    return run.main([*swept, *sized, *more])


def test_a_run_begins_with_all_its_sequences(
    tmp_path: Path, scripted: Scripted, shown: list[Snapshot]
) -> None:
    assert evaluate(tmp_path, "parallel", 3) == 0
    assert (shown[0].max_sequences, shown[0].shared_tokens) == (3 * MAX_SEQUENCES, None)
    assert shown[-1].max_sequences == 0


@pytest.mark.parametrize(("limit", "expected"), [(70, 70), (32768, PROFILE.context_length)])
def test_no_sequence_is_longer_than_the_limit_or_the_context(
    tmp_path: Path, scripted: Scripted, shown: list[Snapshot], limit: int, expected: int
) -> None:
    assert evaluate(tmp_path, "parallel", 3, "--max-new-tokens", str(limit)) == 0
    assert {snapshot.max_length for snapshot in shown} == {expected}


def test_a_second_stage_is_limited_by_its_grants(
    tmp_path: Path, scripted: Scripted, shown: list[Snapshot]
) -> None:
    scripted(generate)
    assert evaluate(tmp_path, "eager_adapt", 12, "--theta", "1") == 0
    granted = sum(
        line["stage_two"]["extra_granted"]
        for line in lines(tmp_path)
        if line["method"] == "eager_adapt"
    )
    limits = [s.max_sequences for s in shown if s.label.startswith("eager_adapt")]
    assert limits[0] is None
    assert granted > 0
    first = next(limit for limit in limits if limit is not None)
    assert first == granted
    assert None not in limits[limits.index(first) :]


def test_a_later_session_shares_the_tokens_that_are_left(
    tmp_path: Path, scripted: Scripted, shown: list[Snapshot]
) -> None:
    def fail_once(call: Call) -> PromptResult:
        failed.append(call.sample.id)
        if len(failed) == 1:
            raise ValueError("this prompt fails")
        return generate(call)

    failed: list[str] = []
    scripted(fail_once)
    shared = ("--token-budget", "50")
    assert evaluate(tmp_path, "best_first", 4, *shared) == 3
    assert shown[0].shared_tokens == 4 * 50
    spent = sum(line["counts"]["generated"] for line in lines(tmp_path))
    shown.clear()
    scripted(generate)
    assert evaluate(tmp_path, "best_first", 4, *shared) == 0
    assert shown[0].shared_tokens == 4 * 50 - spent
