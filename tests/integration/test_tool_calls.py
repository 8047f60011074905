"""Real calls of tools: a small model on the embedded runtime, OpenAI's client, and the endpoint.

The runtime listens at an address of IPv6. A test ends it, after which it is started again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from eager_sgl.server.app import create_app
from eager_sgl.server.settings import EndpointSettings
from tests.conftest import API_KEY
from tests.embedded.running import (
    assert_it_ends_with,
    assert_it_serves_at,
    ipv6_host,
    stopped,
)
from tests.fakes.waiting import wait_until
from tests.faults.servers import Server
from tests.integration.calling import CALLS, STRICT, TOOLS, make_calling_model
from tests.server.upstream import listening

pytestmark = pytest.mark.integration

MESSAGES: Any = [{"role": "user", "content": "how heavy is it?"}]
NAMED: Any = {"type": "function", "function": {"name": "count"}}
ONE, TWO = (json.loads(call) for call in CALLS)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("calling")
    options = {"tool_call_parser": "qwen25", "log_level": "debug"}
    model = make_calling_model(folder / "model")
    server = Server(folder / "runtime.log", API_KEY, ipv6_host(), model, **options)
    yield server
    server.close()


@pytest.fixture(scope="module")
def endpoint_url(server: Server) -> Iterator[str]:
    settings = EndpointSettings(servers=(server.url,), server_key=API_KEY)
    with listening(create_app(settings)) as url:
        yield url


@pytest.fixture
def client(server: Server, endpoint_url: str) -> Iterator[openai.OpenAI]:
    if server.restore():
        assert wait_until(lambda: httpx.get(f"{endpoint_url}/ready").is_success)
    with openai.OpenAI(base_url=f"{endpoint_url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def model(client: openai.OpenAI) -> str:
    return client.models.list().data[0].id


def ask(client: openai.OpenAI, model: str, **fields: Any) -> Any:
    asked: Any = {"messages": MESSAGES, "tools": TOOLS, "max_tokens": 100, "temperature": 1.0}
    return client.chat.completions.create(model=model, **asked | fields)


def calls_of(choice: Any) -> list[tuple[str, Any]]:
    assert choice.finish_reason == "tool_calls"
    calls = choice.message.tool_calls
    assert len({call.id for call in calls}) == len(calls)
    return [(call.function.name, json.loads(call.function.arguments)) for call in calls]


@pytest.mark.parametrize("n", [1, 4])
def test_a_model_calls_a_tool_of_its_own_accord(client: openai.OpenAI, model: str, n: int) -> None:
    answer = ask(client, model, n=n)
    assert [choice.index for choice in answer.choices] == list(range(n))
    for choice in answer.choices:
        ((name, arguments),) = calls_of(choice)
        assert name == "weigh"
        assert arguments in (ONE, TWO)
    assert answer.eager["method"] == "parallel"
    assert ("tools" in (answer.eager["reason"] or "")) == (n > 1)


@pytest.mark.parametrize("n", [1, 4])
@pytest.mark.parametrize("choice", ["required", NAMED], ids=["required", "named"])
def test_a_call_that_is_required_is_made_under_a_grammar(
    client: openai.OpenAI, model: str, choice: Any, n: int
) -> None:
    # SGLang 0.5.23 lets a named choice call any of the tools.
    tools = STRICT[1:] if choice is NAMED else STRICT
    answer = ask(client, model, n=n, tool_choice=choice, tools=tools)
    assert len(answer.choices) == n
    for one in answer.choices:
        for name, arguments in calls_of(one):
            assert name in (("count",) if choice is NAMED else ("weigh", "count"))
            assert arguments in (ONE, TWO)


def test_no_call_is_made_where_none_may_be(client: openai.OpenAI, model: str) -> None:
    (choice,) = ask(client, model, tool_choice="none").choices
    assert not choice.message.tool_calls
    assert "weigh" in choice.message.content


@pytest.mark.parametrize("tool_choice", ["auto", "required"])
def test_a_call_is_streamed(client: openai.OpenAI, model: str, tool_choice: str) -> None:
    names, arguments, reason = "", "", None
    tools = STRICT if tool_choice == "required" else TOOLS
    for piece in ask(client, model, tools=tools, tool_choice=tool_choice, stream=True):
        for choice in piece.choices:
            reason = choice.finish_reason or reason
            for call in choice.delta.tool_calls or ():
                names += call.function.name or ""
                arguments += call.function.arguments or ""
    assert reason == "tool_calls"
    assert names in ("weigh", "count")
    assert json.loads(arguments) in (ONE, TWO)


def test_samples_vote_on_their_calls(client: openai.OpenAI, model: str) -> None:
    eager = {"answer": "tool_call", "max_sequences": 32}
    answer = ask(client, f"{model}:vote", seed=1, extra_body={"eager": eager})
    (choice,) = answer.choices
    assert answer.eager["answer"] == '[{"arguments":{"x":1},"name":"weigh"}]'
    assert calls_of(choice) == [("weigh", ONE)]
    assert sum(answer.eager["votes"].values()) == answer.eager["sequences"] >= 4
    assert {json.loads(vote)[0]["arguments"]["x"] for vote in answer.eager["votes"]} <= {1, 2}
    tokens = answer.eager["tokens"]
    assert tokens["generated"] < tokens["naive"]  # samples share their calls' beginnings


def test_the_calls_of_a_vote_are_streamed(client: openai.OpenAI, model: str) -> None:
    eager = {"answer": "tool_call", "max_sequences": 32, "events": True}
    usage = {"include_usage": True}
    pieces = list(
        ask(
            client,
            f"{model}:vote",
            seed=1,
            stream=True,
            stream_options=usage,
            extra_body={"eager": eager},
        )
    )
    deltas = [choice.delta for piece in pieces for choice in piece.choices]
    (calls,) = [delta.tool_calls for delta in deltas if delta.tool_calls]
    assert [(call.index, call.function.name) for call in calls] == [(0, "weigh")]
    assert json.loads(calls[0].function.arguments) == ONE
    votes = [piece for piece in pieces if piece.object == "eager.vote"]
    assert votes[-1].votes == pieces[-1].eager["votes"]


def test_a_vote_under_a_grammar_is_refused_by_name(client: openai.OpenAI, model: str) -> None:
    eager = {"answer": "tool_call"}
    with pytest.raises(openai.BadRequestError, match="tool_choice"):
        ask(client, f"{model}:vote", tool_choice="required", extra_body={"eager": eager})


def test_a_runtime_at_an_address_ends_with_its_server(server: Server) -> None:
    server.restore()
    runtime = server.runtime
    assert_it_serves_at(ipv6_host(), runtime)
    assert_it_ends_with("python", "the server", runtime)
    runtime.close()
    assert "closed" in str(stopped(runtime))
