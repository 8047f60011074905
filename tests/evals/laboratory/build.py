"""Recorded samples of a prompt, drawn at random and the same every time."""

from __future__ import annotations

import random

import numpy as np

from evals.laboratory.draws import Draws
from evals.laboratory.samples import RecordedSample, Samples

__all__ = ["in_their_order", "random_samples", "sequences_of"]

TOKENS = (3, 4)


def random_samples(
    seed: int, number: int = 12, num_classes: int = 3, sample_id: str = "prompt"
) -> Samples:
    """Short sequences of two tokens, so that some share prefixes and some are the same."""
    rng = random.Random(seed)
    recorded = []
    for _ in range(number):
        tokens = tuple(rng.choices(TOKENS, k=rng.randint(1, 9)))
        # The same tokens have the same values, as under a model.
        of_tokens = random.Random(repr((seed, tokens)))
        values = np.array([of_tokens.uniform(1, 9) for _ in tokens])
        recorded.append(RecordedSample(tokens, "stop", -of_tokens.uniform(0, 30), values, values))
    by_tokens = {sample.token_ids: rng.choice([-1, *range(num_classes)]) for sample in recorded}
    votes = np.array([by_tokens[sample.token_ids] for sample in recorded])
    is_right = np.array([rng.random() < 0.5 for _ in range(num_classes)])
    return Samples(sample_id, seed % 2, tuple(recorded), votes, is_right, 1.0)


def in_their_order(samples: Samples) -> Draws:
    """One order: that of the samples."""
    return Draws(samples, np.arange(len(samples.recorded))[None])


def sequences_of(draws: Draws, row: int) -> list[RecordedSample]:
    """The samples of an order."""
    return [draws.samples.recorded[index] for index in draws.order[row]]
