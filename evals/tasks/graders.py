"""Graders by name; a grader's module is imported at its first use."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass

from evals.grading.score import Score
from evals.grading.votes import vote_classes

__all__ = ["GRADERS", "Grader"]


@dataclass(frozen=True)
class Grader:
    """A module of `evals.grading`.

    Attributes:
        module: has `score(text, gold)`.
        has_classes: whether it also has `classes(answers)` and `problem(gold)`; without them equal
            texts are equivalent, and any reference answer that it judges right can be used.
        libraries: distributions whose version may change its judgements.
    """

    module: str
    has_classes: bool = False
    libraries: tuple[str, ...] = ()

    def score(self, text: str, gold: str) -> Score:
        """Judge the text after the reasoning by the reference answer."""
        score: Score = importlib.import_module(self.module).score(text, gold)
        return score

    def problem(self, gold: str) -> str | None:
        """Why a reference answer accepts nothing but the same text; None where it accepts more."""
        if not self.has_classes:
            return None
        problem: str | None = importlib.import_module(self.module).problem(gold)
        return problem

    def classes(self, answers: Sequence[str | None]) -> list[int | None]:
        """For each answer the index of the first equivalent answer; None stays None."""
        if not self.has_classes:
            return vote_classes(answers)
        classes: list[int | None] = importlib.import_module(self.module).classes(answers)
        return classes


GRADERS = {
    "math": Grader(
        "evals.grading.mathematics",
        has_classes=True,
        libraries=("math-verify", "latex2sympy2-extended", "sympy"),
    ),
    "integer": Grader("evals.grading.integers"),
    "letter": Grader("evals.grading.letters"),
    "text": Grader("evals.grading.plain"),
}
"""By name: mathematical equivalence, an integer, a letter from A to D, the text itself."""
