"""A run whose sequences come from a function of the test, and what it wrote."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonlines

from eager_sgl.core import PromptResult, TokenCounts
from eager_sgl.engine.probe import ServerProfile
from eager_sgl.errors import RequestRejectedError
from evals.config.settings import BUNDLED_MODEL
from evals.execution.calls import Call
from evals.execution.connection import Server
from tests.evals.fakes.build import result

PROFILE = ServerProfile(str(BUNDLED_MODEL), "0.5.23", 1024, 1, "tempered", 1000)
Generate = Callable[..., PromptResult]
Scripted = Callable[..., None]
"""Takes what generates and, with `on`, the server that it is connected to."""


class Endpoint:
    """What a run asks of a server besides generating.

    Args:
        is_alive: whether it answers a short request.
        too_long: words of a prompt that does not fit, and all prompts with them.
    """

    base_url = "http://scripted"
    profile = PROFILE

    def __init__(self, *, is_alive: bool = True, too_long: str | None = None) -> None:
        self.is_alive, self.too_long = is_alive, too_long

    def gate(self, config: object) -> None:
        """No gate."""

    def is_answering(self) -> bool:
        return self.is_alive

    def encode(self, prompt: list[dict[str, str]]) -> tuple[int, ...]:
        text = prompt[0]["content"]
        return (1,) * (9_999 if self.too_long and self.too_long in text else 7)

    def room_for(self, num_prompt_tokens: int) -> int:
        room = PROFILE.context_length - num_prompt_tokens
        if room < 1:
            raise RequestRejectedError(f"the prompt has {num_prompt_tokens} tokens")
        return room


def server(endpoint: Endpoint | None = None, check: Callable[[], None] = lambda: None) -> Server:
    """A connected server that nothing is sent to."""
    return Server(endpoint or Endpoint(), check)  # type: ignore[arg-type]


def generate(call: Call) -> PromptResult:
    """Two sequences, or one where only one is allowed; the second one gives no answer."""
    texts = ["</think>01+01", "1: no answer"][: call.account.granted]
    call.account.commit(len(texts))
    call.on_progress(TokenCounts(generated=5, prompt=10, cached=9), 2)
    return result(texts, max_sequences=call.method.max_sequences)


def generate_all(call: Call) -> PromptResult:
    """As many sequences as are allowed, the first of them with an answer."""
    texts = ["</think>01+01", *["1: no answer"] * (call.account.granted - 1)]
    call.account.commit(len(texts))
    return result(texts, max_sequences=call.method.max_sequences)


def lines(folder: Path) -> list[dict[str, Any]]:
    """The results of a run as they are written."""
    with jsonlines.open(folder / "results.jsonl") as reader:
        return list(reader)


def key_of(line: dict[str, Any]) -> tuple[Any, ...]:
    """What there is at most one line for."""
    names = ("method", "max_sequences", "threshold", "temperature", "seed", "sample_id")
    how = line["stage_two"] and line["stage_two"]["mode"]
    return (*(line[name] for name in names), how)
