"""The memory of a stored step, containers included."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

from eager_sgl.config import SamplingConfig
from eager_sgl.core import Generation, TopLogprobs
from eager_sgl.search.frontier import StepRecorder
from eager_sgl.search.trie import Trie
from eager_sgl.tree import TokenTree

TOP_K = 20
NUM_SEGMENTS = 40


def generation(num_steps: int, rng: np.random.Generator) -> Any:
    """Steps as a server returns them; about one in ten is stored."""
    sharpness = np.where(rng.random(num_steps) < 0.1, 1.0, 30.0)
    logits = -np.sort(-rng.normal(size=(num_steps, TOP_K)) * sharpness[:, None], axis=1)
    logits[sharpness > 1, 0] += 20
    logprobs = logits - np.log(np.exp(logits - logits[:, :1]).sum(axis=1))[:, None] - logits[:, :1]
    ids = np.tile(np.arange(TOP_K, dtype=np.int32), (num_steps, 1))
    top = TopLogprobs(ids, logprobs.astype(np.float32), 1.0)
    return Generation((0,) * num_steps, "length", 1, 0, logprobs[:, 0].astype(np.float32), top)


def grown(num_steps: int, closes_at: Any = None) -> Any:
    """A tree of segments that all leave the prompt."""
    rng = np.random.default_rng(0)
    tree = TokenTree(
        [9],
        max_new_tokens=num_steps,
        policy=StepRecorder(),
        reasoning_end=() if closes_at is None else (5,),
    )
    for _ in range(NUM_SEGMENTS):
        drawn = generation(num_steps, rng)
        if closes_at is not None:
            tokens = (*(0,) * closes_at, 5, *(0,) * (num_steps - closes_at - 1))
            drawn = Generation(tokens, "length", 1, 0, drawn.logprobs, drawn.top)
        segment = tree.open_root()
        tree.append(segment, drawn, num_asked=num_steps)
        del drawn
    return tree


def held(tree: TokenTree) -> Any:
    """Bytes that are freed with the stored steps of a tree."""
    before = tracemalloc.get_traced_memory()[0]
    for segment in tree.segments:
        segment.stored.clear()
    return before - tracemalloc.get_traced_memory()[0]


@pytest.fixture(autouse=True)
def traced() -> Any:
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.parametrize(("num_steps", "bound"), [(400, 200), (4_000, 172)])
@pytest.mark.parametrize("closes", [False, True])
def test_a_stored_step_takes_168_bytes_and_little_more(
    num_steps: int, bound: int, closes: bool
) -> None:
    """Arrays and their objects, and nothing else of the answer."""
    tree = grown(num_steps, closes_at=num_steps * 9 // 10 if closes else None)
    number = sum(len(segment.steps.positions) for segment in tree.segments)
    assert 0.05 < number / (num_steps * NUM_SEGMENTS) < 0.15
    assert 168 * number <= held(tree) <= bound * number


def test_a_step_of_a_trie_takes_32_bytes_and_little_more() -> None:
    tree = grown(4_000)
    number = sum(len(segment.steps.positions) for segment in tree.segments)
    before = tracemalloc.get_traced_memory()[0]
    trie = Trie(tree, SamplingConfig())
    assert trie.root.positions is tree.segments[0].steps.positions
    assert tracemalloc.get_traced_memory()[0] - before <= 40 * number
