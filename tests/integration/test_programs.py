"""The programs to copy, on the real runtime."""

from __future__ import annotations

import importlib
import re
import sys
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import sglang as sgl
from sglang.lang.interpreter import ProgramState

from eager_sgl import (
    BestFirst,
    Client,
    EagerConfig,
    EagerInit,
    PromptResult,
    SamplingConfig,
    SearchConfig,
    TokenEndpoint,
    TrieParallel,
)
from evals.tasks.countdown_rules import Problem, instruction, is_correct, parse_answer
from programs.best_of_n import best_of_n, closeness
from programs.chat import chat, next_turn
from programs.fork_and_verify import CLOSING, fork_and_verify
from programs.own_priority import TIES
from programs.shared_budget import answer_together
from programs.streaming import watch
from programs.tools import agent, calculate, parse_operation
from programs.vote import vote
from tests.conftest import API_KEY

pytestmark = pytest.mark.integration

EASY = Problem((7, 5), 12, level=1)
SECOND = Problem((20, 4), 24, level=1)
FEASIBLE = Problem((3, 8, 3, 18), 2, level=4)
HARD = Problem((61, 7, 13, 29), 94, level=4)


def method(stop: tuple[int, ...] = (), threshold: float = 0.5) -> EagerInit:
    """Branches off ended requests alone: under the gate, children recompute what still runs."""
    sampling = SamplingConfig(max_new_tokens=256, stop_token_ids=stop)
    return EagerInit(
        EagerConfig(
            threshold=threshold,
            max_sequences=8,
            monitor="chunk",
            chunk_tokens=32,
            sampling=sampling,
        )
    )


def messages(problem: Problem) -> Any:
    return [{"role": "user", "content": instruction(problem)}]


def assert_cached_but(num_new: int, result: PromptResult) -> None:
    """The first request has that many uncached tokens, each continuation has one.

    A continuation that was aborted before it started has none.
    """
    assert num_new <= result.counts.prefilled <= num_new + result.counts.requests - 1


@pytest.fixture(scope="module")
def client(server_url: str) -> Iterator[Client]:
    with Client(server_url, api_key=API_KEY) as client:
        yield client


COMMANDS = {
    "best_of_n": (instruction(EASY), r"make 12 .*: .*7.* \(reward 0, the best of \d+ seq.*\n"),
    "chat": (instruction(EASY), r"make 12 from 07 05: \S*7\S*\n"),
    "fork_and_verify": (instruction(EASY), r"make 12 from 07 05: \S*7\S*\n"),
    "own_priority": (
        instruction(HARD),
        r"make 94 .*\n  is sampled: .*\n  branches off 0 at (.*\n)*",
    ),
    "shared_budget": (instruction(EASY), r"make 12 .*: \S*7\S* \(\d+ sequences, \d+ tokens\)\n"),
    "streaming": (instruction(EASY), r"(.*\n)*.*■ 1:.*</think>.*\n\d+ tokens, 0 sequences run.*\n"),
    "tools": (instruction(EASY), r"1:.*=12~12=00 ok</think>.*\n"),
    "vote": (instruction(EASY), r"make 12 from 07 05: \S*7\S*\n"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_answers_a_question(
    name: str,
    server_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    question, printed = COMMANDS[name]
    words = [f"{name}.py", question, "--server", server_url, "--api-key", API_KEY]
    monkeypatch.setattr(sys, "argv", words)
    importlib.import_module(f"programs.{name}").main()
    assert re.fullmatch(printed, capsys.readouterr().out)


def test_the_state_ends_with_the_answer_that_was_verified(endpoint: TokenEndpoint) -> None:
    reasoning = method(stop=endpoint.encode(CLOSING))
    verify = partial(is_correct, FEASIBLE)
    state = fork_and_verify.run(messages(FEASIBLE), reasoning, verify, backend=endpoint)
    assert is_correct(FEASIBLE, state.ret_value)
    assert state.text().count(CLOSING) == 1
    assert state.text().endswith(CLOSING + state.ret_value)


def test_every_answer_of_every_try_is_verified_before_none_is_returned(
    endpoint: TokenEndpoint,
) -> None:
    seen: list[str] = []
    state = fork_and_verify.run(
        messages(HARD), method(stop=endpoint.encode(CLOSING)), seen.append, 3, backend=endpoint
    )
    assert (state.ret_value, state.text()) == (None, "")
    assert 3 < len(seen) <= 3 * 8
    assert len(set(seen)) > 3
    assert not any(CLOSING in answer for answer in seen)


def test_a_vote_leaves_the_state_behind_a_winning_sequence(endpoint: TokenEndpoint) -> None:
    state = vote.run(prompt=messages(EASY), method=method(), extract=parse_answer, backend=endpoint)
    result, winner = state.ret_value, state["answer"]
    assert parse_answer(state.text()) == winner
    assert state.text() in {sequence.text for sequence in result.sequences}


def test_a_vote_is_a_step_of_a_longer_program(endpoint: TokenEndpoint) -> None:
    @sgl.function  # type: ignore[untyped-decorator]
    def explain(s: ProgramState) -> Any:
        decided = vote.run(
            prompt=messages(EASY), method=method(), extract=parse_answer, backend=endpoint
        )
        s += decided.text() + "\n"
        s += sgl.gen("more", max_tokens=3)
        return decided["answer"]

    state = explain.run(backend=endpoint)
    assert state.get_meta_info("more")["completion_tokens"] >= 1
    assert f"{state.ret_value}\n" in state.text()


@pytest.mark.parametrize("kind", [TrieParallel, BestFirst])
def test_prompts_that_share_tokens_leave_them_to_uncertain_votes(client: Client, kind: Any) -> None:
    problems = [EASY, Problem((9, 3), 12, level=1), SECOND, HARD]
    prompts = [messages(problem) for problem in problems]
    config = SearchConfig(max_sequences=12, width=4, sampling=SamplingConfig(max_new_tokens=256))
    results = answer_together(prompts, kind(config), parse_answer, tokens=250, client=client)
    generated = [result.counts.generated for result in results]
    assert generated[-1] > 2 * sum(generated[:-1])
    # A last round of four sequences may exceed the total.
    assert sum(generated) <= 250 * 4 + 4 * 256


def test_a_priority_values_what_is_opened(client: Client) -> None:
    config = SearchConfig(max_sequences=6, width=1, sampling=SamplingConfig(max_new_tokens=256))
    result = client.generate(messages(HARD), BestFirst(config, priority=TIES))
    assert len(result.branch_points) == 5
    for point in result.branch_points:
        taken, untried = point.probabilities
        value = np.log(untried / taken) - point.position / TIES.scale
        assert point.priority == pytest.approx(value, abs=1e-4)


def test_every_turn_of_a_chat_continues_from_cached_tokens(endpoint: TokenEndpoint) -> None:
    turn = next_turn(endpoint, instruction(SECOND))
    written = f"<|end|><|user|>{instruction(SECOND)}<|assistant|><think>"
    assert turn == endpoint.encode(written)
    questions = [instruction(EASY), instruction(SECOND)]
    state = chat.run(endpoint, questions, method(threshold=0.2), parse_answer, backend=endpoint)
    first, second = state.ret_value
    assert second.prompt_ids[: len(first.prompt_ids)] == first.prompt_ids
    assert second.prompt_ids[-len(turn) :] == turn
    chosen = second.prompt_ids[len(first.prompt_ids) : -len(turn)]
    assert chosen in {sequence.open_token_ids for sequence in first.sequences}
    assert is_correct(EASY, state["answers"][0])
    assert_cached_but(len(turn), second)
    tokens = endpoint.token_ids(state)
    assert tokens[: len(second.prompt_ids)] == second.prompt_ids
    assert tokens[len(second.prompt_ids) :] in {s.open_token_ids for s in second.sequences}


def test_an_agent_executes_the_call_of_each_majority_once(endpoint: TokenEndpoint) -> None:
    history: list[tuple[str, tuple[str, ...]]] = []

    def parse(text: str) -> tuple[str, ...]:
        history.append(("vote", parse_operation(text)))
        return history[-1][1]

    def tool(*call: str) -> str:
        history.append(("call", call))
        return calculate(*call)

    stop = endpoint.encode("=")
    state = agent.run(messages(HARD), method(stop), parse, tool, backend=endpoint)
    steps, calls = state.ret_value, [call for kind, call in history if kind == "call"]
    assert len(steps) == len(calls) + 1 >= 5, "three operations, their distance, and the answer"
    entries = iter(history)
    for number, step in enumerate(steps):
        votes = Counter(call for _, call in (next(entries) for _ in step.sequences))
        winner = next(entries, ("call", ()))[1]
        assert votes[winner] == max(votes.values())
        if number:
            assert_cached_but(len(calculate(*calls[number - 1])), step)
    assert max(len(step.sequences) for step in steps) > 1
    text = state.text()
    written = re.findall(r"(\d+)([-+*/~])(\d+)(?==)", text.partition("</think>")[0])
    assert written == calls
    assert all("".join(call) + calculate(*call) in text for call in calls)


def test_the_reward_picks_the_first_of_the_best(client: Client) -> None:
    seen: list[Any] = []

    def reward(sequence: Any) -> float:
        seen.append(sequence)
        return closeness(sequence)

    search = BestFirst(SearchConfig(max_sequences=8, sampling=SamplingConfig(max_new_tokens=256)))
    best, value, result = best_of_n(client, messages(HARD), search, reward)
    assert tuple(seen) == result.sequences
    assert value == max(map(closeness, seen))
    assert best is next(s for s in seen if closeness(s) == value)
    assert len({closeness(sequence) for sequence in seen}) > 1


def test_sequences_are_drawn_while_they_grow(client: Client) -> None:
    frames: list[list[str]] = []
    with client.stream(messages(HARD), method(), interval=4) as stream:
        result = watch(stream, lambda lines: frames.append(list(lines)))
    *lines, cost = frames[-1]
    assert sorted(line[2:] for line in lines) == sorted(s.text for s in result.sequences)
    assert all(line[0] == "■" for line in lines)
    assert cost == f"{result.counts.generated} tokens, 0 sequences running"
    final = lines[0][2:]
    shown = {frame[0][2:] for frame in frames}
    assert len([text for text in shown if text and text != final and final.startswith(text)]) > 3
    numbers = [int(frame[-1].split()[0]) for frame in frames]
    assert numbers == sorted(numbers)
