"""Trees of a scripted model, grown without a server."""

from __future__ import annotations

import random

import numpy as np

from eager_sgl.core import BranchPoint, Generation, TopLogprobs
from eager_sgl.search.frontier import Candidates, StepRecorder, candidates
from eager_sgl.tree import Segment, TokenTree
from tests.fakes.scripted import EOS, VOCABULARY, mixed_distribution

__all__ = ["DISTRIBUTION", "drawn", "open_candidate", "random_tree"]

TEMPERATURE = 0.6
DISTRIBUTION = mixed_distribution(3)


def drawn(path: tuple[int, ...], length: int, seed: int) -> Generation:
    """A generation after a path, with the top logprobs that a server gives at τ = 0.6."""
    rng = random.Random(seed)
    tokens: list[int] = []
    ids, logprobs = [], []
    for _ in range(length):
        raw = np.array(DISTRIBUTION((*path, *tokens)), float)
        tempered = raw ** (1 / TEMPERATURE) / (raw ** (1 / TEMPERATURE)).sum()
        order = np.argsort(-tempered, kind="stable")
        ids.append(order)
        logprobs.append(np.log(tempered[order]))
        tokens.append(rng.choices(range(VOCABULARY), tempered.tolist())[0])
        if tokens[-1] == EOS:
            break
    return Generation(
        token_ids=tuple(tokens),
        finish_reason="stop" if tokens[-1] == EOS else "length",
        prompt_tokens=1,
        cached_tokens=0,
        top=TopLogprobs(np.array(ids, np.int32), np.array(logprobs, np.float32), TEMPERATURE),
    )


def grow(tree: TokenTree, segment: Segment, seed: int) -> None:
    generation = drawn(tuple(segment.path()), tree.remaining(segment), seed)
    tree.append(segment, generation, num_asked=tree.remaining(segment))


def random_tree(seed: int, num_branches: int = 4, stored_below: float = 0.995) -> TokenTree:
    """A tree whose segments are drawn to their ends, with branches at random candidates."""
    tree = TokenTree(
        [9],
        max_new_tokens=9,
        policy=StepRecorder(stored_below),
        is_stop=lambda token: token == EOS,
    )
    grow(tree, tree.open_root(), seed)
    rng = random.Random(seed)
    for number in range(num_branches):
        frontier = candidates(tree)
        if not len(frontier):
            break
        segment = open_candidate(tree, frontier, rng.randrange(len(frontier)))
        if segment.finish_reason is None:
            grow(tree, segment, seed * 100 + number)
    return tree


def open_candidate(tree: TokenTree, frontier: Candidates, index: int) -> Segment:
    taken, token = int(frontier.taken_ids[index]), int(frontier.token_ids[index])
    point = BranchPoint(
        position=int(frontier.positions[index]),
        entropy=1.0,
        token_ids=(taken, token),
        probabilities=(
            float(frontier.taken_probabilities[index]),
            float(frontier.probabilities[index]),
        ),
        logprobs=(0.0, 0.0),
        sampled=taken,
    )
    return tree.branch(tree.segments[frontier.segments[index]], point, 1)
