"""Results of a run, made by hand."""

from collections.abc import Sequence as Items
from typing import Any

from eager_sgl.core import BranchPoint, PromptResult, Sequence, TokenCounts
from eager_sgl.reasoning import final_text
from evals.records.record import PromptRecord, SequenceRecord

BRANCH = BranchPoint(
    position=1,
    entropy=1.25,
    token_ids=(7, 8),
    probabilities=(0.5, 0.25),
    logprobs=(-0.5, -1.5),
    sampled=7,
)


def result(texts: Items[str], *, generated: int = 10, max_sequences: int = 4) -> PromptResult:
    """A prompt whose sequences have these texts; all but the first branched off the first."""
    sequences = tuple(
        Sequence(
            token_ids=(1, 7 + index, 2),
            logprobs=(-0.1, float("nan"), -0.2),
            finish_reason="stop",
            parent=0 if index else None,
            branch=BRANCH if index else None,
            text=text,
            final_text=_final(text),
        )
        for index, text in enumerate(texts)
    )
    counts = TokenCounts(
        generated=generated, unique=8, naive=12, forced=1, prompt=100, cached=90, requests=3
    )
    return PromptResult((5, 6), sequences, counts, max_sequences)


def _final(text: str) -> str:
    final = final_text(text, "</think>")
    return text if final is None else final


def record(
    correct: Items[bool],
    *,
    method: str = "parallel",
    sample_id: str = "a",
    votes: Items[int | None] | None = None,
    counts: TokenCounts | None = None,
    max_sequences: int = 4,
    **more: Any,
) -> PromptRecord:
    """A judged prompt; each sequence votes for itself unless `votes` says otherwise."""
    sequences = tuple(
        SequenceRecord(
            text="t",
            token_ids=(1, 2),
            finish_reason="stop",
            parent=0 if index else None,
            branch=BRANCH if index else None,
            answer="x",
            correct=is_correct,
            explanation="by hand",
            vote=index if votes is None else votes[index],
        )
        for index, is_correct in enumerate(correct)
    )
    fields: dict[str, Any] = {
        "method": method,
        "sample_id": sample_id,
        "level": 1,
        "max_sequences": max_sequences,
        "threshold": None if method == "parallel" else 0.7,
        "temperature": 0.6,
        "seed": 0,
        "prompt": [{"role": "user", "content": "make"}],
        "prompt_ids": (5, 6),
        "sequences": sequences,
        "counts": counts or TokenCounts(generated=10, unique=8, naive=12, forced=1),
        "seconds": 0.5,
    }
    return PromptRecord(**fields | more)
