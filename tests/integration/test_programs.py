"""The example programs on the real runtime."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import pytest
import sglang as sgl
from programs.together import answer_together
from sglang.lang.interpreter import ProgramState

from eager_sgl import (
    BestFirst,
    EagerConfig,
    EagerInit,
    SamplingConfig,
    SearchConfig,
    TokenEndpoint,
    TrieParallel,
    connect,
)
from evals.tasks.countdown_rules import Problem, instruction, is_correct, parse_answer
from programs import countdown
from programs.countdown import solve
from programs.vote import vote
from tests.conftest import API_KEY

pytestmark = pytest.mark.integration

EASY = Problem((7, 5), 12, level=1)
METHOD = EagerInit(
    EagerConfig(
        threshold=0.5,
        max_sequences=8,
        chunk_tokens=32,
        sampling=SamplingConfig(max_new_tokens=256),
    )
)


def test_the_verifier_returns_a_correct_answer(endpoint: TokenEndpoint) -> None:
    answer = solve.run(problem=EASY, method=METHOD, backend=endpoint).ret_value
    assert is_correct(EASY, answer)


@pytest.mark.parametrize(
    ("numbers", "target"), [((3, 8, 3, 18), 2), ((7, 5), 12), ((20, 4, 3), 83)]
)
def test_the_command_line_prints_a_correct_answer(
    server_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    numbers: Any,
    target: Any,
) -> None:
    monkeypatch.setattr(countdown, "connect", partial(connect, api_key=API_KEY))
    words = ["countdown.py", *map(str, numbers), "--target", str(target), "--server", server_url]
    monkeypatch.setattr(sys, "argv", words)
    countdown.main()
    made, _, answer = capsys.readouterr().out.strip().partition(" = ")
    assert int(made) == target
    assert is_correct(Problem(numbers, target, level=len(numbers)), answer)


def test_a_vote_leaves_the_state_behind_a_winning_sequence(endpoint: TokenEndpoint) -> None:
    prompt = [{"role": "user", "content": instruction(EASY)}]
    state = vote.run(prompt=prompt, method=METHOD, extract=parse_answer, backend=endpoint)
    result, winner = state.ret_value, state["answer"]
    assert parse_answer(state.text()) == winner
    assert state.text() in {sequence.text for sequence in result.sequences}


def test_a_vote_is_a_step_of_a_longer_program(endpoint: TokenEndpoint) -> None:
    @sgl.function  # type: ignore[untyped-decorator]
    def explain(s: ProgramState) -> Any:
        prompt = [{"role": "user", "content": instruction(EASY)}]
        decided = vote.run(prompt=prompt, method=METHOD, extract=parse_answer, backend=endpoint)
        s += decided.text() + "\n"
        s += sgl.gen("more", max_tokens=3)
        return decided["answer"]

    state = explain.run(backend=endpoint)
    assert state.get_meta_info("more")["completion_tokens"] >= 1
    assert f"{state.ret_value}\n" in state.text()


@pytest.mark.parametrize("kind", [TrieParallel, BestFirst])
def test_prompts_that_share_tokens_leave_them_to_uncertain_votes(
    endpoint: TokenEndpoint, kind: Any
) -> None:
    numbers = (((7, 5), 12), ((9, 3), 12), ((20, 4), 24), ((61, 7, 13, 29), 94))
    problems = [
        Problem(numbers_of, target, level=len(numbers_of) - 1) for numbers_of, target in numbers
    ]
    prompts = [[{"role": "user", "content": instruction(numbers_of)}] for numbers_of in problems]
    config = SearchConfig(max_sequences=12, width=4, sampling=SamplingConfig(max_new_tokens=256))
    results = answer_together(prompts, kind(config), parse_answer, tokens=250, backend=endpoint)
    generated = [result.counts.generated for result in results]
    assert generated[-1] > 2 * sum(generated[:-1])
    # A last round of four sequences may exceed the total.
    assert sum(generated) <= 250 * 4 + 4 * 256
