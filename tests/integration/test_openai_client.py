"""The bundled model on SGLang's OpenAI-compatible routes, with OpenAI's client."""

from __future__ import annotations

import contextlib
from typing import Any

import openai
import pytest

from evals.tasks.countdown_rules import Problem, instruction, is_correct, parse_answer
from tests.conftest import API_KEY

pytestmark = pytest.mark.integration

EASY = Problem((7, 5), 12, level=1)
MESSAGES: Any = [{"role": "user", "content": instruction(EASY)}]
PARTS = [{"role": "user", "content": [{"type": "text", "text": instruction(EASY)}]}]


@pytest.fixture(scope="module")
def client(server_url: str) -> Any:
    return openai.OpenAI(base_url=f"{server_url}/v1", api_key=API_KEY, max_retries=0)


@pytest.fixture(scope="module")
def model(client: openai.OpenAI) -> Any:
    (only,) = client.models.list().data
    return only.id


CHATS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "greedy": {"temperature": 0},
    "a length": {"max_tokens": 100},
    "a length in new words": {"max_completion_tokens": 100},
    "a seed": {"seed": 7},
    "truncated": {"top_p": 0.9, "extra_body": {"top_k": 5, "min_p": 0.01}},
    "penalties": {"presence_penalty": 0.01, "frequency_penalty": 0.01},
    "logprobs": {"logprobs": True, "top_logprobs": 3},
    "text in parts": {"messages": PARTS, "temperature": 0},
    "a second turn": {
        "messages": [*MESSAGES, {"role": "assistant", "content": "12"}, *MESSAGES],
        "temperature": 0,
    },
    "a system's message": {
        "messages": [{"role": "system", "content": "be short"}, *MESSAGES],
        "temperature": 0,
    },
}


def is_right(text: str | None) -> bool:
    answer = parse_answer(text or "")
    return answer is not None and is_correct(EASY, answer)


@pytest.mark.parametrize("name", CHATS)
def test_a_chat_is_answered(client: openai.OpenAI, model: str, name: str) -> None:
    asked: dict[str, Any] = {"model": model, "messages": MESSAGES} | CHATS[name]
    completion = client.chat.completions.create(**asked)
    (choice,) = completion.choices
    assert choice.finish_reason == "stop"
    assert is_right(choice.message.content)
    assert completion.usage.completion_tokens > 5
    if "logprobs" in CHATS[name]:
        assert len(choice.logprobs.content) >= completion.usage.completion_tokens - 1


@pytest.mark.parametrize("num", [2, 5])
def test_a_chat_is_answered_several_times(client: openai.OpenAI, model: str, num: int) -> None:
    choices = client.chat.completions.create(model=model, messages=MESSAGES, n=num).choices
    assert [choice.index for choice in choices] == list(range(num))
    assert any(is_right(choice.message.content) for choice in choices)


@pytest.mark.parametrize("num", [1, 2])
def test_a_chat_is_streamed(client: openai.OpenAI, model: str, num: int) -> None:
    texts = [""] * num
    pieces: Any = client.chat.completions.create(
        model=model, messages=MESSAGES, n=num, temperature=0, stream=True
    )
    for choice in (choice for piece in pieces for choice in piece.choices):
        texts[choice.index] += choice.delta.content or ""
    assert all(is_right(text) for text in texts)


COMPLETIONS: dict[str, tuple[dict[str, Any], int]] = {
    "a text": ({}, 1),
    "token ids": ({"prompt": [1, 2, 8, 9]}, 1),
    "two texts": ({"prompt": ["make 12", "make 11"]}, 2),
    "two at once": ({"n": 2}, 2),
    "two of two": ({"prompt": ["make 12", "make 11"], "n": 2}, 4),
    "logprobs": ({"logprobs": 2}, 1),
    "the prompt again": ({"echo": True}, 1),
}


@pytest.mark.parametrize("name", COMPLETIONS)
def test_a_text_is_completed(client: openai.OpenAI, model: str, name: str) -> None:
    options, num = COMPLETIONS[name]
    asked: dict[str, Any] = {"model": model, "prompt": instruction(EASY), "max_tokens": 5} | options
    choices = client.completions.create(**asked).choices
    assert [choice.index for choice in choices] == list(range(num))
    assert all(choice.text for choice in choices)
    if "echo" in options:
        assert choices[0].text.startswith(instruction(EASY))


@pytest.mark.parametrize("num", [1, 2])
def test_a_completion_is_streamed(client: openai.OpenAI, model: str, num: int) -> None:
    texts = [""] * num
    pieces: Any = client.completions.create(
        model=model, prompt=instruction(EASY), n=num, max_tokens=5, stream=True
    )
    for choice in (choice for piece in pieces for choice in piece.choices):
        texts[choice.index] += choice.text
    assert all(texts)


IMPOSSIBLE: dict[str, Any] = {
    "an object": {"type": "json_object"},
    "a schema": {
        "type": "json_schema",
        "json_schema": {"name": "a", "schema": {"type": "object", "properties": {}}},
    },
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_a_form_that_the_vocabulary_cannot_write_does_not_end_the_server(
    client: openai.OpenAI, model: str, name: str
) -> None:
    """It has no brace: no token is allowed, and nothing can be sampled."""
    with contextlib.suppress(openai.APIStatusError):
        client.chat.completions.create(
            model=model, messages=MESSAGES, response_format=IMPOSSIBLE[name], max_tokens=20
        )
    test_a_chat_is_answered(client, model, "greedy")
