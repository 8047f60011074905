"""Prompts of one's own: `--task path.jsonl`, a JSON object per line.

    {"id": "sum", "prompt": "What is 2 + 2?", "answer": "4", "grader": "integer"}

`id` is a text, different in every line. `prompt` is a text, sent as a user message, or a list of
chat messages with `role` and `content`; it is sent as it is, so it says itself in which form it
wants its answer. `level` is a whole number of at least 1, the easiest, or absent. `answer` is the
reference answer and `grader` one of math (the default: equivalence of what is in the last
`\\boxed{}`), integer, letter and text (the whole answer after the reasoning, letter case and spaces
aside); a reference answer is refused that its own grader does not find right, or finds equal to
nothing but the same text, such as `3/0`. Either every line has an answer or none has; without
answers nothing is judged, and only methods that need no labels can be run.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

from evals.records.files import require_characters
from evals.tasks import Message, Sample, Score, choose, user_message
from evals.tasks.benchmark import DEFAULTS
from evals.tasks.graders import GRADERS

__all__ = ["FIELDS", "OwnPrompts", "Reference"]

FIELDS = ("id", "prompt", "answer", "level", "grader")


class Reference(NamedTuple):
    """What an answer is judged by: a reference answer, and a name of `GRADERS`."""

    answer: str
    grader: str


@dataclass(frozen=True)
class OwnPrompts:
    """The task of a file.

    Attributes:
        path: of the file.
        samples: its lines, in order; the reference of each is None without an answer.
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
        """The task of a file.

        Raises:
            ValueError: the file cannot be read, or a line is wrong, with its number.
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
                _require_alike(samples, sample)
            except ValueError as error:
                raise ValueError(f"line {number} of {path}: {error}") from error
            samples[sample.id] = replace(sample, line=number)
        return cls(path, tuple(samples.values()))

    def using(self, copy: Path) -> Self:
        return self.read(copy)

    def to_json(self) -> dict[str, Any] | None:
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
        raise ValueError(f"no JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError("it must be an object in braces")
    if unknown := [name for name in content if name not in FIELDS]:
        raise ValueError(f"unknown field {unknown[0]!r}; there is {', '.join(FIELDS)}")
    for name in ("id", "prompt"):
        if name not in content:
            raise ValueError(f"it has no {name}")
    for name, value in content.items():
        require_characters(name, value)
    return Sample(
        id=_text("id", content["id"]),
        prompt=_messages(content["prompt"]),
        level=_level(content.get("level")),
        reference=_reference(content.get("answer"), content.get("grader")),
    )


def _require_alike(samples: dict[str, Sample], sample: Sample) -> None:
    if sample.id in samples:
        raise ValueError(f"id {sample.id!r} is that of an earlier line")
    others = [other.reference is None for other in samples.values()]
    if others and others[0] != (sample.reference is None):
        one, other = ("no", "have") if sample.reference is None else ("an", "have none")
        raise ValueError(f"it has {one} answer where earlier lines {other}; give all or none")


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
            raise ValueError(f"message {message!r} must have role and content, and no more")
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
            raise ValueError(f"grader is {grader!r}, but there is no answer to judge by")
        return None
    grader = "math" if grader is None else grader
    if not isinstance(grader, str) or grader not in GRADERS:
        raise ValueError(f"unknown grader {grader!r}; there is {', '.join(GRADERS)}")
    if isinstance(answer, int | float) and not isinstance(answer, bool):
        answer = str(answer)
    _require_gradable(_text("answer", answer), grader)
    return Reference(answer, grader)


def _require_gradable(answer: str, grader: str) -> None:
    """The answer itself, given as an answer, must be right, and other answers can be."""
    given = answer if grader == "text" else f"\\boxed{{{answer}}}"
    score = GRADERS[grader].score(given, answer)
    if not score.correct:
        raise ValueError(
            f"answer is {answer!r}, which {grader} does not grade: {score.explanation}"
        )
    if problem := GRADERS[grader].problem(answer):
        raise ValueError(
            f"answer is {answer!r}, which {grader} can compare with the same text only: {problem}; "
            "write it as mathematics, or choose another grader"
        )
