"""`n` samples by the SGLang server's own route and through the trie: law, tokens and seconds."""

from __future__ import annotations

import asyncio
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eager_sgl.engine.protocol import Json
from eager_sgl.reasoning import final_text
from evals.throughput.endpoint.asking import Route, ask_all, order_of

__all__ = ["SamplesRow", "p_value_of", "samples_row"]

_NUM_PERMUTATIONS = 999
_THINK_END = "</think>"
Answers = list[list[str]]
"""The answers of all samples, by prompt."""


@dataclass(frozen=True)
class SamplesRow:
    """Samples of the same prompts by both routes.

    Attributes:
        temperature: of sampling.
        p_value: of the hypothesis that both routes have the same distribution of answers.
        distance: total variation between the samples of a prompt, the mean over prompts.
        token_ratio: generated tokens as a share of those of the server's own route.
        second_ratios: seconds as a share of those of the server's own route, by pass.
        reasons: why requests did not go through the trie.
    """

    temperature: float
    p_value: float
    distance: float
    token_ratio: float
    second_ratios: list[float]
    reasons: list[str]

    @property
    def second_ratio(self) -> float:
        """The median."""
        return statistics.median(self.second_ratios)


def samples_row(
    direct: Route, ours: Route, bodies: Sequence[Json], at_once: int, passes: int
) -> SamplesRow:
    """Sample by both routes in the order of `order_of`; the samples of all passes are compared."""
    answers: dict[str, Answers] = {r.name: [[] for _ in bodies] for r in (direct, ours)}
    tokens, ratios, reasons = Counter[str](), [], set()
    for index in range(passes):
        seconds = {}
        for route in order_of(direct, ours, index):
            replies, seconds[route.name] = asyncio.run(ask_all(route, bodies, at_once))
            for found, reply in zip(answers[route.name], replies, strict=True):
                found += [_answer_of(choice) for choice in reply["choices"]]
                tokens[route.name] += reply["usage"]["completion_tokens"]
                reasons.add((reply.get("eager") or {}).get("reason"))
        ratios.append(seconds[ours.name] / seconds[direct.name])
    distance, p_value = p_value_of(answers[direct.name], answers[ours.name])
    return SamplesRow(
        bodies[0]["temperature"],
        p_value,
        distance,
        tokens[ours.name] / tokens[direct.name],
        ratios,
        sorted(reason for reason in reasons if reason),
    )


def _answer_of(choice: Json) -> str:
    text = choice["message"]["content"] or ""
    return "".join((final_text(text, _THINK_END) or "").split())


def p_value_of(first: Answers, second: Answers, seed: int = 0) -> tuple[float, float]:
    """The mean total variation between two samples of every prompt, and its p-value.

    By permutation: if both have the same law, the samples of a prompt may be exchanged. So a test
    that rejects below p errs with probability p, whatever the law is.
    """
    rng, total = np.random.default_rng(seed), np.zeros(_NUM_PERMUTATIONS + 1)
    for ours, theirs in zip(first, second, strict=True):
        codes = np.unique([*ours, *theirs], return_inverse=True)[1]
        orders = [np.arange(len(codes))]
        orders += [rng.permutation(len(codes)) for _ in range(_NUM_PERMUTATIONS)]
        drawn = codes[np.array(orders)]
        for code in range(codes.max() + 1):
            is_code, size = drawn == code, len(ours)
            total += np.abs(is_code[:, :size].mean(1) - is_code[:, size:].mean(1)) / 2
    total /= len(first)
    # Sums of the same terms in another order differ by rounding.
    as_far = total[1:] >= total[0] - 1e-9
    return float(total[0]), float((1 + as_far.sum()) / (1 + _NUM_PERMUTATIONS))
