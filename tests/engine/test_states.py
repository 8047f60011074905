"""States of SGLang programs on a scripted server: their tokens and their errors."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
from typing import Any

import pytest
import sglang as sgl
from sglang.lang.interpreter import ProgramState

from eager_sgl import EagerInit, continue_from, eager_generate, set_prompt
from eager_sgl.config import EagerConfig, SamplingConfig
from eager_sgl.engine.frontend.endpoint import TokenEndpoint
from eager_sgl.engine.protocol import Json
from eager_sgl.errors import RequestRejectedError, ServerError, ServerUnreachableError
from tests.fakes.scripted import ScriptedServer

PROMPT = (7, 8, 9)
CONFIG = EagerConfig(threshold=1.0, sampling=SamplingConfig(max_new_tokens=6))


def requests_of(scripted: ScriptedServer, num_tokens: int) -> list[list[int]]:
    """The tokens sent in requests for a number of tokens."""
    return [
        request["input_ids"]
        for request in scripted.requests
        if request["sampling_params"]["max_new_tokens"] == num_tokens
    ]


def fail_requests_for(scripted: ScriptedServer, num_tokens: int, error: Exception) -> None:
    """Make requests for a number of tokens fail."""
    answer = scripted.answer

    def failing(path: str, body: Json | None = None) -> Json:
        if body and body.get("sampling_params", {}).get("max_new_tokens") == num_tokens:
            raise error
        return answer(path, body)

    scripted.answer = failing  # type: ignore[method-assign]


@pytest.mark.parametrize("num_joins", [1, 2])
@pytest.mark.parametrize("num_forks", [1, 2, 3])
def test_a_join_adds_no_tokens_to_the_state(
    scripted: ScriptedServer, endpoint: TokenEndpoint, num_forks: int, num_joins: int
) -> None:
    @sgl.function  # type: ignore[untyped-decorator]
    def program(s: ProgramState) -> Any:
        s += "text"
        for _ in range(num_joins):
            forks = s.fork(num_forks)
            forks += sgl.gen("a", max_tokens=3)
            forks.join()
        s += sgl.gen("b", max_tokens=5)
        return s["a"], s["b"]

    gathered, _ = program.run(backend=endpoint).ret_value
    assert len(gathered) == num_forks
    assert requests_of(scripted, 5) == [list(scripted.prompt)]


def test_a_fork_of_a_fork_has_the_tokens_of_both(
    scripted: ScriptedServer, endpoint: TokenEndpoint
) -> None:
    @sgl.function  # type: ignore[untyped-decorator]
    def program(s: ProgramState) -> Any:
        set_prompt(s, PROMPT)
        (fork,) = s.fork(1).states
        fork += sgl.gen("a", max_tokens=2, ignore_eos=True)
        (inner,) = fork.fork(1).states
        inner += sgl.gen("b", max_tokens=3, ignore_eos=True)
        inner.sync()
        return endpoint.token_ids(s), endpoint.token_ids(fork), endpoint.token_ids(inner)

    whole, of_fork, of_inner = program.run(backend=endpoint).ret_value
    assert whole == PROMPT
    assert len(of_fork) == len(PROMPT) + 2
    assert len(of_inner) == len(of_fork) + 3
    assert of_fork[: len(PROMPT)] == PROMPT
    assert of_inner[: len(of_fork)] == of_fork


def test_a_sequence_follows_text_that_the_program_has_just_appended(
    scripted: ScriptedServer, endpoint: TokenEndpoint
) -> None:
    @sgl.function  # type: ignore[untyped-decorator]
    def program(s: ProgramState) -> Any:
        set_prompt(s, PROMPT)
        sequence = eager_generate(s, EagerInit(CONFIG)).sequences[0]
        s += "text"
        continue_from(s, sequence)
        kept = sequence.token_ids[: -1 if sequence.finish_reason == "stop" else None]
        return endpoint.token_ids(s), (*PROMPT, *scripted.prompt, *kept)

    held, expected = program.run(backend=endpoint).ret_value
    assert held == expected


@pytest.mark.parametrize("num", [2, 3, 7])
def test_several_texts_are_a_list_and_the_state_continues_from_the_first(
    scripted: ScriptedServer, endpoint: TokenEndpoint, num: int
) -> None:
    @sgl.function  # type: ignore[untyped-decorator]
    def program(s: ProgramState) -> Any:
        set_prompt(s, PROMPT)
        s += sgl.gen("a", max_tokens=4, n=num, ignore_eos=True)
        assert len(s["a"]) == len(s.get_meta_info("a")) == num
        s += sgl.gen("b", max_tokens=5)
        return s["b"]

    program.run(backend=endpoint)
    drawn = [tuple(r["output_ids"]) for r in scripted.requests if len(r["output_ids"]) == 4]
    assert requests_of(scripted, 4) == [list(PROMPT)] * num
    (followed,) = requests_of(scripted, 5)
    assert tuple(followed[: len(PROMPT)]) == PROMPT
    assert tuple(followed[len(PROMPT) :]) in drawn
    assert all(r["sampling_params"].get("n", 1) == 1 for r in scripted.requests)


WRONG_NUMBERS = [0, -1, 2.0, "3", True]


@pytest.mark.parametrize("num", WRONG_NUMBERS)
def test_a_wrong_number_of_texts_is_an_error_of_the_program(
    endpoint: TokenEndpoint, num: object
) -> None:
    @sgl.function  # type: ignore[untyped-decorator]
    def program(s: ProgramState) -> Any:
        set_prompt(s, PROMPT)
        s += sgl.gen("a", max_tokens=4, n=num)
        return s["a"]

    with pytest.raises(ValueError, match=f"n of sgl.gen is {num!r}"):
        program.run(backend=endpoint)


def test_several_texts_cannot_be_streamed(endpoint: TokenEndpoint) -> None:
    @sgl.function  # type: ignore[untyped-decorator]
    def program(s: ProgramState) -> Any:
        s += "text"
        s += sgl.gen("a", max_tokens=4, n=3)

    state = program.run(backend=endpoint, stream=True)
    assert list(state.text_iter()) == ["text"]
    assert "n of sgl.gen is 3; in a stream it can only be 1" in str(state.error())


ERRORS = [
    ValueError("a wrong value"),
    RequestRejectedError("refused"),
    ServerUnreachableError("gone"),
]


@pytest.mark.parametrize("error", ERRORS)
def test_the_error_of_a_gen_is_raised_where_its_text_is_read(
    scripted: ScriptedServer, endpoint: TokenEndpoint, error: Exception
) -> None:
    fail_requests_for(scripted, 4, error)

    @sgl.function  # type: ignore[untyped-decorator]
    def program(s: ProgramState) -> Any:
        set_prompt(s, PROMPT)
        s += sgl.gen("a", max_tokens=4)
        return s["a"]

    with pytest.raises(type(error), match=str(error)):
        program.run(backend=endpoint)


@pytest.mark.parametrize("error", ERRORS)
def test_the_error_of_a_gen_is_raised_where_the_program_appends(
    scripted: ScriptedServer, endpoint: TokenEndpoint, error: Exception
) -> None:
    """SGLang would wait for ever for the results of the appended expression."""
    fail_requests_for(scripted, 4, error)

    @sgl.function  # type: ignore[untyped-decorator]
    def program(s: ProgramState) -> Any:
        set_prompt(s, PROMPT)
        s += sgl.gen("a", max_tokens=4)
        s.sync()
        s += sgl.gen("b", max_tokens=1)
        return s["b"]

    with pytest.raises(type(error), match=str(error)):
        program.run(backend=endpoint)


def test_a_program_that_reads_nothing_of_a_failed_gen_has_the_error_on_its_state(
    scripted: ScriptedServer, endpoint: TokenEndpoint
) -> None:
    fail_requests_for(scripted, 4, ServerUnreachableError("gone"))

    @sgl.function  # type: ignore[untyped-decorator]
    def program(s: ProgramState) -> Any:
        set_prompt(s, PROMPT)
        s += sgl.gen("a", max_tokens=4)

    state = program.run(backend=endpoint)
    assert isinstance(state.error(), ServerUnreachableError)
    with pytest.raises(ServerUnreachableError, match="gone"):
        state["a"]


@pytest.mark.parametrize("mode", ["gather_variable", "concate_and_append"])
def test_the_error_of_a_fork_is_raised_by_join(
    scripted: ScriptedServer, endpoint: TokenEndpoint, mode: str
) -> None:
    """SGLang would gather the texts of the other forks alone."""
    fail_requests_for(scripted, 4, ServerUnreachableError("gone"))

    @sgl.function  # type: ignore[untyped-decorator]
    def program(s: ProgramState) -> Any:
        set_prompt(s, PROMPT)
        forks = s.fork(3)
        for index, fork in enumerate(forks.states):
            fork += sgl.gen("a", max_tokens=4 if index == 1 else 3)
        forks.join(mode)

    with pytest.raises(ServerUnreachableError, match="gone"):
        program.run(backend=endpoint)


def test_an_error_of_a_fork_that_the_program_has_seen_is_not_raised_again(
    scripted: ScriptedServer, endpoint: TokenEndpoint
) -> None:
    fail_requests_for(scripted, 4, ServerUnreachableError("gone"))

    @sgl.function  # type: ignore[untyped-decorator]
    def program(s: ProgramState) -> Any:
        set_prompt(s, PROMPT)
        forks = s.fork(2)
        for fork, num_tokens in zip(forks.states, (4, 3), strict=True):
            fork += sgl.gen("a", max_tokens=num_tokens)
        with pytest.raises(ServerUnreachableError, match="gone"):
            forks[0]["a"]
        forks.join()
        return s["a"]

    assert program.run(backend=endpoint).ret_value == [""]


@pytest.mark.parametrize("num_forks", [1, 2])
def test_forks_of_a_failed_state_fail_alike(
    scripted: ScriptedServer, endpoint: TokenEndpoint, num_forks: int
) -> None:
    fail_requests_for(scripted, 4, ServerUnreachableError("gone"))

    @sgl.function  # type: ignore[untyped-decorator]
    def program(s: ProgramState) -> Any:
        set_prompt(s, PROMPT)
        s += sgl.gen("a", max_tokens=4)
        s.sync()
        forks = s.fork(num_forks)
        forks += sgl.gen("b", max_tokens=1)
        return [fork["b"] for fork in forks.states]

    with pytest.raises(ServerUnreachableError, match="gone"):
        program.run(backend=endpoint)


def test_a_deleted_fork_raises_no_error_that_the_program_has_seen(
    scripted: ScriptedServer, endpoint: TokenEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python reports errors of `__del__`, and may fail with them inside `ast.parse`."""
    unraisable: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    fail_requests_for(scripted, 4, ServerUnreachableError("gone"))

    @sgl.function  # type: ignore[untyped-decorator]
    def program(s: ProgramState) -> Any:
        set_prompt(s, PROMPT)
        s += sgl.gen("a", max_tokens=4)
        s.sync()
        forks = s.fork(2)
        forks += sgl.gen("b", max_tokens=1)
        return forks[0]["b"]

    with pytest.raises(ServerUnreachableError, match="gone"):
        program.run(backend=endpoint)
    gc.collect()
    assert not unraisable


def test_a_request_that_the_server_aborted_is_no_text(
    scripted: ScriptedServer, endpoint: TokenEndpoint
) -> None:
    answer = scripted.answer

    def aborted(path: str, body: Json | None = None) -> Json:
        reply = answer(path, body)
        if path == "/generate":
            reply["meta_info"]["finish_reason"] = {"type": "abort", "message": "out of memory"}
        return reply

    scripted.answer = aborted  # type: ignore[method-assign]

    @sgl.function  # type: ignore[untyped-decorator]
    def program(s: ProgramState) -> Any:
        set_prompt(s, PROMPT)
        s += sgl.gen("a", max_tokens=4)
        return s["a"]

    with pytest.raises(ServerError, match="out of memory"):
        program.run(backend=endpoint)


FAILING_PROGRAM = """
import sglang as sgl
from tests.fakes.endpoint import endpoint_of
from tests.fakes.scripted import ScriptedServer, mixed_distribution

@sgl.function  # type: ignore[untyped-decorator]
def program(s):
    s += "text"
    forks = s.fork(3)
    raise ValueError("between a fork and its join")

program.run(backend=endpoint_of(ScriptedServer(mixed_distribution(42))))
"""


def test_a_process_exits_after_a_program_that_failed_between_fork_and_join() -> None:
    """The forks' threads wait for expressions, and Python waits for the threads."""
    command = [sys.executable, "-c", FAILING_PROGRAM]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 1
    assert "between a fork and its join" in ended.stderr


def wait_before(scripted: ScriptedServer, events: dict[object, threading.Event]) -> None:
    """Answer requests for a number of tokens, or about a text, after an event."""
    post = scripted.post

    async def waiting(path: str, build: Any, *arguments: Any, **options: Any) -> Any:
        body = build()
        about = {body.get("sampling_params", {}).get("max_new_tokens"), body.get("prompt", "")[-4:]}
        for name in about & events.keys():
            assert await asyncio.to_thread(events[name].wait, 10)
        return await post(path, lambda: body, *arguments, **options)

    scripted.post = waiting  # type: ignore[method-assign]


@pytest.mark.parametrize("begin", ["text", "", PROMPT], ids=str)
@pytest.mark.parametrize("num", [1, 2, 3])
def test_a_state_may_generate_while_its_forks_do(
    scripted: ScriptedServer, endpoint: TokenEndpoint, begin: Any, num: int
) -> None:
    """The state first has tokens when `join` gathers those of its forks."""
    parent_has_generated, join_waits = threading.Event(), threading.Event()
    wait_before(scripted, {3: parent_has_generated, "else": join_waits})

    @sgl.function  # type: ignore[untyped-decorator]
    def program(s: ProgramState) -> Any:
        set_prompt(s, begin) if isinstance(begin, tuple) else s.__iadd__(begin)
        forks = s.fork(num)
        forks += "more" + sgl.gen("a", max_tokens=3, ignore_eos=True)
        s += "else" + sgl.gen("b", max_tokens=5, ignore_eos=True)
        sync = forks[0].stream_executor.sync

        def waiting_sync() -> None:
            join_waits.set()
            sync()

        def release_forks() -> None:
            s.sync()
            parent_has_generated.set()

        forks[0].stream_executor.sync = waiting_sync
        threading.Thread(target=release_forks).start()
        forks.join()
        assert len(s["a"]) == num
        held = endpoint.token_ids(s)
        s += sgl.gen("c", max_tokens=6)
        s.sync()
        assert requests_of(scripted, 6) == [list(held)]

    assert program.run(backend=endpoint).error() is None


@pytest.mark.parametrize("num_texts", [None, 3])
@pytest.mark.parametrize("begin", ["text", PROMPT], ids=str)
@pytest.mark.parametrize("mode", ["gather_variable", "concate_and_append"])
def test_forks_follow_joins_and_gathered_variables(
    scripted: ScriptedServer, endpoint: TokenEndpoint, mode: str, begin: Any, num_texts: int | None
) -> None:
    @sgl.function  # type: ignore[untyped-decorator]
    def program(s: ProgramState) -> None:
        set_prompt(s, begin) if isinstance(begin, tuple) else s.__iadd__(begin)
        for turn in range(3):
            outer = s.fork(2)
            outer += sgl.gen(f"a{turn}", max_tokens=2, n=num_texts)
            inner = outer[0].fork(3)
            inner += sgl.gen(f"b{turn}", max_tokens=2, n=num_texts)
            inner.join(mode)
            outer[0] += sgl.gen(f"c{turn}", max_tokens=2)
            outer.join(mode)
            outer.join(mode)
            s += sgl.gen(f"d{turn}", max_tokens=2)
            assert isinstance(s[f"d{turn}"], str)
            if mode == "gather_variable":
                assert len(s[f"a{turn}"]) == 2
                assert [len(texts) for texts in s[f"b{turn}"]] == [3]

    assert program.run(backend=endpoint).error() is None


def after_its_program(endpoint: TokenEndpoint) -> Any:
    @sgl.function  # type: ignore[untyped-decorator]
    def program(s: ProgramState) -> Any:
        s += "text"

    return program.run(backend=endpoint)


def after_a_join(endpoint: TokenEndpoint) -> Any:
    @sgl.function  # type: ignore[untyped-decorator]
    def program(s: ProgramState) -> Any:
        s += "text"
        forks = s.fork(2)
        forks += sgl.gen("a", max_tokens=2)
        forks.join()
        return forks[1]

    return program.run(backend=endpoint).ret_value


def after_its_copy(endpoint: TokenEndpoint) -> Any:
    @sgl.function  # type: ignore[untyped-decorator]
    def program(s: ProgramState) -> Any:
        s += "text"
        with s.copy() as copy:
            copy += sgl.gen("a", max_tokens=2)
        return copy

    return program.run(backend=endpoint).ret_value


USES: list[Any] = [
    lambda s: s.__iadd__("more"),
    lambda s: s.__iadd__(sgl.gen("b", max_tokens=1)),
    lambda s: s.fork(2),
    lambda s: s.user("x"),
]


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("end", [after_its_program, after_a_join, after_its_copy])
def test_a_state_that_has_ended_refuses_expressions_and_can_be_read(
    endpoint: TokenEndpoint, end: Any, use: Any
) -> None:
    """SGLang would wait for ever for the results."""
    state = end(endpoint)
    text = state.text()
    with pytest.raises(RequestRejectedError, match="the state has ended"):
        use(state)
    assert state.text() == text
    assert endpoint.token_ids(state)
