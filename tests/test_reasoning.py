"""The end of the reasoning, and the text after it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from eager_sgl.config import EagerConfig, SamplingConfig
from eager_sgl.core import Generation
from eager_sgl.engine.loop import run
from eager_sgl.engine.protocol import Json
from eager_sgl.methods import EagerInit, FullParallel
from eager_sgl.reasoning import decode_all, reasoning_ends_at
from eager_sgl.tree import TokenTree
from tests.fakes.endpoint import endpoint_of, resume_method, run_method
from tests.fakes.scripted import CLOSE, ScriptedServer, mixed_distribution

SPECIAL = {90: "", 91: ""}  # decoded, they leave nothing


async def decode(sequences: Sequence[Sequence[int]]) -> list[str]:
    return ["".join(SPECIAL.get(i, chr(i)) for i in ids) for ids in sequences]


def ids(text: str) -> tuple[int, ...]:
    return tuple(map(ord, text))


@pytest.mark.parametrize(
    ("token_ids", "marker", "end"),
    [
        ((1, 2, 3), (2,), 2),
        ((2, 1, 2, 3), (2,), 1),
        ((1, 2, 2, 3, 2, 3), (2, 3), 4),
        ((2, 2, 2), (2, 2), 2),
        ((1, 2, 3, 4), (2, 3), 3),
        ((1, 2, 3), (2, 3), 3),
        ((1, 2, 3), (3, 2), None),
        ((1, 2, 3), (), None),
        ((), (2,), None),
    ],
)
def test_the_first_marker_ends_the_reasoning(
    token_ids: tuple[int, ...], marker: tuple[int, ...], end: int | None
) -> None:
    assert reasoning_ends_at(token_ids, marker) == end


def test_a_marker_of_special_tokens_is_found_without_text() -> None:
    sequence = (*ids("thought"), 90, *ids("final"), 91, *ids("answer"))
    assert run(decode_all([sequence], decode, (90, *ids("final"), 91), "<final>")) == [
        ("thoughtfinalanswer", "answer")
    ]


def test_a_marker_that_shares_a_token_with_the_answer_is_found_in_the_text() -> None:
    assert run(decode_all([ids("a</t>b")], decode, (7,), "</t>")) == [("a</t>b", "b")]


@pytest.mark.parametrize(
    ("text", "final"),
    [
        (r"r</think>so \boxed{7}.</think>", r"so \boxed{7}.</think>"),
        (r"r</think>\boxed{7} (after </think> I stop", r"\boxed{7} (after </think> I stop"),
        ("r</think>7<think>s</think>8", "7<think>s</think>8"),
        ("</think></think>7", "</think>7"),
        ("</think>", ""),
        ("r</thin>7", "r</thin>7"),
        ("r</THINK>7", "r</THINK>7"),
    ],
)
def test_reasoning_ends_where_it_first_closes(text: str, final: str) -> None:
    """The same whether the marker is found among the tokens or in the text."""
    for marker in (ids("</think>"), (7,)):
        assert run(decode_all([ids(text)], decode, marker, "</think>")) == [(text, final)]


def test_the_monitor_and_the_judge_agree_where_reasoning_ends() -> None:
    for token_ids in ([8, CLOSE, 5, CLOSE, 6], [CLOSE, CLOSE], [8, 8, CLOSE]):
        tree = TokenTree([9], max_new_tokens=10, reasoning_end=[CLOSE])
        root = tree.open_root()
        tree.append(
            root,
            Generation(tuple(token_ids), "length", prompt_tokens=1, cached_tokens=0),
            num_asked=len(token_ids),
        )
        assert root.open_until == reasoning_ends_at(token_ids, [CLOSE])


def test_without_a_marker_all_of_the_text_is_final() -> None:
    assert run(decode_all([ids("abc")], decode, (7,), "</t>")) == [("abc", "abc")]
    assert run(decode_all([ids("abc")], decode, (), "")) == [("abc", "abc")]


def test_nothing_after_the_marker_is_an_empty_text() -> None:
    assert run(decode_all([ids("a/")], decode, ids("/"), "/")) == [("a/", "")]


def test_all_sequences_are_decoded_with_one_request() -> None:
    asked = []

    async def count(sequences: Sequence[Sequence[int]]) -> list[str]:
        asked.append(sequences)
        return await decode(sequences)

    texts = run(decode_all([ids("a/b"), ids("cd"), ids("e/"), ids("f/g/h")], count, ids("/"), "/"))
    assert texts == [("a/b", "b"), ("cd", "cd"), ("e/", ""), ("f/g/h", "g/h")]
    assert len(asked) == 1


def expected(token_ids: tuple[int, ...]) -> str:
    end = reasoning_ends_at(token_ids, (CLOSE,))
    return " ".join(map(str, token_ids if end is None else token_ids[end:]))


def test_every_method_gives_final_texts(scripted: ScriptedServer) -> None:
    endpoint = endpoint_of(scripted)
    sampling = SamplingConfig(temperature=1.0, top_p=1.0, max_new_tokens=24)
    config = EagerConfig(
        threshold=0.8, top_k=5, max_sequences=6, sampling=sampling, deferred_threshold=0.4
    )
    first = run_method(EagerInit(config), endpoint)
    results = [
        first,
        run_method(FullParallel(sampling, 6), endpoint),
        resume_method(endpoint, (9,), first, num_sequences=6, sampling=sampling),
    ]
    sequences = [sequence for result in results for sequence in result.sequences]
    assert [s.final_text for s in sequences] == [expected(s.token_ids) for s in sequences]
    assert len({s.final_text == s.text for s in sequences}) == 2


def test_without_a_marker_the_final_text_is_the_whole_text(scripted: ScriptedServer) -> None:
    sampling = SamplingConfig(temperature=1.0, top_p=1.0, max_new_tokens=24)
    method = FullParallel(sampling, 6, reasoning_end=None)
    endpoint = endpoint_of(scripted)
    result = run_method(method, endpoint, (9,))
    assert all(sequence.final_text == sequence.text for sequence in result.sequences)


class Recording(ScriptedServer):
    """Records the requests to render chat messages."""

    def __init__(self) -> None:
        super().__init__(mixed_distribution(1))
        self.rendered: list[Json] = []

    def answer(self, path: str, body: Json | None = None) -> Json:
        if path == "/tokenize" and body is not None and "messages" in body:
            self.rendered.append(body)
            return {"tokens": [9]}
        return super().answer(path, body)


def test_chat_options_reach_the_template_and_nothing_else() -> None:
    server, messages = Recording(), [{"role": "user", "content": "x"}]
    options = {"reasoning_effort": "high", "chat_template_kwargs": {"enable_thinking": True}}
    endpoint = endpoint_of(server, chat_options=options)
    assert endpoint.encode(messages) == (9,)
    assert server.rendered == [{"messages": messages, **options}]
    assert endpoint.encode("text") == (9,)
    endpoint_of(server).encode(messages)
    assert server.rendered[1:] == [{"messages": messages}]
