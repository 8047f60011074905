"""Answers that are right if they equal the reference text, letter case and spaces aside."""

from __future__ import annotations

from evals.grading.score import Score

__all__ = ["score"]


def score(text: str, gold: str) -> Score:
    """Judge a text as a whole.

    Args:
        text: the text after the reasoning.
        gold: the reference answer.
    """
    answer = " ".join(text.split())
    if not answer:
        return Score(False, None, "no answer after the reasoning")
    if answer.casefold() == " ".join(gold.split()).casefold():
        return Score(True, answer, "is the reference answer")
    return Score(False, answer, f"is not {gold!r}")
