"""A task over a data set of reasoning-gym."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple, Self

from evals.grading.score import Score
from evals.grading.votes import vote_classes
from evals.grading.workers import CallTimeoutError, WorkerError
from evals.tasks.benchmark import DEFAULTS
from evals.tasks.characters import SURROGATE
from evals.tasks.countdown_rules import evaluate
from evals.tasks.gym.answers import ask, find_answer
from evals.tasks.gym.plain import is_plain
from evals.tasks.gym.scorer import FULL_CREDIT, Dataset, credit, equal_groups
from evals.tasks.gym.selection import Selection, read_selection
from evals.tasks.gym.source import Question, questions, require_library
from evals.tasks.task import Sample, choose, user_message

__all__ = ["GymReference", "GymTask"]

LIBRARY = "reasoning-gym"
MAX_CHARACTERS = 20_000
ARITHMETIC = ("countdown", "puzzle24")
"""Data sets whose answers are sums over given numbers: answers of equal value are equal."""


class GymReference(NamedTuple):
    """What an answer is judged by: a right answer, if there is one, and the library's item."""

    answer: str | None
    item: bytes


@dataclass(frozen=True)
class GymTask:
    """Questions of reasoning-gym, judged by its scorers: right is full credit.

    Attributes:
        selection: the data set, its parameters, and which of its questions.
    """

    selection: Selection

    defaults = DEFAULTS
    can_vote: bool = field(default=True, init=False)
    has_labels: bool = field(default=True, init=False)
    needs_isolation: bool = field(default=False, init=False)

    @classmethod
    def read(cls, name: str) -> Self:
        """The task of a name such as `reasoning_gym:chain_sum?max_terms=4`.

        Raises:
            ValueError: the name is not of the form, or the library is not installed.
        """
        selection = read_selection(name)
        require_library()
        return cls(selection)

    @property
    def name(self) -> str:
        return str(self.selection)

    def using(self, copy: Path) -> Self:
        raise ValueError(f"--dataset is {copy}, but reasoning-gym generates the questions")

    def to_json(self) -> dict[str, object] | None:
        return {"library": LIBRARY, **asdict(self.selection)}

    def load(self, limit: int | None, levels: tuple[int, ...] | None, seed: int) -> list[Sample]:
        samples = map(self._sample, questions(self.selection))
        return choose(samples, limit, levels, seed)

    def _sample(self, question: Question) -> Sample:
        text = SURROGATE.sub("\N{REPLACEMENT CHARACTER}", question.text)
        return Sample(
            id=f"{self.selection.seed}/{question.number}",
            prompt=user_message(ask(text)),
            level=None,
            reference=GymReference(question.answer, question.item),
        )

    def libraries(self, sample: Sample) -> tuple[str, ...]:
        return (LIBRARY,)

    def score(self, sample: Sample, text: str) -> Score:
        answer = find_answer(text)
        if answer is None:
            return Score(False, None, "no <answer> and no \\boxed{} after the reasoning")
        if len(answer) > MAX_CHARACTERS:
            return Score(False, answer, f"longer than {MAX_CHARACTERS} characters")
        if not is_plain(self.selection.name, answer):
            return Score(False, answer, "no plain expression, and the library would evaluate it")
        try:
            share, failure = credit(self._dataset, sample.reference.item, answer)
        except CallTimeoutError as error:
            return Score(False, answer, f"the library's scorer is {error}", "timed_out")
        except WorkerError as error:
            return Score(False, answer, f"the library's scorer failed: {error}", "unjudged")
        if failure is not None:
            return Score(False, answer, f"the library's scorer cannot read it ({failure})")
        return Score(share >= FULL_CREDIT, answer, f"credit {share:.2f} of 1")

    def classes(self, sample: Sample, answers: Sequence[str | None]) -> list[int | None]:
        if self.selection.name in ARITHMETIC:
            return vote_classes([answer and _value(answer) for answer in answers])
        spaced = [None if answer is None else " ".join(answer.split()) for answer in answers]
        firsts = {text: answer for text, answer in zip(spaced, answers, strict=True) if text}
        plain = [text for text in firsts if is_plain(self.selection.name, text)]
        try:
            groups = equal_groups(self._dataset, [firsts[text] or "" for text in plain])
        except WorkerError:
            return vote_classes(spaced)
        heads = {text: plain[group] for text, group in zip(plain, groups, strict=True)}
        return vote_classes([text and heads.get(text, text) for text in spaced])

    @property
    def _dataset(self) -> Dataset:
        return self.selection.name, dict(self.selection.parameters)


def _value(answer: str) -> tuple[Fraction, tuple[int, ...]] | str:
    """Value and sorted numbers of an expression; the text of an answer that is none."""
    try:
        value, numbers = evaluate(answer)
    except ValueError:
        return answer
    return value, tuple(sorted(numbers))
