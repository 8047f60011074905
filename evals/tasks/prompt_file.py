"""The user's file of prompts: `--task path.jsonl`, a JSON object per line.

    {"id": "sum", "prompt": "What is 2 + 2?", "answer": "4", "grader": "integer"}

`id` is a text, different in every line. `prompt` is a text, sent as a user message, or a list of
chat messages with `role` and `content`; nothing is added to it, so it has to ask for the form of
the answer itself. `level` is a whole number of at least 1, the easiest, or absent. `answer` is the
reference answer and `grader` is math (the default: equivalence to the last `\\boxed{}`), integer,
letter or text (the whole answer after the reasoning, letter case and spaces aside). A reference
answer is refused if its grader does not judge it right, or, as `3/0`, accepts nothing but the same
text. Either every line has an answer or none has; without answers nothing is judged, and only
methods that need no labels can be run.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

from evals.grading.score import Score
from evals.tasks.benchmark import DEFAULTS
from evals.tasks.characters import require_characters
from evals.tasks.graders import GRADERS
from evals.tasks.task import Message, Sample, choose, user_message

__all__ = ["PromptFile", "Reference"]

FIELDS = ("id", "prompt", "answer", "level", "grader")


class Reference(NamedTuple):
    """A reference answer, and the key of its grader in `GRADERS`."""

    answer: str
    grader: str


@dataclass(frozen=True)
class PromptFile:
    """A task that is a file of prompts.

    Attributes:
        path: of the file.
        samples: its lines, in order; `reference` is None for a line without an answer.
    """

    path: Path
    samples: tuple[Sample, ...]

    defaults = DEFAULTS
    needs_isolation: bool = field(default=False, init=False)

    @property
    def name(self) -> str:
        return str(self.path)

    @property
    def has_labels(self) -> bool:
        return all(sample.reference is not None for sample in self.samples)

    @property
    def can_vote(self) -> bool:
        return self.has_labels

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file.

        Raises:
            ValueError: the file cannot be read, or a line is wrong; the message has its number.
        """
        try:
            lines = path.read_text(encoding="utf-8-sig").split("\n")
        except OSError as error:
            raise ValueError(f"cannot read {path}: {error.strerror or error}") from error
        except UnicodeDecodeError as error:
            raise ValueError(f"cannot read {path}: it is not in UTF-8 ({error})") from error
        samples: dict[str, Sample] = {}
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                sample = _sample(line)
                _require_consistent(samples, sample)
            except ValueError as error:
                raise ValueError(f"line {number} of {path}: {error}") from error
            samples[sample.id] = replace(sample, line=number)
        return cls(path, tuple(samples.values()))

    def using(self, copy: Path) -> Self:
        return self.read(copy)

    def to_json(self) -> dict[str, object] | None:
        return {"copy": str(self.path)}

    def load(self, limit: int | None, levels: tuple[int, ...] | None, seed: int) -> list[Sample]:
        return choose(self.samples, limit, levels, seed)

    def libraries(self, sample: Sample) -> tuple[str, ...]:
        reference: Reference | None = sample.reference
        return () if reference is None else GRADERS[reference.grader].libraries

    def score(self, sample: Sample, text: str) -> Score:
        reference: Reference | None = sample.reference
        if reference is None:
            return Score(False, None, "there is no reference answer", status="unjudged")
        return GRADERS[reference.grader].score(text, reference.answer)

    def classes(self, sample: Sample, answers: Sequence[str | None]) -> list[int | None]:
        reference: Reference | None = sample.reference
        if reference is None:
            return [None] * len(answers)
        return GRADERS[reference.grader].classes(answers)


def _sample(line: str) -> Sample:
    try:
        content = json.loads(line)
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError("not a JSON object in braces")
    if unknown := [name for name in content if name not in FIELDS]:
        raise ValueError(f"unknown field {unknown[0]!r}; choose from {', '.join(FIELDS)}")
    for name in ("id", "prompt"):
        if name not in content:
            raise ValueError(f"{name} is missing")
    for name, value in content.items():
        require_characters(name, value)
    return Sample(
        id=_text("id", content["id"]),
        prompt=_messages(content["prompt"]),
        level=_level(content.get("level")),
        reference=_reference(content.get("answer"), content.get("grader")),
    )


def _require_consistent(samples: dict[str, Sample], sample: Sample) -> None:
    if sample.id in samples:
        raise ValueError(f"id {sample.id!r} repeats that of an earlier line")
    earlier = next(iter(samples.values()), sample)
    if (earlier.reference is None) != (sample.reference is None):
        problem = "is missing, but" if sample.reference is None else "is given, but not"
        raise ValueError(f"answer {problem} given in earlier lines; give all or none")


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name} is {value!r}; it must be a text")
    return value


def _messages(prompt: Any) -> list[Message]:
    if isinstance(prompt, str):
        return user_message(_text("prompt", prompt))
    if not isinstance(prompt, list) or not prompt:
        raise ValueError(f"prompt is {prompt!r}; it must be a text or a list of messages")
    for message in prompt:
        if not isinstance(message, dict) or set(message) != {"role", "content"}:
            raise ValueError(f"message {message!r} must have role and content, and nothing else")
        _text("role", message["role"])
        _text("content", message["content"])
    return prompt


def _level(level: Any) -> int | None:
    if level is None:
        return None
    if not isinstance(level, int) or isinstance(level, bool) or level < 1:
        raise ValueError(f"level is {level!r}; it must be a whole number of at least 1")
    return level


def _reference(answer: Any, grader: Any) -> Reference | None:
    if answer is None:
        if grader is not None:
            raise ValueError(f"grader is {grader!r}, but answer is missing")
        return None
    grader = "math" if grader is None else grader
    if not isinstance(grader, str) or grader not in GRADERS:
        raise ValueError(f"unknown grader {grader!r}; choose from {', '.join(GRADERS)}")
    if isinstance(answer, int | float) and not isinstance(answer, bool):
        answer = str(answer)
    _require_gradable(_text("answer", answer), grader)
    return Reference(answer, grader)


def _require_gradable(answer: str, grader: str) -> None:
    """The reference answer must be judged right, and other texts must be able to equal it."""
    text = answer if grader == "text" else f"\\boxed{{{answer}}}"
    score = GRADERS[grader].score(text, answer)
    if not score.correct:
        raise ValueError(
            f"answer is {answer!r}, which {grader} does not accept: {score.explanation}"
        )
    if problem := GRADERS[grader].problem(answer):
        raise ValueError(
            f"answer is {answer!r}, which {grader} can only compare with the same text: "
            f"{problem}; write it as mathematics, or choose another grader"
        )
