"""A run whose sequences come from a function of the test, and what it wrote."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonlines

from eager_sgl.core import PromptResult, TokenCounts
from eager_sgl.probe import ServerProfile
from evals.methods import Call
from evals.settings import BUNDLED_MODEL
from tests.evals.build import result

PROFILE = ServerProfile(str(BUNDLED_MODEL), "0.5.23", 1024, 1, "tempered", 1000)
Generate = Callable[..., PromptResult]
Scripted = Callable[[Generate], None]


def generate(call: Call) -> PromptResult:
    """Two sequences, or one where only one is allowed; the second one gives no answer."""
    texts = ["</think>01+01", "1: no answer"][: call.account.granted]
    call.account.commit(len(texts))
    call.on_wave(TokenCounts(generated=5, prompt=10, cached=9), 2)
    return result(texts, max_sequences=call.config.max_sequences)


def generate_all(call: Call) -> PromptResult:
    """As many sequences as are allowed, the first of them with an answer."""
    texts = ["</think>01+01", *["1: no answer"] * (call.account.granted - 1)]
    call.account.commit(len(texts))
    return result(texts, max_sequences=call.config.max_sequences)


def lines(folder: Path) -> list[dict[str, Any]]:
    """The results of a run as they are written."""
    with jsonlines.open(folder / "results.jsonl") as reader:
        return list(reader)


def key_of(line: dict[str, Any]) -> tuple[Any, ...]:
    """What there is at most one line for."""
    names = ("method", "max_sequences", "threshold", "temperature", "seed", "sample_id")
    how = line["stage_two"] and line["stage_two"]["how"]
    return (*(line[name] for name in names), how)
