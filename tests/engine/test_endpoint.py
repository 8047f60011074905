"""A token endpoint over real HTTP: answers of another shape, and invalid arguments of users."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import sglang as sgl
from sglang.lang.interpreter import ProgramState

from eager_sgl import (
    BestFirst,
    EagerConfig,
    EagerInit,
    FullParallel,
    SamplingConfig,
    SearchConfig,
    connect,
    set_prompt,
)
from eager_sgl.core import PromptResult
from eager_sgl.engine import limits, probe
from eager_sgl.engine.addresses import API_KEY_VARIABLE
from eager_sgl.engine.client import TokenClient
from eager_sgl.engine.frontend.endpoint import TokenEndpoint
from eager_sgl.engine.limits import Patience
from eager_sgl.engine.loop import run
from eager_sgl.engine.probe import ServerProfile
from eager_sgl.engine.protocol import Json
from eager_sgl.engine.transport import Transport
from eager_sgl.errors import (
    AuthenticationError,
    EagerError,
    MalformedAnswerError,
    RequestRejectedError,
    ServerError,
    ServerUnreachableError,
    ServerUnsuitableError,
)
from tests.fakes.endpoint import endpoint_of, resume_method, run_method
from tests.fakes.http_server import Spoil, hanging, scripted_sglang, serving
from tests.fakes.scripted import EOS, NUM_IDS, VOCABULARY, ScriptedServer, mixed_distribution

SAMPLING = SamplingConfig(max_new_tokens=6)
EAGER = EagerConfig(threshold=1.0, sampling=SAMPLING)


def run_parallel(
    endpoint: TokenEndpoint,
    num: float = 2,
    prompt: Any = (9,),
    sampling: SamplingConfig = SAMPLING,
) -> PromptResult:
    method = FullParallel(sampling, num)  # type: ignore[arg-type]
    return run_method(method, endpoint, prompt)


def run_config(
    endpoint: TokenEndpoint, config: EagerConfig | SearchConfig, prompt: Any = (9,)
) -> PromptResult:
    method = EagerInit(config) if isinstance(config, EagerConfig) else BestFirst(config)
    return run_method(method, endpoint, prompt)


# Answers of another shape

WRONG: dict[str, list[str]] = json.loads(Path(__file__).with_name("wrong_answers.json").read_text())


def wrong_answers(route: str) -> list[str]:
    return [*WRONG["any route"], *WRONG[route]]


@pytest.mark.parametrize(
    ("route", "value"),
    [
        (route, value)
        for route in ("/model_info", "/server_info", "/v1/models", "/tokenize", "/generate")
        for value in wrong_answers(route)
    ],
)
def test_an_answer_of_another_shape_is_reported_when_connecting(
    scripted: ScriptedServer, route: str, value: str
) -> None:
    unsuitable = pytest.raises(ServerUnsuitableError, match=f"not as an SGLang server.*{route}")
    with scripted_sglang(scripted, spoiling(route, value)) as url, unsuitable:
        connect(url)


def spoiling(route: str, value: str) -> Spoil:
    return lambda path, data: value.encode() if path == route else None


@sgl.function  # type: ignore[untyped-decorator]
def talk(s: ProgramState) -> None:
    set_prompt(s, (9,))
    s += sgl.gen("a", max_tokens=3)


def raise_error(state: ProgramState) -> None:
    if error := state.error():
        raise error


FULLY_TESTED = ("encode", "decode", "chunks", "gen")
USES: dict[str, dict[str, Callable[[TokenEndpoint], object]]] = {
    "/tokenize": {
        "encode": lambda e: e.encode("text"),
        "messages": lambda e: e.encode([{"role": "user", "content": "x"}]),
        "marker": lambda e: run(e.client.marker("</think>")),
    },
    "/detokenize": {"decode": lambda e: e.decode([[1]])},
    "/generate": {
        "prefill": lambda e: run(e.client.prefill((9,))),
        "stop token": lambda e: run(e.client.is_stop_token(3)),
        "gen": lambda e: raise_error(talk.run(backend=e)),
        "parallel": lambda e: run_parallel(e, num=1),
        "chunks": lambda e: run_config(e, EAGER),
        "search": lambda e: run_config(e, SearchConfig(max_sequences=3, sampling=SAMPLING)),
    },
}


@pytest.mark.parametrize(
    ("route", "use", "value"),
    [
        (route, use, value)
        for route, uses in USES.items()
        for use in uses
        for value in (wrong_answers(route) if use in FULLY_TESTED else WRONG["any route"][:3])
    ],
)
def test_an_answer_of_another_shape_is_reported_later(
    scripted: ScriptedServer, route: str, use: str, value: str
) -> None:
    profile = endpoint_of(scripted).profile
    with scripted_sglang(scripted, spoiling(route, value)) as url:
        endpoint = TokenEndpoint(TokenClient(Transport(url), profile))
        with pytest.raises(MalformedAnswerError, match=f"{route} is not an SGLang.*tried 7 times"):
            USES[route][use](endpoint)


@pytest.mark.parametrize("use", USES["/generate"])
def test_one_wrong_answer_in_three_changes_nothing(scripted: ScriptedServer, use: str) -> None:
    answers: Counter[str] = Counter()

    def spoil(path: str, data: bytes) -> bytes | None:
        answers[path] += 1
        return b"[]" if answers[path] % 3 == 1 else None

    with scripted_sglang(scripted, spoil) as url:
        USES["/generate"][use](connect(url))


# Selecting

Reply = tuple[int | None, str]


def scored(*logprobs: float) -> Reply:
    rows = [[logprob, 7, "a"] for logprob in logprobs]
    meta: Json = {"prompt_tokens": 3, "finish_reason": {"type": "length"}}
    meta |= {"input_token_logprobs": rows, "output_token_logprobs": []}
    return 200, json.dumps({"meta_info": meta})


LOST_SCORES: dict[str, Reply] = {
    "a fault of the server": (500, "{}"),
    "no body": (None, ""),
    "another shape": (200, "[]"),
    "no logprobs": (200, '{"meta_info": {"prompt_tokens": 3, "finish_reason": null}}'),
}


def select(url: str) -> object:
    @sgl.function  # type: ignore[untyped-decorator]
    def program(s: ProgramState) -> Any:
        s += "one"
        s += sgl.gen("a", choices=["b", "c"])
        return s["a"]

    profile = ServerProfile("m", "0", 99, 1, "tempered", 10)
    endpoint = TokenEndpoint(TokenClient(Transport(url), profile))
    return program.run(backend=endpoint).ret_value


@pytest.mark.parametrize("fault", LOST_SCORES)
def test_a_lost_request_of_a_select_is_repeated(fault: str) -> None:
    tokens: Reply = (200, '{"tokens": [1, 2]}')
    lost = LOST_SCORES[fault]
    replies = [tokens, scored(-1.0), lost, scored(-1.0, -2.0), lost, scored(-1.0, -0.5)]
    with serving(*replies) as (url, seen):
        assert select(url) == "c"
    sent = [request.body for request in seen if request.path == "/generate"]
    assert [body["text"] for body in sent] == ["one", *["oneb"] * 2, *["onec"] * 2]
    assert len({body["rid"] for body in sent}) == len(sent)


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        ((401, "{}"), AuthenticationError),
        ((400, '{"error": {"message": "too long"}}'), RequestRejectedError),
        ((501, "{}"), ServerError),
    ],
)
def test_a_failed_select_has_its_exception(
    reply: tuple[int | None, str], error: type[Exception]
) -> None:
    with serving((200, '{"tokens": [1, 2]}'), reply) as (url, _), pytest.raises(error):
        select(url)


# Connecting


def test_a_hanging_server_is_reported_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = Patience(limits.FIRST_CONTACT.pauses, timeout=0.1)
    monkeypatch.setattr(probe, "FIRST_CONTACT", quick)
    started = time.monotonic()
    with hanging() as url, pytest.raises(ServerUnreachableError, match=r"within 0\.1 s; tried 4"):
        connect(url)
    assert time.monotonic() - started < 5


def test_the_key_of_the_environment_is_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(probe, "FIRST_CONTACT", Patience(()))
    monkeypatch.setitem(os.environ, API_KEY_VARIABLE, "sesame")
    for given, sent in ((None, "Bearer sesame"), ("other", "Bearer other"), ("", None)):
        with serving((200, "{}")) as (url, seen), pytest.raises(ServerUnsuitableError):
            connect(url, api_key=given)
        assert {request.key for request in seen} == {sent}
    monkeypatch.delitem(os.environ, API_KEY_VARIABLE)
    with serving((200, "{}")) as (url, seen), pytest.raises(ServerUnsuitableError):
        connect(url)
    assert {request.key for request in seen} == {None}


def test_probing_the_vocabulary_does_not_reach_the_model(
    endpoint: TokenEndpoint, scripted: ScriptedServer
) -> None:
    assert endpoint.profile.vocabulary_size == NUM_IDS
    assert not any("regex" in request["sampling_params"] for request in scripted.requests)


def test_a_server_that_hides_its_vocabulary_is_refused(scripted: ScriptedServer) -> None:
    answer = scripted.answer

    def vague(path: str, body: Json | None = None) -> Json:
        if body and "ebnf" in body.get("sampling_params", ()):
            return {
                "output_ids": [1],
                "meta_info": {"finish_reason": {"type": "length"}},
            }
        return answer(path, body)

    scripted.answer = vague  # type: ignore[method-assign]
    with pytest.raises(ServerUnsuitableError, match="accepted a token that no model has"):
        endpoint_of(scripted)


def test_an_endpoint_reports_that_its_server_answers(endpoint: TokenEndpoint) -> None:
    assert endpoint.is_answering()


# Invalid arguments of users


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("", "the prompt is empty"),
        ((), "the prompt is empty"),
        ([], "the prompt is empty"),
        ("\x00", "the prompt is empty"),
        (b"abc", "decode bytes"),
        ([NUM_IDS], f"token id {NUM_IDS} at position 0"),
        ([-1], "token id -1"),
        ([True], "position 0 of the prompt is True"),
        ([1, "a"], "position 1 of the prompt is 'a'"),
        (["a", "b"], "position 0 of the prompt is 'a'"),
        ({"role": "user", "content": "x"}, "put a message into a list"),
        ([{"role": "user", "content": "x"}, 5], "holds 5 among its chat messages"),
        (None, "the prompt is None"),
        (5, "the prompt is 5"),
        (object, "the prompt is <class"),
    ],
)
def test_an_invalid_prompt_is_refused(
    endpoint: TokenEndpoint, scripted: ScriptedServer, prompt: Any, said: str
) -> None:
    scripted.requests.clear()
    with pytest.raises(ValueError, match=said):
        endpoint.encode(prompt)
    with pytest.raises(ValueError, match=said):
        run_parallel(endpoint, prompt=prompt)
    assert scripted.requests == []


@pytest.mark.parametrize("text", ["make \ud83d", "\udc00", "a\ud800b", "\ud83d\ud83d"])
def test_a_text_that_cannot_be_encoded_is_refused_and_quoted(
    scripted: ScriptedServer, text: str
) -> None:
    with scripted_sglang(scripted) as url:
        endpoint = connect(url)
        num_before = len(scripted.requests)
        uses: tuple[Callable[[], object], ...] = (
            lambda: endpoint.encode(text),
            lambda: endpoint.encode([{"role": "user", "content": text}]),
            lambda: run(endpoint.client.marker(text)),
            lambda: run_config(endpoint, EAGER, prompt=text),
        )
        for use in uses:
            with pytest.raises((EagerError, ValueError)) as caught:
                use()
            assert json.dumps(text)[1:-1] in str(caught.value)
        assert len(scripted.requests) == num_before


def program_of(**options: Any) -> Any:
    @sgl.function  # type: ignore[untyped-decorator]
    def program(s: ProgramState) -> Any:
        set_prompt(s, (9, 8, 7))
        s += sgl.gen("a", **options)

    return program


@pytest.mark.parametrize(
    "options",
    [
        {"max_tokens": -1},
        {"max_tokens": 2**40},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"top_p": 0},
        {"top_p": float("nan")},
        {"top_k": 2**31},
        {"top_k": 0},
        {"min_p": 2},
        {"frequency_penalty": 3},
        {"presence_penalty": float("nan")},
        {"stop_token_ids": [NUM_IDS]},
        {"stop_token_ids": [-1], "min_tokens": 2},
        {"return_logprob": True, "top_logprobs_num": NUM_IDS + 1},
        {"return_logprob": True, "logprob_start_len": -5},
        {"return_logprob": True, "logprob_start_len": 4},
    ],
    ids=str,
)
def test_the_parameters_of_a_gen_are_checked(
    endpoint: TokenEndpoint, scripted: ScriptedServer, options: Json
) -> None:
    num_before = len(scripted.requests)
    error = program_of(**options).run(backend=endpoint).error()
    assert isinstance(error, ValueError)
    assert any(str(name) in str(error) for name in (*options, "max_new_tokens"))
    assert len(scripted.requests) == num_before


def test_the_parameters_of_a_stream_are_checked(endpoint: TokenEndpoint) -> None:
    @sgl.function  # type: ignore[untyped-decorator]
    def program(s: ProgramState) -> Any:
        s += "text"
        s += sgl.gen("a", top_k=2**31)

    state = program.run(backend=endpoint, stream=True)
    state.sync()
    assert "top_k is 2147483648" in str(state.error())


@pytest.mark.parametrize("token_id", [NUM_IDS, -1, 2**40, True, 1.5, "1"])
def test_a_token_outside_the_vocabulary_is_not_sent(endpoint: TokenEndpoint, token_id: Any) -> None:
    with pytest.raises(ValueError, match="token"):
        run(endpoint.client.is_stop_token(token_id))


def test_no_sequences_have_no_texts(endpoint: TokenEndpoint) -> None:
    """SGLang answers with one text, not with an empty list."""
    assert endpoint.decode([]) == []


@pytest.mark.parametrize("ids", [[[NUM_IDS]], [[1], [-1]], [b"ab"], [[1.5]], [3]])
def test_only_tokens_of_the_model_are_decoded(endpoint: TokenEndpoint, ids: Any) -> None:
    with pytest.raises(ValueError, match="a sequence"):
        endpoint.decode(ids)


def test_stop_tokens_of_another_model_are_refused(endpoint: TokenEndpoint) -> None:
    wrong = SamplingConfig(max_new_tokens=6, stop_token_ids=(3, NUM_IDS))
    with pytest.raises(ValueError, match=f"token id {NUM_IDS} at position 1 of stop_token_ids"):
        run_parallel(endpoint, sampling=wrong)


@pytest.mark.parametrize("number", [0, -1, 1.5, float("nan")])
def test_an_invalid_number_of_sequences_is_refused(endpoint: TokenEndpoint, number: float) -> None:
    with pytest.raises(ValueError, match="max_sequences is"):
        run_parallel(endpoint, number)
    result = run_parallel(endpoint, 1)
    with pytest.raises(ValueError, match="num_sequences is"):
        resume_method(endpoint, (9,), result, number, SAMPLING)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="threshold is nan"):
        resume_method(endpoint, (9,), result, 1, SAMPLING, threshold=float("nan"))


class Small(ScriptedServer):
    """A model whose vocabulary ends with the tokens that it draws, EOS included."""

    def answer(self, path: str, body: Json | None = None) -> Json:
        if body and path == "/generate":
            assert body.get("top_logprobs_num", 0) <= VOCABULARY + 5
            gate = body["sampling_params"].get("custom_params", {}).get("eager", {})
            assert gate.get("top_k", 0) <= VOCABULARY + 5
            if any(int(t) >= VOCABULARY + 5 for t in body["sampling_params"].get("logit_bias", ())):
                body["sampling_params"]["logit_bias"] = {str(NUM_IDS): 0.0}
        return super().answer(path, body)


@pytest.mark.parametrize("monitor", ["chunk", "gate"])
@pytest.mark.parametrize("top_k", [11, 100, 10**9])
def test_k_above_the_vocabulary_is_the_whole_vocabulary(
    monitor: Literal["chunk", "gate"], top_k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.fakes.scripted.NUM_IDS", VOCABULARY + 5)
    server = Small(mixed_distribution(42), allows_gate=True)
    endpoint = endpoint_of(server)
    assert endpoint.profile.vocabulary_size == VOCABULARY + 5
    configs: tuple[EagerConfig | SearchConfig, ...] = (
        EagerConfig(threshold=1.0, top_k=top_k, monitor=monitor, sampling=SAMPLING),
        SearchConfig(top_k=top_k, max_sequences=4, sampling=SAMPLING),
    )
    for config in configs:
        server.restart(3)
        first = run_config(endpoint, config)
        server.restart(3)
        second = run_config(endpoint, replace(config, top_k=VOCABULARY))
        assert [s.token_ids for s in first.sequences] == [s.token_ids for s in second.sequences]
        assert any(s.token_ids[-1] == EOS or len(s.token_ids) == 6 for s in first.sequences)
