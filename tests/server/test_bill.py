"""Reasoning tokens of a tree, counted by its tokens."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from eager_sgl.core import Sequence
from eager_sgl.server.bill import num_reasoning_tokens

CLOSE = 1


def sequence(*token_ids: int, text: str = "") -> Sequence:
    return Sequence(token_ids, (0.0,) * len(token_ids), "stop", text=text)


def count(*sequences: Sequence, is_open: bool = False) -> int:
    return num_reasoning_tokens(sequences, (CLOSE,), is_open=is_open)


def test_tokens_up_to_the_end_of_the_reasoning_are_counted() -> None:
    assert count(sequence(5, 6, CLOSE, 7, 8)) == 3
    assert count(sequence(5, 6, CLOSE, 7, CLOSE, 8)) == 3


def test_shared_tokens_are_counted_once() -> None:
    assert count(sequence(5, 6, CLOSE, 7), sequence(5, 8, 9, CLOSE), sequence(5, 6, CLOSE, 4)) == 6


def test_without_an_end_only_open_reasoning_is_counted() -> None:
    assert count(sequence(5, 6)) == 0
    assert count(sequence(5, 6), is_open=True) == 2
    assert count(sequence(5, 6, text="<think> hm")) == 2


@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=6), min_size=1, max_size=8))
def test_the_count_is_that_of_distinct_prefixes(paths: list[list[int]]) -> None:
    parts = [p[: p.index(CLOSE) + 1] if CLOSE in p else p for p in paths]
    prefixes = {tuple(part[:end]) for part in parts for end in range(1, len(part) + 1)}
    assert count(*(sequence(*path) for path in paths), is_open=True) == len(prefixes)
