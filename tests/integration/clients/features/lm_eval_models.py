"""lm-eval: tasks of ours through both of its local models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lm_eval
from lm_eval.tasks import TaskManager

from tests.integration.clients.features.endpoint import Case, Endpoint

__all__ = ["CASES"]

TASKS = Path(__file__).parents[1] / "tasks"
TOKENIZER = Path(__file__).parents[4] / "evals/reasoner/model"


def _results(
    endpoint: Endpoint, model: str, route: str, task: str, suffix: str = "", **options: Any
) -> Any:
    """The results of a task."""
    arguments = {
        "model": endpoint.model + suffix,
        "base_url": f"{endpoint.base_url}/{route}",
        "num_concurrent": 8,
        "max_retries": 1,
        **options.pop("arguments", {}),
    }
    results = lm_eval.simple_evaluate(
        model=model,
        model_args=arguments,
        tasks=[task],
        # lm-eval's own tasks are thousands of files, which take eight seconds to read.
        task_manager=TaskManager(include_path=str(TASKS), include_defaults=False),
        bootstrap_iters=0,
        **options,
    )
    return results["results"][task]


def chat(endpoint: Endpoint) -> None:
    results = _results(
        endpoint,
        "local-chat-completions",
        "chat/completions",
        "countdown_chat",
        apply_chat_template=True,
    )
    assert results["right,none"] == 1, results


def chat_vote(endpoint: Endpoint) -> None:
    results = _results(
        endpoint,
        "local-chat-completions",
        "chat/completions",
        "countdown_chat",
        ":vote",
        apply_chat_template=True,
        gen_kwargs={"until": [], "temperature": 0.6, "eager": {"max_sequences": 8}},
    )
    assert results["right,none"] >= 0.5, results


def texts(endpoint: Endpoint) -> None:
    results = _results(
        endpoint,
        "local-completions",
        "completions",
        "countdown_text",
        arguments={"tokenizer_backend": "none"},
    )
    assert results["right,none"] == 1, results


def likelihoods(endpoint: Endpoint) -> None:
    results = _results(
        endpoint,
        "local-completions",
        "completions",
        "countdown_choice",
        arguments={"tokenizer": str(TOKENIZER), "max_length": 512},
    )
    assert results["acc,none"] == 1, results


CASES: list[Case] = [chat, chat_vote, texts, likelihoods]
