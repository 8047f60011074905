"""Reasoning and the rest, however the text is cut into pieces."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eager_sgl.server.answers import ReasoningSplit


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
