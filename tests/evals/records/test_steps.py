"""Packed steps decide what the steps themselves decide."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from eager_sgl import SamplingConfig
from eager_sgl.search import Reshaping
from eager_sgl.search.trie import nucleus
from eager_sgl.steps import Steps, ranks_of
from evals.records.steps import pack_steps, unpack_steps
from tests.fakes.scripted import VOCABULARY
from tests.fakes.trees import random_tree

SAMPLING = SamplingConfig(temperature=0.6, top_p=0.8)
RESHAPING = Reshaping(temperature=1.5, min_p=0.3)


def stored(seed: int, top_k: int = VOCABULARY) -> tuple[Steps, list[int]]:
    """All steps of a first sequence with the most likely tokens of each, and its tokens."""
    segment = random_tree(seed, stored_below=np.inf).segments[0]
    assert segment.steps is not None
    steps = segment.steps
    top = replace(steps, token_ids=steps.token_ids[:, :top_k], logprobs=steps.logprobs[:, :top_k])
    return top, segment.token_ids.tolist()


def rows_of(part: Steps, steps: Steps) -> list[int]:
    return [int(row) for row in np.flatnonzero(np.isin(steps.positions, part.positions))]


@pytest.mark.parametrize("seed", range(10))
def test_all_tokens_are_kept_bit_by_bit(seed: int) -> None:
    steps, taken = stored(seed)
    unpacked = unpack_steps(pack_steps(steps, taken, np.ones(steps.token_ids.shape, np.bool_)))
    for name in ("positions", "token_ids", "logprobs"):
        np.testing.assert_array_equal(getattr(unpacked, name), getattr(steps, name))


@pytest.mark.parametrize("seed", range(10))
def test_the_nucleus_keeps_its_probabilities(seed: int) -> None:
    steps, taken = stored(seed)
    weights = nucleus(steps.logprobs, steps.top_k_mass, SAMPLING)
    unpacked = unpack_steps(pack_steps(steps, taken, weights > 0))
    kept = nucleus(unpacked.logprobs, unpacked.top_k_mass, SAMPLING)
    rows = rows_of(unpacked, steps)
    for row, probabilities, token_ids in zip(rows, kept, unpacked.token_ids, strict=True):
        before = dict(zip(steps.token_ids[row].tolist(), weights[row].tolist(), strict=True))
        for token, probability in zip(token_ids.tolist(), probabilities.tolist(), strict=True):
            assert probability == pytest.approx(before.get(token, 0.0), rel=1e-14)
    for row in set(range(len(taken))) - set(rows):
        assert weights[row][steps.token_ids[row] == taken[row]] == 1, "nothing else can be drawn"


@pytest.mark.parametrize("seed", range(40))
def test_a_taken_token_outside_the_nucleus_or_the_k_keeps_its_probability(seed: int) -> None:
    steps, taken = stored(seed, top_k=2)
    weights = nucleus(steps.logprobs, steps.top_k_mass, SAMPLING)
    if not (packed := pack_steps(steps, taken, weights > 0)):
        return
    unpacked = unpack_steps(packed)
    kept, rows = nucleus(unpacked.logprobs, unpacked.top_k_mass, SAMPLING), rows_of(unpacked, steps)
    ids = np.array(taken, np.int32)
    before = weights[range(len(taken)), ranks_of(steps.token_ids, ids)][rows]
    after = kept[range(len(rows)), ranks_of(unpacked.token_ids, ids[rows])]
    np.testing.assert_allclose(after, before, rtol=1e-14)


@pytest.mark.parametrize("seed", range(10))
def test_reshaped_logprobs_are_the_same_bit_by_bit(seed: int) -> None:
    steps, taken = stored(seed)
    before = RESHAPING(steps.logprobs)
    unpacked = unpack_steps(pack_steps(steps, taken, np.isfinite(before)))
    after = RESHAPING(unpacked.logprobs)
    np.testing.assert_array_equal(after, before[rows_of(unpacked, steps)])


def test_steps_that_decide_nothing_are_empty() -> None:
    steps, _ = stored(0)
    only_first = np.zeros(steps.token_ids.shape, np.bool_)
    only_first[:, 0] = True
    assert pack_steps(steps, steps.token_ids[:, 0].tolist(), only_first) == ""


@pytest.mark.parametrize("text", ["no base64", "AAAA", ""])
def test_another_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="packed steps"):
        unpack_steps(text)
