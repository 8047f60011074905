"""Reasoning and the rest, however the text is cut into pieces."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eager_sgl.engine.protocol import Json
from eager_sgl.server.answers import ReasoningSplit
from eager_sgl.server.facts import ALWAYS_REASONING, THINK_PARSERS
from tests.fakes.scripted import CLOSE, EOS, VOCABULARY, ScriptedServer
from tests.server.upstream import MODEL
from tests.server.votes import CHAT, deltas_of, post


def split(pieces: list[str], *, is_open: bool) -> tuple[str, str]:
    """The parts of a text that arrives in pieces."""
    splitter = ReasoningSplit(is_open)
    parts = [splitter.add(piece, is_last=False) for piece in pieces]
    parts.append(splitter.add("", is_last=True))
    reasoning, rest = ("".join(part) for part in zip(*parts, strict=True))
    return reasoning, rest


@pytest.mark.parametrize(
    ("text", "is_open", "expected"),
    [
        ("<think>a</think>b", False, ("a", "b")),
        ("a</think>b", True, ("a", "b")),
        ("<think>a</think>b", True, ("a", "b")),
        ("a</think>b", False, ("", "a</think>b")),
        ("<think>a", False, ("a", "")),
        ("a</thin", True, ("a</thin", "")),
        ("a</think>b</think>c", True, ("a", "b</think>c")),
        ("<thin", False, ("", "<thin")),
        ("", True, ("", "")),
    ],
)
def test_the_parts_of_a_whole_text(text: str, is_open: bool, expected: tuple[str, str]) -> None:
    assert ReasoningSplit(is_open).add(text, is_last=True) == expected


TEXTS = st.lists(st.sampled_from(["<think>", "</think>", "<", "</th", "ink>", "a", "ß", "\n"]))


@given(TEXTS, st.lists(st.integers(0, 40)), st.booleans())
def test_pieces_give_the_parts_of_the_whole(
    words: list[str], cuts: list[int], is_open: bool
) -> None:
    text = "".join(words)
    ends = sorted({0, *(cut for cut in cuts if cut < len(text)), len(text)})
    pieces = [text[start:end] for start, end in itertools.pairwise(ends)]
    assert split(pieces, is_open=is_open) == ReasoningSplit(is_open).add(text, is_last=True)


def test_the_parsers_are_all_of_sglang_that_split_in_this_way() -> None:
    from sglang.srt.parser.reasoning_parser import ReasoningParser

    kinds = ReasoningParser.DetectorMap
    known = {kinds[name] for name in THINK_PARSERS}
    assert {name for name, kind in kinds.items() if kind in known} == THINK_PARSERS
    for name in THINK_PARSERS:
        for text in ("<think>a</think>b", "a</think>b", "<think>a", "a", ""):
            expected = ReasoningParser(name).parse_non_stream(text)
            assert split([text], is_open=name in ALWAYS_REASONING) == expected, (name, text)


PATH = (2, CLOSE, 3, EOS)


class Thinking(ScriptedServer):
    """A model that says 2, closes its reasoning, and says 3."""

    def __init__(self) -> None:
        super().__init__(self._next)

    @staticmethod
    def _next(path: tuple[int, ...]) -> tuple[float, ...]:
        token = PATH[len(path)] if path == PATH[: len(path)] and len(path) < len(PATH) else EOS
        rare = 1e-9
        rest = 1 - (VOCABULARY - 1) * rare
        return tuple(rest if token == other else rare for other in range(VOCABULARY))

    def answer(self, path: str, body: Json | None = None) -> Json:
        answer = super().answer(path, body)
        if path == "/detokenize":
            answer["text"] = [text.replace(str(CLOSE), "</think>") for text in answer["text"]]
        return answer | {"reasoning_parser": "qwen3"} if path == "/model_info" else answer


@pytest.mark.parametrize(
    ("last", "is_open"),
    [
        ("<think>\nLet me", True),
        ("<think>one</think>two", False),
        ("two", False),
        (None, False),
    ],
)
def test_an_answer_continues_the_reasoning_of_its_last_message(
    last: str | None, is_open: bool
) -> None:
    """As SGLang's own parser has it, which is given that message."""
    from sglang.srt.entrypoints.openai.protocol import ChatCompletionRequest
    from sglang.srt.parser.reasoning_parser import ReasoningParser

    fields: Json = CHAT | {"model": f"{MODEL}:trie_parallel", "n": 2}
    if last is not None:
        messages = [*CHAT["messages"], {"role": "assistant", "content": last}]
        fields |= {"messages": messages, "continue_final_message": True}
    request = ChatCompletionRequest(**fields)
    assert ReasoningParser("qwen3", request=request).detector._in_reasoning == is_open
    for choice in post(0.0, fields, Thinking()).json()["choices"]:
        message = choice["message"]
        content = message["content"].removesuffix(str(EOS)).split()
        assert content == (["3"] if is_open else ["2", "</think>", "3"])
        assert (message["reasoning_content"] or "").split() == (["2"] if is_open else [])
    deltas = deltas_of(post(0.0, fields | {"stream": True}, Thinking()))
    assert all("reasoning_content" in delta for delta in deltas), "as in SGLang's own"
    reasoning = [delta["reasoning_content"] or "" for delta in deltas]
    assert any(text.strip() == "2" for text in reasoning) == any(reasoning) == is_open
