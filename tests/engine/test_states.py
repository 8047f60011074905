"""States of SGLang programs on a scripted server: whose tokens they hold, and how they fail."""

from __future__ import annotations

import subprocess
import sys

import pytest
import sglang as sgl

from eager_sgl import EagerInit, continue_from, eager_generate, set_prompt
from eager_sgl.engine.endpoint import TokenEndpoint
from eager_sgl.errors import RequestRejectedError, ServerError, ServerUnreachableError
from tests.fakes.runs import config_of

PROMPT = (7, 8, 9)


@pytest.fixture
def endpoint(scripted):
    return TokenEndpoint(scripted)


def requests_of(scripted, num_tokens):
    """The tokens sent in requests for so many."""
    return [
        request["input_ids"]
        for request in scripted.requests
        if request["sampling_params"]["max_new_tokens"] == num_tokens
    ]


def fail_requests_for(scripted, num_tokens, error):
    """Make the server fail for requests for so many tokens."""
    answer = scripted.answer

    def failing(path, body=None):
        if path == "/generate" and body["sampling_params"]["max_new_tokens"] == num_tokens:
            raise error
        return answer(path, body)

    scripted.answer = failing


@pytest.mark.parametrize("num_joins", [1, 2])
@pytest.mark.parametrize("num_forks", [1, 2, 3])
def test_what_a_join_gathers_is_no_token_of_the_state(scripted, endpoint, num_forks, num_joins):
    @sgl.function
    def program(s):
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


def test_a_fork_of_a_fork_takes_its_tokens_along(scripted, endpoint):
    @sgl.function
    def program(s):
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


def test_a_sequence_follows_what_the_program_has_just_appended(scripted, endpoint):
    @sgl.function
    def program(s):
        set_prompt(s, PROMPT)
        sequence = eager_generate(s, EagerInit(config_of())).sequences[0]
        s += "text"
        continue_from(s, sequence)
        kept = sequence.token_ids[: -1 if sequence.finish_reason == "stop" else None]
        return endpoint.token_ids(s), (*PROMPT, *scripted.prompt, *kept)

    held, expected = program.run(backend=endpoint).ret_value
    assert held == expected


@pytest.mark.parametrize("num", [2, 3, 7])
def test_several_texts_are_a_list_and_the_first_goes_on(scripted, endpoint, num):
    @sgl.function
    def program(s):
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
def test_a_wrong_number_of_texts_reaches_the_program(endpoint, num):
    @sgl.function
    def program(s):
        set_prompt(s, PROMPT)
        s += sgl.gen("a", max_tokens=4, n=num)
        return s["a"]

    with pytest.raises(ValueError, match=f"n of sgl.gen is {num!r}"):
        program.run(backend=endpoint)


def test_several_texts_cannot_be_streamed(endpoint):
    @sgl.function
    def program(s):
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
def test_the_error_of_a_gen_is_raised_where_its_text_is_wanted(scripted, endpoint, error):
    fail_requests_for(scripted, 4, error)

    @sgl.function
    def program(s):
        set_prompt(s, PROMPT)
        s += sgl.gen("a", max_tokens=4)
        return s["a"]

    with pytest.raises(type(error), match=str(error)):
        program.run(backend=endpoint)


@pytest.mark.parametrize("error", ERRORS)
def test_the_error_of_a_gen_is_raised_where_anything_is_appended(scripted, endpoint, error):
    """SGLang would take it, and wait for ever for what comes of it."""
    fail_requests_for(scripted, 4, error)

    @sgl.function
    def program(s):
        set_prompt(s, PROMPT)
        s += sgl.gen("a", max_tokens=4)
        s.sync()
        s += sgl.gen("b", max_tokens=1)
        return s["b"]

    with pytest.raises(type(error), match=str(error)):
        program.run(backend=endpoint)


def test_a_program_that_wants_nothing_of_a_failed_gen_finds_the_error_on_its_state(
    scripted, endpoint
):
    fail_requests_for(scripted, 4, ServerUnreachableError("gone"))

    @sgl.function
    def program(s):
        set_prompt(s, PROMPT)
        s += sgl.gen("a", max_tokens=4)

    state = program.run(backend=endpoint)
    assert isinstance(state.error(), ServerUnreachableError)
    with pytest.raises(ServerUnreachableError, match="gone"):
        state["a"]


@pytest.mark.parametrize("mode", ["gather_variable", "concate_and_append"])
def test_the_error_of_a_fork_is_raised_by_join(scripted, endpoint, mode):
    """SGLang would gather the texts of the others, as if they were all."""
    fail_requests_for(scripted, 4, ServerUnreachableError("gone"))

    @sgl.function
    def program(s):
        set_prompt(s, PROMPT)
        forks = s.fork(3)
        for index, fork in enumerate(forks.states):
            fork += sgl.gen("a", max_tokens=4 if index == 1 else 3)
        forks.join(mode)

    with pytest.raises(ServerUnreachableError, match="gone"):
        program.run(backend=endpoint)


def test_the_error_of_a_fork_that_the_program_has_seen_is_not_raised_again(scripted, endpoint):
    fail_requests_for(scripted, 4, ServerUnreachableError("gone"))

    @sgl.function
    def program(s):
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
def test_forks_of_a_failed_state_fail_alike(scripted, endpoint, num_forks):
    fail_requests_for(scripted, 4, ServerUnreachableError("gone"))

    @sgl.function
    def program(s):
        set_prompt(s, PROMPT)
        s += sgl.gen("a", max_tokens=4)
        s.sync()
        forks = s.fork(num_forks)
        forks += sgl.gen("b", max_tokens=1)
        return [fork["b"] for fork in forks.states]

    with pytest.raises(ServerUnreachableError, match="gone"):
        program.run(backend=endpoint)


def test_a_request_that_the_server_aborted_is_no_text(scripted, endpoint):
    answer = scripted.answer

    def aborted(path, body=None):
        done = answer(path, body)
        if path == "/generate":
            done["meta_info"]["finish_reason"] = {"type": "abort", "message": "out of memory"}
        return done

    scripted.answer = aborted

    @sgl.function
    def program(s):
        set_prompt(s, PROMPT)
        s += sgl.gen("a", max_tokens=4)
        return s["a"]

    with pytest.raises(ServerError, match="out of memory"):
        program.run(backend=endpoint)


FAILING_PROGRAM = """
import sglang as sgl
from eager_sgl.engine.endpoint import TokenEndpoint
from tests.fakes.scripted import ScriptedServer, mixed_distribution

@sgl.function
def program(s):
    s += "text"
    forks = s.fork(3)
    raise ValueError("between a fork and its join")

program.run(backend=TokenEndpoint(ScriptedServer(mixed_distribution(42))))
"""


def test_a_process_ends_though_a_failed_program_has_left_its_forks():
    """Their threads wait for more to do, and Python for them."""
    command = [sys.executable, "-c", FAILING_PROGRAM]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 1
    assert "between a fork and its join" in ended.stderr
