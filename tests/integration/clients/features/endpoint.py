"""The endpoint that cases ask, and the prompts that the bundled model can answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from evals.tasks.countdown_rules import Problem, instruction, is_correct, parse_answer

__all__ = ["EASY", "OPEN", "Case", "Endpoint", "chat_of", "require_right"]

_PROBLEM = Problem((7, 5), 12, level=1)
EASY = instruction(_PROBLEM)
OPEN = instruction(Problem((3, 4, 6, 9), 21, level=3))
"""Its sequences are long ones, and differ."""


@dataclass(frozen=True)
class Endpoint:
    """The endpoint: its URL without `/v1`, and the name of the model."""

    url: str
    model: str

    @property
    def base_url(self) -> str:
        """The base URL that clients of OpenAI's take."""
        return f"{self.url}/v1"


Case = Callable[[Endpoint], None]


def chat_of(prompt: str) -> Any:
    """The messages with a prompt."""
    return [{"role": "user", "content": prompt}]


def require_right(text: Any) -> None:
    """Check the answer to `EASY`.

    Raises:
        AssertionError: it is wrong.
    """
    answer = parse_answer(text or "")
    assert answer is not None, text
    assert is_correct(_PROBLEM, answer), text
