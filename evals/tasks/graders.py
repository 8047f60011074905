"""The graders that tasks name; what they need is imported when they are first used."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass

from evals.analysis.metrics import vote_classes
from evals.grading.score import Score

__all__ = ["GRADERS", "Grader"]


@dataclass(frozen=True)
class Grader:
    """A module of `evals.grading`.

    Attributes:
        module: has `score(text, gold)`.
        has_classes: whether it also has `classes(answers)` and `problem(gold)`; elsewhere equal
            texts are equivalent, and every reference answer that is right by itself will do.
        libraries: distributions that it leaves decisions to.
    """

    module: str
    has_classes: bool = False
    libraries: tuple[str, ...] = ()

    def score(self, text: str, gold: str) -> Score:
        """Judge the text after the reasoning by the reference answer."""
        score: Score = importlib.import_module(self.module).score(text, gold)
        return score

    def problem(self, gold: str) -> str | None:
        """Why a reference answer can judge no answer but the same text; None where it can."""
        if not self.has_classes:
            return None
        found: str | None = importlib.import_module(self.module).problem(gold)
        return found

    def classes(self, answers: Sequence[str | None]) -> list[int | None]:
        """For each answer the index of the first equivalent one; None without."""
        if not self.has_classes:
            return vote_classes(answers)
        found: list[int | None] = importlib.import_module(self.module).classes(answers)
        return found


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
