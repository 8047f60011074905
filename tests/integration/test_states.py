"""States of SGLang programs on the real runtime: forks, copies, joins, and the options of gen."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import sglang as sgl
from sglang.lang.interpreter import ProgramState

from eager_sgl import (
    EagerConfig,
    EagerInit,
    SamplingConfig,
    TokenEndpoint,
    continue_from,
    eager_generate,
    set_prompt,
)
from eager_sgl.engine.loop import run
from eager_sgl.errors import EagerError, RequestRejectedError
from evals.tasks.countdown_rules import Problem, instruction

pytestmark = pytest.mark.integration

MESSAGES = [{"role": "user", "content": instruction(Problem((7, 5), 12, 1))}]
CONFIG = EagerConfig(
    threshold=0.7, max_sequences=3, chunk_tokens=16, sampling=SamplingConfig(max_new_tokens=60)
)


def text_of(endpoint: TokenEndpoint, messages: Any = MESSAGES) -> Any:
    return endpoint.decode([endpoint.encode(messages)])[0]


def begin_with_text(s: ProgramState, endpoint: TokenEndpoint) -> Any:
    s += text_of(endpoint)


def begin_with_messages(s: ProgramState, endpoint: TokenEndpoint) -> Any:
    set_prompt(s, MESSAGES)


def begin_with_token_ids(s: ProgramState, endpoint: TokenEndpoint) -> Any:
    set_prompt(s, endpoint.encode(MESSAGES))


def begin_with_a_sequence(s: ProgramState, endpoint: TokenEndpoint) -> Any:
    set_prompt(s, MESSAGES)
    continue_from(s, eager_generate(s, EagerInit(CONFIG)).sequences[0])


def begin_with_text_and_a_sequence(s: ProgramState, endpoint: TokenEndpoint) -> Any:
    s += text_of(endpoint)
    continue_from(s, eager_generate(s, EagerInit(CONFIG)).sequences[0])


def begin_with_tokens_and_text(s: ProgramState, endpoint: TokenEndpoint) -> Any:
    set_prompt(s, MESSAGES)
    s += "12 = 7"


def begin_with_roles(s: ProgramState, endpoint: TokenEndpoint) -> Any:
    s += sgl.user(MESSAGES[0]["content"])
    s += sgl.assistant_begin()


BEGINNINGS = [
    begin_with_text,
    begin_with_roles,
    begin_with_messages,
    begin_with_token_ids,
    begin_with_a_sequence,
    begin_with_text_and_a_sequence,
    begin_with_tokens_and_text,
]


def greedy(name: str, max_tokens: int = 4, **options: Any) -> Any:
    return sgl.gen(name, max_tokens=max_tokens, temperature=0, **options)


def assert_one_uncached(state: Any, name: str, token_ids: Sequence[int]) -> Any:
    meta = state.get_meta_info(name)
    assert meta["prompt_tokens"] == len(token_ids)
    assert meta["cached_tokens"] == len(token_ids) - 1


def fork_once(s: ProgramState) -> Any:
    forks = s.fork(1)
    forks += greedy("a")
    return forks, 1


def fork_several(s: ProgramState) -> Any:
    forks = s.fork(3)
    forks += greedy("a")
    return forks, 3


def fork_forks(s: ProgramState) -> Any:
    forks = s.fork(2)
    for fork in forks.states:
        inner = fork.fork(2)
        inner += greedy("inner")
        inner.join()
        assert len(fork["inner"]) == 2
    forks += greedy("a")
    return forks, 2


def fork_with_text(s: ProgramState) -> Any:
    forks = s.fork(2)
    forks += lambda index: f"0{index}"
    forks += greedy("a")
    return forks, 2


@pytest.mark.parametrize("fork", [fork_once, fork_several, fork_forks, fork_with_text])
@pytest.mark.parametrize("begin", BEGINNINGS)
def test_a_state_continues_from_its_tokens_after_a_join(
    endpoint: TokenEndpoint, begin: Any, fork: Any
) -> None:
    @sgl.function  # type: ignore[untyped-decorator]
    def program(s: ProgramState) -> Any:
        begin(s, endpoint)
        before = endpoint.token_ids(s)
        forks, num = fork(s)
        for state in forks.states:
            assert endpoint.token_ids(state)[: len(before)] == before
        forks.join()
        assert len(s["a"]) == num
        s += greedy("b", max_tokens=1)
        assert_one_uncached(s, "b", before)
        assert endpoint.token_ids(s)[: len(before)] == before

    assert program.run(backend=endpoint).error() is None


@pytest.mark.parametrize("begin", BEGINNINGS)
def test_a_copy_leaves_the_state_as_it_was(endpoint: TokenEndpoint, begin: Any) -> None:
    @sgl.function  # type: ignore[untyped-decorator]
    def program(s: ProgramState) -> Any:
        begin(s, endpoint)
        before = endpoint.token_ids(s)
        for _ in range(2):
            with s.copy() as copy:
                copy += greedy("a")
                copy += " " + greedy("again", max_tokens=2)
        s += greedy("b", max_tokens=1)
        assert_one_uncached(s, "b", before)

    assert program.run(backend=endpoint).error() is None


@pytest.mark.parametrize("begin", BEGINNINGS)
def test_joined_texts_are_appended_after_the_tokens_of_the_state(
    endpoint: TokenEndpoint, begin: Any
) -> None:
    @sgl.function  # type: ignore[untyped-decorator]
    def program(s: ProgramState) -> Any:
        begin(s, endpoint)
        before, text = endpoint.token_ids(s), s.text()
        forks = s.fork(2)
        forks += lambda index: f"0{index} "
        forks += greedy("a")
        forks.join("concate_and_append")
        appended = f"00 {forks[0]['a']}01 {forks[1]['a']}"
        assert s.text() == text + appended
        after = endpoint.token_ids(s)
        assert after[: len(before)] == before
        assert after[len(before) :] == run(endpoint.client.encode_more(appended))
        s += greedy("b", max_tokens=1)
        assert s.get_meta_info("b")["prompt_tokens"] == len(after)

    assert program.run(backend=endpoint).error() is None


def test_forks_of_a_batch_of_programs(endpoint: TokenEndpoint) -> None:
    @sgl.function  # type: ignore[untyped-decorator]
    def program(s: ProgramState, target: Any) -> Any:
        begin = [{"role": "user", "content": f"make {target:02d} from 07 05"}]
        s += text_of(endpoint, begin)
        forks = s.fork(2)
        forks += greedy("a", max_tokens=8)
        forks.join()
        s += greedy("b", max_tokens=8)
        return s["a"], s["b"]

    states = program.run_batch([{"target": target} for target in (12, 2, 35)], backend=endpoint)
    for state in states:
        (first, second), state_value = state.ret_value
        assert first == second == state_value


@pytest.mark.parametrize("begin", BEGINNINGS)
@pytest.mark.parametrize("num", [2, 3, 5])
def test_several_texts_of_one_gen(endpoint: TokenEndpoint, begin: Any, num: int) -> None:
    @sgl.function  # type: ignore[untyped-decorator]
    def program(s: ProgramState) -> Any:
        begin(s, endpoint)
        before, text = endpoint.token_ids(s), s.text()
        s += sgl.gen("a", max_tokens=6, temperature=1.0, n=num, ignore_eos=True)
        assert [type(choice) for choice in s["a"]] == [str] * num
        for meta in s.get_meta_info("a"):
            assert meta["prompt_tokens"] == len(before)
            assert meta["cached_tokens"] == len(before) - 1
        assert s.text() == text + s["a"][0]
        after = endpoint.token_ids(s)
        assert after[: len(before)] == before
        assert len(after) == len(before) + 6
        s += greedy("b", max_tokens=1)
        assert_one_uncached(s, "b", after)

    assert program.run(backend=endpoint).error() is None


def test_several_texts_by_an_argument_of_run(endpoint: TokenEndpoint) -> None:
    @sgl.function  # type: ignore[untyped-decorator]
    def program(s: ProgramState) -> Any:
        s += text_of(endpoint) + sgl.gen("a")

    assert len(program.run(backend=endpoint, n=3, max_new_tokens=3)["a"]) == 3


JSON_SCHEMA = json.dumps({"type": "array", "items": {"type": "integer"}, "maxItems": 2})

OPTIONS: dict[str, tuple[dict[str, Any], Callable[[Any], object]]] = {
    "a stop string": ({"stop": " "}, lambda text: " " not in text),
    "stop strings": ({"stop": ["5", "7"]}, lambda text: not set(text) & {"5", "7"}),
    "a stop token": ({"stop_token_ids": [2, 3]}, lambda text: True),
    "a regular stop": ({"stop_regex": "[0-9]"}, lambda text: True),
    "a regular expression": ({"regex": "0[12] 0[34]"}, re.compile("0[12] 0[34]").fullmatch),
    "a type": ({"dtype": int}, lambda text: int(text) is not None),
    "a type and a stop string": ({"dtype": int, "stop": "5"}, lambda text: True),
    "logprobs": ({"return_logprob": True, "top_logprobs_num": 2}, lambda text: True),
    "penalties": ({"frequency_penalty": 0.5, "presence_penalty": 0.5}, lambda text: True),
    "other truncations": ({"top_k": 3, "min_p": 0.1, "top_p": 0.9}, lambda text: True),
    "at least": ({"min_tokens": 3}, lambda text: bool(text)),
}


@pytest.mark.parametrize("begin", [begin_with_text, begin_with_messages])
@pytest.mark.parametrize("option", OPTIONS)
def test_options_of_gen_leave_the_tokens_right(
    endpoint: TokenEndpoint, option: Any, begin: Any
) -> None:
    options, is_right = OPTIONS[option]

    @sgl.function  # type: ignore[untyped-decorator]
    def program(s: ProgramState) -> Any:
        begin(s, endpoint)
        before = endpoint.token_ids(s)
        s += sgl.gen("a", max_tokens=8, temperature=1.0, **options)
        assert is_right(s["a"]), s["a"]
        after = endpoint.token_ids(s)
        assert after[: len(before)] == before
        assert endpoint.decode([after[len(before) :]])[0] == s["a"]
        s += greedy("b", max_tokens=1)
        assert s.get_meta_info("b")["prompt_tokens"] == len(after)

    assert program.run(backend=endpoint).error() is None


def test_a_state_of_text_can_be_streamed_and_selected(endpoint: TokenEndpoint) -> None:
    @sgl.function  # type: ignore[untyped-decorator]
    def program(s: ProgramState) -> Any:
        s += text_of(endpoint)
        s += greedy("a", max_tokens=12)
        s += sgl.gen("b", choices=["07", "05"])
        s += greedy("c", max_tokens=3)

    streamed = program.run(backend=endpoint, stream=True)
    pieces = list(streamed.text_iter())
    assert "".join(pieces) == streamed.text()
    assert len(pieces) > 2
    assert streamed.error() is None
    assert streamed["b"] in ("07", "05")
    assert program.run(backend=endpoint).text() == streamed.text()


REFUSALS: dict[str, tuple[Any, dict[str, Any], type[Exception], str]] = {
    "n of 0": (begin_with_messages, {"n": 0}, ValueError, "n of sgl.gen is 0"),
    "n below 0": (begin_with_text, {"n": -2}, ValueError, "n of sgl.gen is -2"),
    "n that is no number": (begin_with_text, {"n": "3"}, ValueError, "n of sgl.gen is '3'"),
    "choices": (begin_with_token_ids, {"choices": ["07"]}, RequestRejectedError, "with text"),
    "a bad schema": (begin_with_messages, {"json_schema": "{"}, EagerError, "."),
    "choices beyond the context": (
        begin_with_text,
        {"choices": ["1" * 2000, "2" * 2000]},
        EagerError,
        "refused the request",
    ),
    "no temperature": (begin_with_text, {"temperature": -1.0}, ValueError, "temperature"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_the_error_of_a_gen_is_raised_where_its_text_is_read(
    endpoint: TokenEndpoint, name: str
) -> None:
    begin, options, kind, words = REFUSALS[name]

    @sgl.function  # type: ignore[untyped-decorator]
    def program(s: ProgramState) -> Any:
        begin(s, endpoint)
        s += sgl.gen("a", max_tokens=4, **options)
        return s["a"]

    with pytest.raises(kind, match=words) as caught:
        program.run(backend=endpoint)
    assert "\n" not in str(caught.value)
