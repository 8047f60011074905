"""The bill of an answer: `usage` in OpenAI's form, and `eager` with the details."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Items
from itertools import pairwise

from eager_sgl.core import PromptResult, Sequence
from eager_sgl.engine.protocol import Json
from eager_sgl.reasoning import reasoning_ends_at
from eager_sgl.server.plan import AnswerPlan

__all__ = ["Count", "bill_of", "num_reasoning_tokens", "plain_bill"]

Count = Callable[[Json], None]
"""Counts a bill."""


def bill_of(plan: AnswerPlan, result: PromptResult, num_reasoning: int, seconds: float) -> Json:
    """The cost of a tree.

    `cached_tokens` is the least that the caches can have served of the prompt: what was computed
    of all prefixes is known, and how much of it belongs to the prompt is not.
    """
    counts, num_prompt = result.counts, len(result.prompt_ids)
    details = {
        "method": plan.name,
        "sequences": len(result.sequences),
        "branch_points": len(result.branch_points),
        "tokens": {
            "generated": counts.generated,
            "unique": counts.unique,
            "naive": counts.naive,
            "discarded": counts.discarded,
            "prefilled": counts.prefilled,
            "cached": counts.cached,
        },
        "cached_share": round(counts.cached / counts.prompt, 4) if counts.prompt else 0.0,
        "requests": counts.requests,
        "inexact_steps": result.inexact_steps,
        "monitor": result.monitor,
        "stopped": result.stopped,
        "seconds": round(seconds, 3),
    }
    usage = {
        "prompt_tokens": num_prompt,
        "completion_tokens": counts.generated,
        "total_tokens": num_prompt + counts.generated,
        "prompt_tokens_details": {"cached_tokens": max(0, num_prompt - counts.prefilled)},
        "completion_tokens_details": {"reasoning_tokens": min(num_reasoning, counts.generated)},
    }
    return {"usage": usage, "eager": details}


def num_reasoning_tokens(
    sequences: Items[Sequence], marker: tuple[int, ...], *, is_open: bool
) -> int:
    """Tokens of a tree up to the end of the reasoning, shared ones once.

    Args:
        marker: the tokens that close the reasoning, which belong to it.
        is_open: whether the prompt opens the reasoning; a sequence may open it too.
    """
    parts = set()
    for sequence in sequences:
        end = reasoning_ends_at(sequence.token_ids, marker)
        if end is not None or is_open or sequence.text.startswith("<think>"):
            parts.add(sequence.token_ids[:end])
    # In this order a part shares most with the one before it.
    return sum(len(part) - _num_shared(last, part) for last, part in pairwise(((), *sorted(parts))))


def _num_shared(first: tuple[int, ...], second: tuple[int, ...]) -> int:
    for number, (one, other) in enumerate(zip(first, second, strict=False)):
        if one != other:
            return number
    return min(len(first), len(second))


def plain_bill(plan: AnswerPlan, usage: Json, seconds: float) -> Json:
    """The cost of a request to the SGLang server's route; independent sequences share nothing.

    An SGLang server with `--enable-cache-report` counts the cached tokens of the prompt.
    """
    generated = usage.get("completion_tokens") or 0
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
    num_prompt = usage.get("prompt_tokens")
    share = round(cached / num_prompt, 4) if cached is not None and num_prompt else None
    return ({} if share is None else {"cached_share": share}) | {
        "method": plan.name,
        "reason": plan.reason,
        "sequences": plan.num_in_all,
        "branch_points": 0,
        "tokens": {"generated": generated, "unique": generated, "naive": generated},
        "seconds": round(seconds, 3),
    }
