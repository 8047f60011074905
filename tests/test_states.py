"""States at the ends of sequences, chunks and appended tokens, on a scripted server."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import sglang as sgl
from sglang.lang.interpreter import ProgramState

from eager_sgl import (
    EagerInit,
    FullParallel,
    Ledger,
    SamplingConfig,
    append_tokens,
    continue_from,
    fork,
    read_chunk,
    set_prompt,
)
from eager_sgl.engine.protocol import Json
from eager_sgl.errors import MalformedAnswerError, RequestRejectedError
from tests.fakes.endpoint import endpoint_of
from tests.fakes.runs import config_of
from tests.fakes.scripted import EOS, ScriptedServer, mixed_distribution

PROMPT = (7, 8, 9)
METHOD = EagerInit(config_of())


def run(scripted: ScriptedServer, body: Any, **arguments: Any) -> Any:
    """The value of a program."""

    @sgl.function  # type: ignore[untyped-decorator]
    def program(s: ProgramState) -> Any:
        return body(s)

    return program.run(backend=endpoint_of(scripted), **arguments).ret_value


@pytest.mark.parametrize("begin", ["text", PROMPT, [{"role": "user", "content": "x"}]], ids=str)
def test_a_fork_has_a_state_at_the_end_of_every_sequence(
    scripted: ScriptedServer, begin: Any
) -> None:
    def body(s: ProgramState) -> None:
        if isinstance(begin, str):
            s += begin
        else:
            set_prompt(s, begin)
        before = endpoint_of_state(s).token_ids(s)
        states = fork(s, METHOD)
        assert len(states) == len(states.result.sequences) > 1
        for state, sequence in zip(states, states.result.sequences, strict=True):
            expected = (*before, *sequence.open_token_ids)
            assert endpoint_of_state(state).token_ids(state) == expected
            assert EOS not in expected[len(before) :]
        assert endpoint_of_state(s).token_ids(s) == before

    run(scripted, body)


def endpoint_of_state(s: ProgramState) -> Any:
    return s.stream_executor.backend


def test_a_group_of_sequences_works_as_sglangs_groups_do(scripted: ScriptedServer) -> None:
    def body(s: ProgramState) -> Any:
        set_prompt(s, PROMPT)
        states = fork(s, METHOD)
        number = len(states)
        states += lambda index: f" {index} "
        states += sgl.gen("a", max_tokens=2)
        states += [f" {index}." for index in range(number)]
        for index, state in enumerate(states):
            assert state.text().endswith(f" {index}.")
        assert states[1] is states.states[1]
        states.join()
        return s["a"], number

    gathered, number = run(scripted, body)
    assert len(gathered) == number


def test_a_member_of_a_group_can_fork_and_continue_from_a_sequence(
    scripted: ScriptedServer,
) -> None:
    def body(s: ProgramState) -> None:
        set_prompt(s, PROMPT)
        for member in fork(s, METHOD):
            before = endpoint_of_state(member).token_ids(member)
            inner = fork(member, METHOD)
            assert inner.result.prompt_ids == before
            continue_from(member, inner.result.sequences[0])
            after = endpoint_of_state(member).token_ids(member)
            assert after == (*before, *inner.result.sequences[0].open_token_ids)
            assert endpoint_of_state(inner[0]).token_ids(inner[0]) == after
            inner.join()

    run(scripted, body)


def test_a_fork_takes_the_account_and_reports_progress(scripted: ScriptedServer) -> None:
    seen: list[int] = []

    def body(s: ProgramState) -> None:
        set_prompt(s, PROMPT)
        with Ledger(3).reserve(2) as account:
            states = fork(
                s, METHOD, account=account, on_progress=lambda cost, running: seen.append(running)
            )
            assert len(states) == account.spent == 2

    run(scripted, body)
    assert seen[-1] == 0


def test_the_threads_of_a_fork_end_with_its_join(scripted: ScriptedServer) -> None:
    def body(s: ProgramState) -> None:
        set_prompt(s, PROMPT)
        before = threading.active_count()
        states = fork(s, FullParallel(SamplingConfig(max_new_tokens=3), max_sequences=32))
        assert threading.active_count() - before >= 32
        states.join()
        assert not any(state.stream_executor.worker.is_alive() for state in states)

    run(scripted, body)


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("are_raw", [False, True])
def test_a_chunk_has_the_distributions_of_the_model(temperature: float, are_raw: bool) -> None:
    scripted = ScriptedServer(mixed_distribution(42))
    scripted.logprobs_are_raw = are_raw

    def body(s: ProgramState) -> Any:
        set_prompt(s, (9,))
        s += sgl.gen("a", max_tokens=5, return_logprob=True, top_logprobs_num=3)
        return read_chunk(s, "a"), endpoint_of_state(s).token_ids(s)[1:]

    (token_ids, top), held = run(scripted, body, temperature=temperature)
    assert held == (token_ids[:-1] if token_ids[-1] == EOS else token_ids)
    assert top.token_ids.shape == top.logprobs.shape == (len(token_ids), 3)
    for step in range(len(token_ids)):
        model = np.array(scripted.distribution(token_ids[:step]))
        likely = np.argsort(-model, kind="stable")[:3]
        expected = np.log(model[likely])
        found = top.logprobs[step].astype(float) * top.temperature
        assert top.token_ids[step].tolist() == likely.tolist()
        np.testing.assert_allclose(found - found[0], expected - expected[0], atol=1e-5)


def test_the_stop_token_of_a_chunk_has_a_step() -> None:
    scripted = ScriptedServer(lambda path: (0.9, 0.07, 0.01, 0.01, 0.01))

    def body(s: ProgramState) -> Any:
        set_prompt(s, PROMPT)
        s += sgl.gen("a", max_tokens=5, temperature=0, return_logprob=True, top_logprobs_num=2)
        return read_chunk(s, "a"), endpoint_of_state(s).token_ids(s)

    (token_ids, top), held = run(scripted, body)
    assert token_ids == (EOS,)
    assert top.token_ids.tolist() == [[0, 1]]
    assert held == PROMPT


def gen(**options: Any) -> Any:
    return sgl.gen("a", max_tokens=3, **options)


LOGPROBS = {"return_logprob": True, "top_logprobs_num": 2}
UNREADABLE: dict[str, tuple[Any, str]] = {
    "no such variable": (gen(**LOGPROBS), "no variable 'b'"),
    "no logprobs": (gen(), "return_logprob=True and top_logprobs_num=20"),
    "no alternatives": (gen(return_logprob=True), "return_logprob=True and top_logprobs_num=20"),
    "several texts": (gen(n=3, **LOGPROBS), "'a' holds 3 texts.*n=1"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_a_chunk_that_cannot_be_read_is_an_error(scripted: ScriptedServer, case: str) -> None:
    expression, words = UNREADABLE[case]

    def body(s: ProgramState) -> None:
        set_prompt(s, PROMPT)
        s += expression
        read_chunk(s, "b" if "variable" in case else "a")

    with pytest.raises(ValueError, match=words):
        run(scripted, body)


def test_a_chunk_is_read_on_the_state_that_generated_it(scripted: ScriptedServer) -> None:
    def of_fork(s: ProgramState) -> None:
        set_prompt(s, PROMPT)
        s += gen(**LOGPROBS)
        read_chunk(s.fork(1)[0], "a")

    def of_join(s: ProgramState) -> None:
        set_prompt(s, PROMPT)
        forks = s.fork(2)
        forks += gen(**LOGPROBS)
        forks.join()
        read_chunk(s, "a")

    for body in (of_fork, of_join):
        with pytest.raises(ValueError, match="has not generated 'a' itself"):
            run(scripted, body)


def answering(scripted: ScriptedServer, **changes: Any) -> None:
    """Change the meta information of answers with text."""
    answer = scripted.answer

    def changed(path: str, body: Json | None = None) -> Json:
        reply = answer(path, body)
        if path == "/generate" and body and body.get("return_logprob"):
            reply["meta_info"] |= changes
        return reply

    scripted.answer = changed  # type: ignore[method-assign]


def read_changed(scripted: ScriptedServer, **changes: Any) -> None:
    """Read a chunk of an answer with other meta information."""

    def body(s: ProgramState) -> Any:
        answering(scripted, **changes)
        set_prompt(s, PROMPT)
        s += gen(ignore_eos=True, **LOGPROBS)
        read_chunk(s, "a")

    run(scripted, body)


def test_a_stop_string_may_cut_inside_a_token(scripted: ScriptedServer) -> None:
    with pytest.raises(ValueError, match="stop string 'x'.*use stop_token_ids"):
        read_changed(scripted, finish_reason={"type": "stop", "matched": "x"})


@pytest.mark.parametrize(
    "changes",
    [
        {"output_top_logprobs": [[[0.0]]]},
        {"output_top_logprobs": []},
        {"output_token_logprobs": None},
        {"output_top_logprobs": [[[-0.1, 2, None]], [[-0.1, 2, None], [-0.2, 3, None]]]},
    ],
)
def test_malformed_logprobs_are_an_error(scripted: ScriptedServer, changes: Any) -> None:
    with pytest.raises(MalformedAnswerError, match="'a'"):
        read_changed(scripted, **changes)


def test_the_error_of_a_gen_is_raised_where_its_chunk_is_read(scripted: ScriptedServer) -> None:
    def body(s: ProgramState) -> None:
        set_prompt(s, PROMPT)
        s += gen(n=0, **LOGPROBS)
        read_chunk(s, "a")

    with pytest.raises(ValueError, match="n of sgl.gen is 0"):
        run(scripted, body)


@pytest.mark.parametrize("text", [None, "two"])
def test_appended_tokens_follow_those_of_the_state(
    scripted: ScriptedServer, text: str | None
) -> None:
    def body(s: ProgramState) -> None:
        set_prompt(s, PROMPT)
        append_tokens(s, (2, 3), text)
        append_tokens(s, np.array([4]).tolist(), text)
        assert endpoint_of_state(s).token_ids(s) == (*PROMPT, 2, 3, 4)
        assert s.text() == ("2 34" if text is None else text * 2)
        append_tokens(s, ())
        assert endpoint_of_state(s).token_ids(s) == (*PROMPT, 2, 3, 4)

    run(scripted, body)


@pytest.mark.parametrize("token_ids", [(10**9,), (-1,), "text", (1.5,)])
def test_tokens_that_the_model_does_not_have_are_refused(
    scripted: ScriptedServer, token_ids: Any
) -> None:
    def body(s: ProgramState) -> None:
        set_prompt(s, PROMPT)
        append_tokens(s, token_ids)

    with pytest.raises(ValueError, match="token_ids"):
        run(scripted, body)


def test_a_state_that_has_ended_refuses_tokens(scripted: ScriptedServer) -> None:
    def body(s: ProgramState) -> None:
        set_prompt(s, PROMPT)
        states = fork(s, METHOD)
        states.join()
        append_tokens(states[0], (2,))

    with pytest.raises(RequestRejectedError, match="has ended"):
        run(scripted, body)
