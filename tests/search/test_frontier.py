"""The frontier of trees whose every distribution is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from eager_sgl import SamplingConfig
from eager_sgl.search.frontier import (
    CERTAIN,
    NO_RESHAPING,
    Candidates,
    Reshaping,
    StepRecorder,
    candidates,
)
from eager_sgl.steps import Steps
from eager_sgl.tree import TokenTree
from tests.fakes.scripted import EOS, VOCABULARY
from tests.fakes.searches import search_of
from tests.fakes.trees import DISTRIBUTION, drawn, open_candidate, random_tree


def expected_frontier(tree: TokenTree, stored_below: float = 0.995) -> set[tuple[int, ...]]:
    """By brute force: every (path, token) of a stored step that no segment holds."""
    held: set[tuple[int, ...]] = set()
    steps: set[tuple[int, ...]] = set()
    for segment in tree.segments:
        path = segment.path()
        for end in range(len(path) + 1):
            held.add(tuple(path[:end]))
        for end in range(segment.start + (segment.parent is not None), len(path)):
            if max(DISTRIBUTION(tuple(path[:end]))) < stored_below:
                steps.add(tuple(path[:end]))
    return {
        (*step, token)
        for step in steps
        for token in range(VOCABULARY)
        if (*step, token) not in held
    }


def paths(tree: TokenTree, frontier: Candidates) -> list[tuple[int, ...]]:
    segments = [tree.segments[index] for index in frontier.segments]
    return [
        (*segment.path()[:position], int(token))
        for segment, position, token in zip(
            segments, frontier.positions, frontier.token_ids, strict=True
        )
    ]


@pytest.mark.parametrize("stored_below", [0.995, 0.7, 1.1])
@pytest.mark.parametrize("seed", range(12))
def test_candidates_are_the_untried_tokens_of_the_stored_steps(
    seed: int, stored_below: float
) -> None:
    tree = random_tree(seed, stored_below=stored_below)
    frontier = paths(tree, candidates(tree))
    assert len(frontier) == len(set(frontier))
    assert set(frontier) == expected_frontier(tree, stored_below)


@pytest.mark.parametrize("seed", range(12))
def test_columns_follow_from_the_distributions_at_temperature_1(seed: int) -> None:
    """With every step stored, `joint_logprobs` is the log-probability of the whole path."""
    tree = random_tree(seed, stored_below=1.1)
    frontier = candidates(tree)
    for index, path in enumerate(paths(tree, frontier)):
        chances = [DISTRIBUTION(path[:end])[path[end]] for end in range(len(path))]
        assert frontier.probabilities[index] == pytest.approx(chances[-1], rel=1e-4)
        assert frontier.joint_logprobs[index] == pytest.approx(
            sum(map(math.log, chances)), rel=1e-4
        )
        probabilities = np.array(DISTRIBUTION(path[:-1]))
        surprisal = -np.log(probabilities)
        entropy = float((probabilities * surprisal).sum())
        variance = float((probabilities * (surprisal - entropy) ** 2).sum())
        uniform = float(np.mean(np.log(1 / VOCABULARY) + surprisal))
        assert frontier.entropies[index] == pytest.approx(entropy, rel=1e-4)
        assert frontier.varentropies[index] == pytest.approx(variance, rel=1e-3, abs=1e-5)
        assert frontier.uniform_kl[index] == pytest.approx(uniform, rel=1e-4, abs=1e-5)


def test_reshaping_cuts_by_min_p_before_it_tempers() -> None:
    logprobs = np.log(np.array([[0.7, 0.2, 0.07, 0.03]], np.float32))
    weights = np.array([0.7, 0.2, 0.07, 0.0]) ** (1 / 1.5)
    flat = np.exp(Reshaping(temperature=1.5, min_p=0.05)(logprobs))[0]
    assert flat == pytest.approx(weights / weights.sum(), rel=1e-4)
    assert np.exp(NO_RESHAPING(logprobs))[0] == pytest.approx([0.7, 0.2, 0.07, 0.03], rel=1e-4)


def test_expected_remaining_is_the_mean_of_the_longer_sequences() -> None:
    tree = random_tree(5, num_branches=6)
    frontier = candidates(tree)
    ends = [segment.end for segment in tree.segments if segment.finish_reason]
    for position, remaining in zip(frontier.positions, frontier.remaining, strict=True):
        beyond = [end - position for end in ends if end > position]
        assert remaining == pytest.approx(np.mean(beyond) if beyond else 1)


def test_tokens_after_the_reasoning_are_no_candidates() -> None:
    seed = next(n for n in range(50) if len(single(n).segments[0].token_ids) > 4)
    tree = single(seed)
    close = tree.segments[0].token_ids[2]
    position = tree.segments[0].token_ids.index(close)
    closing = TokenTree(
        [9], max_new_tokens=9, policy=StepRecorder(stored_below=1.1), reasoning_end=[close]
    )
    root = closing.open_root()
    closing.append(root, drawn((), 9, seed), num_asked=9)
    assert candidates(tree).positions.max() > position
    assert candidates(closing).positions.max() == position


def single(seed: int) -> TokenTree:
    return random_tree(seed, num_branches=0, stored_below=1.1)


def test_a_forced_stop_token_finishes_a_sequence_without_a_request() -> None:
    tree = random_tree(2, num_branches=0, stored_below=1.1)
    frontier = candidates(tree)
    ends = np.flatnonzero(frontier.token_ids == EOS)
    before = tree.spent.requests
    segment = open_candidate(tree, frontier, int(ends[0]))
    assert (segment.finish_reason, tree.spent.requests) == ("stop", before)
    assert len(candidates(tree)) == len(frontier) - 1


@pytest.mark.parametrize(
    ("order", "temperature", "top_p", "stored_below"),
    [
        ("best_first", 1.2, 1.0, CERTAIN),
        ("trie_parallel", 1.0, 0.95, CERTAIN),
        ("trie_parallel", 1.2, 0.95, math.inf),
        ("trie_parallel", 0.6, 0.999, math.inf),
        ("swor", 0.6, 0.95, math.inf),
    ],
)
def test_searches_store_the_steps_that_are_not_certain_for_their_sampling(
    order: str, temperature: float, top_p: float, stored_below: float
) -> None:
    sampling = SamplingConfig(temperature=temperature, top_p=top_p)
    recorder = search_of(order, sampling=sampling).policy()
    assert isinstance(recorder, StepRecorder)
    assert recorder.stored_below == stored_below


def test_a_stored_step_takes_168_bytes_at_20_tokens() -> None:
    ids, logprobs = np.zeros((3, 20), np.int32), np.zeros((3, 20), np.float32)
    steps = Steps(np.zeros(3, np.int32), ids, logprobs, np.ones(3, np.float32))
    assert sum(array.nbytes for array in vars(steps).values()) == 3 * 168
