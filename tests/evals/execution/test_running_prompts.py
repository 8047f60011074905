"""Prompts are tasks: how many run, in which threads, and how an interruption ends them."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from eager_sgl.core import PromptResult, Sequence
from eager_sgl.errors import AuthenticationError
from evals import run
from evals.analysis.judged import Verdicts
from evals.execution import calls, evaluation
from evals.execution.calls import Call
from evals.grading.score import Score
from tests.evals.fakes.scripted_run import Scripted, generate, lines


class Prompts:
    """Prompts of a method that end after a while; counts those that run, and those cancelled.

    Args:
        seconds: that each prompt takes.
        act: called by the n-th prompt, when it begins.
        clean_up: seconds that a cancelled prompt takes to end its requests.
        num_awaited: prompts that run at the same time before any of them ends.
    """

    def __init__(self, seconds: float, clean_up: float = 0.0, num_awaited: int = 0) -> None:
        self.seconds, self.clean_up, self.num_awaited = seconds, clean_up, num_awaited
        self.num_begun = self.num_running = self.max_running = 0
        self.max_threads = self.num_cancelled = self.num_cleaned = 0
        self.interruptions: dict[int, signal.Signals] = {}
        self.at_first_cancellation: Callable[[], None] = lambda: None
        self.fails_at: int | None = None

    async def __call__(self, call: Call) -> PromptResult:
        self.num_begun += 1
        self.num_running += 1
        self.max_running = max(self.max_running, self.num_running)
        number = self.num_begun
        if number in self.interruptions:
            os.kill(os.getpid(), self.interruptions[number])
        try:
            await self._wait()
        finally:
            self.num_running -= 1
        self.max_threads = max(self.max_threads, threading.active_count())
        if number == self.fails_at:
            raise AuthenticationError("no")
        return generate(call)

    async def _wait(self) -> None:
        try:
            while self.max_running < self.num_awaited:
                await asyncio.sleep(0.001)
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.num_cancelled += 1
            if self.num_cancelled == 1:
                self.at_first_cancellation()
            await asyncio.sleep(self.clean_up)
            self.num_cleaned += 1
            raise


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch, scripted: Scripted) -> Scripted:
    """Generates by the prompts of a test, in the event loop of the run."""
    return lambda prompts: monkeypatch.setitem(calls.FIRST_STAGES, "swor", prompts)


def arguments(folder: Path, num_prompts: int, concurrency: int) -> list[str]:
    swept = ("--methods", "swor", "--limit", str(num_prompts))
    return [*swept, "--concurrency", str(concurrency), "--output-dir", str(folder)]


@pytest.mark.parametrize("concurrency", [1, 7, 40])
def test_as_many_prompts_run_as_may(tmp_path: Path, use: Scripted, concurrency: int) -> None:
    prompts = Prompts(seconds=0.01, num_awaited=concurrency)
    use(prompts)
    assert run.main(arguments(tmp_path, 40, concurrency)) == 0
    assert len(lines(tmp_path)) == 40
    assert prompts.max_running == concurrency


def test_prompts_need_no_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use: Scripted
) -> None:
    monkeypatch.setattr(evaluation, "MAX_JUDGES", 3)
    before = threading.active_count()
    prompts = Prompts(seconds=0.01, num_awaited=150)
    use(prompts)
    assert run.main(arguments(tmp_path, 150, 150)) == 0
    assert prompts.max_running == 150
    assert prompts.max_threads <= before + 3


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_waits_until_the_running_prompts_have_ended(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    use: Scripted,
    number: signal.Signals,
    code: int,
) -> None:
    """A cancelled prompt has ended once its requests are aborted on the server."""
    prompts = Prompts(seconds=0.1, clean_up=0.1)
    prompts.interruptions[9] = number
    use(prompts)
    assert run.main(arguments(tmp_path, 40, 4)) == code
    assert prompts.num_cleaned == prompts.num_cancelled
    assert 1 <= prompts.num_cancelled <= 4
    assert prompts.num_running == 0
    assert prompts.num_begun < 9 + 4, "none waits for a prompt that was cancelled"
    kept = f"; {len(lines(tmp_path))} finished results are kept in "
    assert kept in capsys.readouterr().err
    use(Prompts(seconds=0.0))
    assert run.main(arguments(tmp_path, 40, 4)) == 0
    assert len(lines(tmp_path)) == 40


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_second_interruption_does_not_wait(
    tmp_path: Path, use: Scripted, number: signal.Signals, code: int
) -> None:
    prompts = Prompts(seconds=60.0, clean_up=60.0)
    prompts.interruptions[4] = number
    again = threading.Timer(0.3, os.kill, (os.getpid(), number))
    prompts.at_first_cancellation = again.start
    use(prompts)
    started = time.monotonic()
    assert run.main(arguments(tmp_path, 8, 4)) == code
    again.join()
    assert time.monotonic() - started < 30
    assert prompts.num_cleaned == 0


def test_an_error_that_ends_the_run_cancels_the_others(tmp_path: Path, use: Scripted) -> None:
    prompts = Prompts(seconds=0.05)
    prompts.fails_at = 5
    use(prompts)
    assert run.main(arguments(tmp_path, 40, 4)) == 1
    assert prompts.num_running == 0
    assert prompts.num_begun < 12


def test_a_slow_judge_delays_no_other_prompt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use: Scripted
) -> None:
    """Judging runs in threads: the loop serves the requests of the other prompts meanwhile."""
    other_has_ended, score = threading.Event(), Verdicts.score

    def wait_and_score(verdicts: Verdicts, sequence: Sequence) -> Score:
        assert other_has_ended.wait(20), "the other prompt waits for the judge"
        return score(verdicts, sequence)

    begun: list[str] = []

    async def generate_in_turn(call: Call) -> PromptResult:
        begun.append(call.sample.id)
        if len(begun) == 2:
            await asyncio.sleep(0.2)
            other_has_ended.set()
        return generate(call)

    monkeypatch.setattr(Verdicts, "score", wait_and_score)
    use(generate_in_turn)
    assert run.main(arguments(tmp_path, 2, 2)) == 0
