"""inspect_ai: a task, and the provider for OpenAI-compatible servers."""

from __future__ import annotations

from typing import Any

import inspect_ai
from inspect_ai.dataset import Sample
from inspect_ai.model import GenerateConfig, get_model
from inspect_ai.scorer import Score, accuracy, scorer
from inspect_ai.solver import generate

from tests.integration.clients.features.endpoint import (
    EASY,
    OPEN,
    Case,
    Endpoint,
    require_right,
)

__all__ = ["CASES"]


@scorer(metrics=[accuracy()])  # type: ignore[untyped-decorator]
def countdown() -> Any:
    """Whether the answer to `EASY` is right."""

    async def score(state: Any, target: Any) -> Score:
        require_right(state.output.completion)
        return Score(value=1)

    return score


def _log(endpoint: Endpoint, prompt: str, suffix: str = "", epochs: int = 1, **options: Any) -> Any:
    """The log of a task with one prompt."""
    model_args = {"stream": True} if options.pop("stream", False) else {}
    model = get_model(
        f"openai-api/eager/{endpoint.model}{suffix}",
        base_url=endpoint.base_url,
        api_key="none",
        config=GenerateConfig(**options),
        **model_args,
    )
    task = inspect_ai.Task(
        dataset=[Sample(input=prompt)],
        solver=generate(),
        scorer=countdown() if prompt == EASY else None,
        epochs=inspect_ai.Epochs(epochs),
    )
    (log,) = inspect_ai.eval(task, model=model, log_dir="logs", display="none")
    assert log.status == "success", log.error
    return log


def task(endpoint: Endpoint) -> None:
    log = _log(endpoint, EASY, temperature=0)
    (usage,) = log.stats.model_usage.values()
    assert usage.output_tokens > 5
    assert log.results.scores[0].metrics["accuracy"].value == 1


def epochs(endpoint: Endpoint) -> None:
    assert len(_log(endpoint, EASY, epochs=4, temperature=0).samples) == 4


def stream(endpoint: Endpoint) -> None:
    assert len(_log(endpoint, EASY, stream=True, temperature=0).samples) == 1


def num_choices(endpoint: Endpoint) -> None:
    (sample,) = _log(endpoint, OPEN, num_choices=8).samples
    assert len(sample.output.choices) == 8


def vote(endpoint: Endpoint) -> None:
    """Options are passed on, and the bill is in the log."""
    eager = {"max_sequences": 8}
    (sample,) = _log(endpoint, EASY, ":vote", extra_body={"eager": eager}).samples
    (call,) = [event.call for event in sample.events if event.event == "model"]
    assert call.request["extra_body"] == {"eager": eager}
    assert call.response["eager"]["method"] == "vote"


def logprobs(endpoint: Endpoint) -> None:
    (sample,) = _log(endpoint, OPEN, logprobs=True, top_logprobs=2).samples
    assert len(sample.output.choices[0].logprobs.content) > 5


CASES: list[Case] = [task, epochs, stream, num_choices, vote, logprobs]
