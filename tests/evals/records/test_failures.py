"""Prompts that fail: written down, tried again, and never the end of the others."""

import asyncio
import json
import os
import re
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from eager_sgl.core import PromptResult, TokenCounts
from eager_sgl.errors import (
    AuthenticationError,
    RequestRejectedError,
    RuntimeStoppedError,
    ServerError,
    ServerUnreachableError,
)
from evals import compare, run
from evals.execution import calls, publishing, stages
from evals.execution.calls import Call
from evals.execution.progress import meter
from evals.records.record import PromptRecord
from tests.evals.fakes.build import result
from tests.evals.fakes.scripted_run import (
    Scripted,
    ScriptedClient,
    in_thread,
    key_of,
    lines,
    server,
)

METHODS = "parallel,eager_init,eager_adapt,eager"
M, NUM_PROMPTS = 4, 6
FAILURE_FIELDS = {
    *("method", "max_sequences", "threshold", "temperature", "seed", "stage_two", "sample_id"),
    *("line", "stage", "error", "reason", "generated", "traceback", "session"),
}


def arguments(folder: Path, *more: str) -> list[str]:
    swept = ("--methods", METHODS, "--limit", str(NUM_PROMPTS), "--max-sequences", str(M))
    extra = ("--parallel-sequences", str(M), "--extra-cap", "0.75")  # less than M: see `Failing`
    return [*swept, *extra, "--output-dir", str(folder), *more]


def failures(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "failures.jsonl").read_text().splitlines()]


class Failing:
    """As many sequences as the prompt's name says, none solved; raises for chosen prompts.

    Args:
        error: None for a run in which nothing fails.
        stage: in which they fail; the second one may take fewer than M sequences.
        number: of prompts that fail, of those that are asked for first.
        takes_all: whether it takes as many sequences as it may, as Full Parallel does.
    """

    def __init__(
        self,
        error: BaseException | None,
        stage: int = 1,
        number: int = 1,
        *,
        takes_all: bool = False,
    ) -> None:
        self.error, self.stage, self.number, self.takes_all = error, stage, number, takes_all
        self.chosen: list[str] = []
        self.asked: list[tuple[str, int]] = []
        self._lock = threading.Lock()

    def __call__(self, call: Call) -> PromptResult:
        stage = 1 if call.account.granted == call.method.max_sequences == M else 2
        with self._lock:
            self.asked.append((call.sample.id, stage))
            fails = self.error is not None and stage == self.stage and self._chooses(call)
        num_wanted = sum(call.sample.id.encode()) % M + 1 if stage == 1 else 1
        size = call.account.granted if self.takes_all else min(num_wanted, call.account.granted)
        call.account.commit(size)
        call.on_progress(TokenCounts(generated=5, prompt=10), size)
        if fails and self.error is not None:
            raise self.error
        return result(["no answer"] * size, max_sequences=call.method.max_sequences)

    def _chooses(self, call: Call) -> bool:
        if len(self.chosen) < self.number and call.sample.id not in self.chosen:
            self.chosen.append(call.sample.id)
        return call.sample.id in self.chosen


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch, scripted: Scripted) -> Scripted:
    """As `scripted`, with a Full Parallel in which nothing fails."""

    def install(function: Any, on: Any = None) -> None:
        scripted(function, on)
        monkeypatch.setitem(
            calls.FIRST_STAGES, "parallel", in_thread(Failing(None, takes_all=True))
        )

    return install


FAULTS = [
    (RequestRejectedError("http://x refused the request: 400"), False),
    (ServerError("the server aborted a request: why not"), False),
    (ServerUnreachableError("http://x/generate gave no usable answer"), False),
    (ValueError("a verifier of the user's"), True),
    (AssertionError("a bug"), True),
    (MemoryError(), True),
    (SystemExit("a plug-in that ends itself"), True),
]


@pytest.mark.parametrize(("error", "is_unexplained"), FAULTS)
@pytest.mark.parametrize("method", ["parallel", "eager_init"])
def test_a_failed_prompt_is_recorded_and_the_others_finish(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    use: Scripted,
    error: BaseException,
    is_unexplained: bool,
    method: str,
) -> None:
    use(Failing(None))
    failing = Failing(error, takes_all=method == "parallel")
    monkeypatch.setitem(calls.FIRST_STAGES, method, in_thread(failing))
    assert run.main(arguments(tmp_path)) == 3
    said = capsys.readouterr()
    (failure,) = failures(tmp_path)
    assert failure.keys() == FAILURE_FIELDS
    (chosen,) = failing.chosen
    assert (failure["method"], failure["sample_id"]) == (method, chosen)
    assert (failure["error"], failure["reason"]) == (type(error).__name__, str(error))
    assert (failure["traceback"] is not None) == is_unexplained
    assert failure["generated"] == 5
    num_failed = 1 if method == "parallel" else 3
    assert len(lines(tmp_path)) == 4 * NUM_PROMPTS - num_failed
    assert said.err == (
        f"error: {num_failed} results failed, see {tmp_path}/failures.jsonl; the same command "
        "retries them\n"
    )
    assert f"failed: {method}, prompt {chosen!r}: " in said.out
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["partial"], summary["num_failed"]) == (True, num_failed)
    assert summary["failures"][0]["sample_id"] == chosen
    failed = {row["method"]: row["num_failed"] for row in summary["rows"]}
    expected = {method} if method == "parallel" else {"eager_init", "eager_adapt", "eager"}
    assert {name for name, number in failed.items() if number == 1} == expected
    assert "prompts failed" in said.out
    assert "at least 5 tokens" in " ".join(said.out.split())
    assert (tmp_path / "report.html").exists()
    again = Failing(None)
    use(again)
    monkeypatch.setitem(calls.FIRST_STAGES, "parallel", in_thread(again))
    again.takes_all = method == "parallel"
    assert run.main(arguments(tmp_path)) == 0
    assert {sample_id for sample_id, _ in again.asked} == {chosen}
    assert len({key_of(line) for line in lines(tmp_path)}) == 4 * NUM_PROMPTS
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["partial"], summary["num_failed"], summary["failures"]) == (False, 0, [])


@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.parametrize("number", [1, 3, NUM_PROMPTS])
def test_no_part_of_the_budget_is_spent_twice(
    tmp_path: Path, use: Scripted, stage: int, number: int
) -> None:
    """`run_group` checks every ledger at its end; here the sum over both sessions is."""
    use(Failing(RequestRejectedError("no"), stage, number))
    assert run.main(arguments(tmp_path, "--methods", "eager_init,eager_adapt,eager")) == 3
    before = lines(tmp_path)
    use(Failing(RequestRejectedError("once more"), stage, 1))
    assert run.main(arguments(tmp_path, "--methods", "eager_init,eager_adapt,eager")) == 3
    use(Failing(None))
    assert run.main(arguments(tmp_path, "--methods", "eager_init,eager_adapt,eager")) == 0
    results = lines(tmp_path)
    assert results[: len(before)] == before
    assert len({key_of(line) for line in results}) == len(results) == 3 * NUM_PROMPTS
    firsts = {
        line["sample_id"]: len(line["sequences"]) for line in results if not line["stage_two"]
    }
    surplus = M * NUM_PROMPTS - sum(firsts.values())
    for method in ("eager_adapt", "eager"):
        granted = [
            line["stage_two"]["extra_granted"] for line in results if line["method"] == method
        ]
        assert 0 <= sum(granted) <= surplus
        assert max(granted) < M


def test_a_failed_first_stage_keeps_its_part_of_the_surplus(tmp_path: Path, use: Scripted) -> None:
    """Nobody waits for it, and tried again it gets what it would have got at once."""
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    options = ("--methods", "eager", "--concurrency", "1")
    use(Failing(None))
    assert run.main(arguments(whole, *options)) == 0
    failing = Failing(RequestRejectedError("no"))
    use(failing)
    assert run.main(arguments(pieces, *options)) == 3
    others = [line for line in lines(pieces) if line["method"] == "eager"]
    assert len(others) == NUM_PROMPTS - 1, "the second stages of the others were begun"
    use(Failing(None))
    assert run.main(arguments(pieces, *options)) == 0

    def granted(folder: Path) -> dict[str, int]:
        results = [line for line in lines(folder) if line["method"] == "eager"]
        return {line["sample_id"]: line["stage_two"]["extra_granted"] for line in results}

    of_whole, other = granted(whole), granted(pieces)
    assert of_whole.keys() == other.keys()
    assert all(other[i] <= of_whole[i] for i in of_whole if i not in failing.chosen)
    assert sum(other.values()) <= sum(of_whole.values())
    assert other[failing.chosen[0]] > 0


@pytest.mark.parametrize("num_failed", [1, 3])
def test_prompts_that_share_tokens_leave_failed_prompts_their_share(
    tmp_path: Path, use: Scripted, num_failed: int
) -> None:
    budget = 50
    options = ("--methods", "best_first", "--token-budget", str(budget), "--concurrency", "2")

    class Bidding(Failing):
        def __call__(self, call: Call) -> PromptResult:
            first = super().__call__(call)
            spent, size = 10, 1
            assert call.method.bidder is not None
            while size < call.account.granted and call.method.bidder.offer(spent, 1.0, 10).result():
                spent, size = spent + 10, size + 1
            call.method.bidder.leave(spent)
            call.account.commit(size - len(first.sequences))
            return result(["no answer"] * call.account.spent, generated=spent, max_sequences=64)

    more = (*options, "--max-sequences", "64", "--parallel-sequences", "64")
    # With so large an M a prompt counts as one of stage two here, and takes a sequence at a time.
    use(Bidding(RequestRejectedError("no"), stage=2, number=num_failed))
    assert run.main(arguments(tmp_path, *more)) == 3
    spent = sum(line["counts"]["generated"] for line in lines(tmp_path))
    assert spent <= budget * (NUM_PROMPTS - num_failed)
    use(Bidding(None))
    assert run.main(arguments(tmp_path, *more)) == 0
    total = sum(line["counts"]["generated"] for line in lines(tmp_path))
    assert total == budget * NUM_PROMPTS


@pytest.mark.parametrize(
    "error", [AuthenticationError("key"), RuntimeStoppedError("scheduler"), KeyboardInterrupt()]
)
def test_an_error_that_all_prompts_would_meet_ends_the_run(
    tmp_path: Path, use: Scripted, error: BaseException
) -> None:
    failing = Failing(error)
    use(failing)
    assert run.main(arguments(tmp_path, "--concurrency", "1")) in (1, 130)
    assert len(failing.asked) < 4
    assert failures(tmp_path) == []


def test_an_unreachable_server_ends_the_run_unless_it_answers_a_probe(
    tmp_path: Path, use: Scripted
) -> None:
    for is_alive, code in ((False, 1), (True, 3)):
        use(Failing(ServerUnreachableError("reset")), on=server(ScriptedClient(is_alive=is_alive)))
        assert run.main(arguments(tmp_path / str(is_alive))) == code


def test_a_dead_process_of_the_server_ends_the_run_while_requests_wait(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], use: Scripted
) -> None:
    released, begun = threading.Event(), threading.Event()

    def generate(call: Call) -> PromptResult:
        if begun.is_set():
            released.wait(30)
        begun.set()
        call.account.commit(1)
        return result(["no answer"], max_sequences=M)

    def check() -> None:
        if begun.is_set() and lines(tmp_path):
            raise RuntimeStoppedError("the embedded runtime has stopped: the detokenizer died")

    use(generate, on=server(check=check))
    started = time.monotonic()
    assert run.main(arguments(tmp_path, "--methods", "swor", "--concurrency", "1")) == 1
    assert time.monotonic() - started < 25
    released.set()
    error = capsys.readouterr().err
    assert "the detokenizer died; 1 finished results are kept in" in error


def test_results_that_finished_before_the_server_died_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use: Scripted
) -> None:
    """The dead server is noticed while other results wait to be collected."""
    done = threading.Barrier(NUM_PROMPTS)

    def generate(call: Call) -> PromptResult:
        done.wait(20)
        call.account.commit(1)
        return result(["no answer"], max_sequences=M)

    checks = iter([None])  # the first is before anything has finished

    def check() -> None:
        if next(checks, "dead"):
            raise RuntimeStoppedError("dead")

    async def wait(pending: Any, **when: Any) -> tuple[set[Any], None]:
        await asyncio.wait(pending)
        return set(), None

    monkeypatch.setattr(stages, "wait", wait)
    use(generate, on=server(check=check))
    code = run.main(arguments(tmp_path, "--methods", "swor", "--concurrency", str(NUM_PROMPTS)))
    assert code == 1
    assert len(lines(tmp_path)) == NUM_PROMPTS


@pytest.mark.parametrize("words", ["too-long", None])
def test_prompts_that_do_not_fit_are_named_before_anything_is_generated(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    use: Scripted,
    words: str | None,
) -> None:
    task = tmp_path / "own.jsonl"
    texts = ["one", "two too-long", "three", "four too-long", "five"]
    prompts = [{"id": f"p{i}", "prompt": text, "answer": "4"} for i, text in enumerate(texts)]
    task.write_text("\n\n".join(map(json.dumps, prompts)))
    failing = Failing(None)
    use(failing, on=server(ScriptedClient(too_long=words)))
    more = ("--task", str(task), "--theta", "0.5", "--methods", "parallel,eager_adapt")
    code = run.main([*arguments(tmp_path / "run"), *more])
    asked = {sample_id for sample_id, _ in failing.asked}
    if words is None:
        assert (code, asked) == (0, {"p0", "p1", "p2", "p3", "p4"})
        return
    assert (code, asked) == (3, {"p0", "p2", "p4"})
    said = " ".join(capsys.readouterr().out.split())
    assert "'p1' (line 3) in parallel, eager_init: the prompt has 9999 tokens" in said
    assert "'p3' (line 7)" in said
    notice = said.index("warning: 2 prompts cannot be given to the model: 'p")
    assert notice < said.index("failed: parallel, prompt 'p1' (line 3): the prompt")
    results = failures(tmp_path / "run")
    assert sorted({(failure["sample_id"], failure["line"]) for failure in results}) == [
        ("p1", 3),
        ("p3", 7),
    ]
    assert {failure["generated"] for failure in results} == {0}
    assert len(lines(tmp_path / "run")) == 3 * 3


def test_methods_are_compared_on_the_prompts_that_both_have(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    use: Scripted,
) -> None:
    use(Failing(None))
    rejected = RequestRejectedError("no")
    monkeypatch.setitem(
        calls.FIRST_STAGES, "parallel", in_thread(Failing(rejected, number=2, takes_all=True))
    )

    async def resume(call: Call, first: PromptRecord, thresholds: list[float]) -> PromptResult:
        return await calls.FIRST_STAGES["eager_init"](call)

    monkeypatch.setitem(calls.SECOND_STAGES, "resume", resume)
    failing = Failing(RequestRejectedError("no"), stage=2)
    monkeypatch.setitem(calls.FIRST_STAGES, "eager_init", in_thread(failing))
    both = ("--methods", "parallel,eager_init,eager", "--stage-two", "restart,resume")
    assert run.main(arguments(tmp_path, *both)) == 3
    summary = json.loads((tmp_path / "summary.json").read_text())
    matched = {row["name"]: row["matched_parallel_k"] for row in summary["rows"]}
    assert matched["eager"] is not None, "a failed prompt does not bar the comparison"
    assert len(summary["stage_two_contrasts"]) == 1
    capsys.readouterr()
    assert run.main(["--report-only", "--output-dir", str(tmp_path)]) == 0
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    assert compare.main([str(tmp_path)]) == 0
    assert "with a result in every cell are compared" in capsys.readouterr().err


def test_a_traceback_is_followed_by_what_is_kept(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    use: Scripted,
) -> None:
    use(Failing(None))

    def fault(*arguments: Any) -> None:
        raise KeyError("a fault of ours")

    monkeypatch.setattr(publishing, "wall_seconds", fault)
    assert run.main(arguments(tmp_path)) == 1
    error = capsys.readouterr().err
    assert error.startswith("Traceback")
    last = error.splitlines()[-1]
    assert last == (
        f"error: unexpected KeyError: 'a fault of ours'; {4 * NUM_PROMPTS} finished results are "
        f"kept in {tmp_path}/results.jsonl, the same command continues the run"
    )


def test_sigterm_ends_as_an_interruption_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], use: Scripted
) -> None:
    released = threading.Event()

    class Slow(Failing):
        def __call__(self, call: Call) -> PromptResult:
            if len(self.asked) == 2:
                os.kill(os.getpid(), signal.SIGTERM)
                released.wait(20)
            return super().__call__(call)

    before = signal.getsignal(signal.SIGTERM)
    use(Slow(None))
    assert run.main(arguments(tmp_path, "--concurrency", "1")) == 143
    released.set()
    error = capsys.readouterr().err
    assert re.fullmatch(
        r"error: terminated; \d finished results are kept in \S+, "
        r"the same command continues the run\n",
        error,
    )
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("is_alive", [True, False])
def test_a_notice_appears_while_the_server_is_silent(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    use: Scripted,
    is_alive: bool,
) -> None:
    monkeypatch.setattr(meter, "SILENT_SECONDS", 1.0)

    def generate(call: Call) -> PromptResult:
        call.on_progress(TokenCounts(), 1)
        time.sleep(3.0)
        call.account.commit(1)
        return result(["no answer"], max_sequences=M)

    use(generate, on=server(ScriptedClient(is_alive=is_alive)))
    assert run.main(arguments(tmp_path, "--methods", "swor", "--limit", "2")) == 0
    said = capsys.readouterr().out
    notices = [line for line in said.splitlines() if line.startswith("no answer from")]
    assert len(notices) == 2, "at 1 s and at 2 s, not before 4 s"
    answers = "answers" if is_alive else "does not answer"
    assert "2 sequences of 2 prompts are under way" in notices[0]
    assert f"and it {answers} a short request" in notices[0]
