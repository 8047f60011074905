"""The curves of prompts, by brute force."""

import math
from dataclasses import replace
from itertools import combinations, permutations

import numpy as np
import pytest

from eager_sgl.core import TokenCounts
from evals.analysis.curves import curve_of, tokens_to_first_correct
from evals.analysis.figures_at_k import figures_at_k
from evals.analysis.prompt_curves import prompt_curves
from evals.records.plan import NESTED
from evals.records.record import PromptRecord
from tests.evals.fakes.build import BRANCH, record
from tests.evals.fakes.solved_prompts import prompts

PATHS = [(1, 2, 3), (1, 2, 4), (1, 5), (1, 2, 3), (6, 7, 8, 9)]


CORRECT = [False, True, False, False, True]


def five_samples(method: str = "trie_parallel") -> PromptRecord:
    """Five samples: the second, third and fifth opened a path, the fourth walked to an end."""
    base = record(CORRECT, method=method, threshold=None)
    leaves = {1: 2, 2: 1, 4: 0}
    sequences = tuple(
        replace(
            sequence,
            token_ids=path,
            parent=0 if number in leaves else None,
            branch=replace(BRANCH, position=leaves[number]) if number in leaves else None,
        )
        for number, (sequence, path) in enumerate(zip(base.sequences, PATHS, strict=True))
    )
    counts = TokenCounts(generated=6 if method == "trie_parallel" else 9)
    return replace(base, sequences=sequences, max_sequences=5, counts=counts)


def test_trie_cached_samples_cost_the_distinct_tokens_of_any_k_of_them() -> None:
    curve = curve_of(five_samples())
    opened = {(1, 2, 4), (1, 5), (6,)}
    for k in range(6):
        costs = []
        for chosen in combinations(PATHS, k):
            held = {path[:end] for path in chosen for end in range(1, len(path) + 1)}
            costs.append(len(held - opened))
        assert curve.tokens[k] == pytest.approx(np.mean(costs))
    assert curve.passes[1] == pytest.approx(2 / 5)


def test_a_search_is_its_own_first_part() -> None:
    curve = curve_of(five_samples("best_first"))
    assert curve.tokens.tolist() == [0, 3, 3, 3, 6, 9]
    assert curve.passes.tolist() == [0, 0, 1, 1, 1, 1]


@pytest.mark.parametrize("method", NESTED)
def test_every_curve_ends_at_what_the_prompt_cost(method: str) -> None:
    """Also of tokens that no sequence holds, such as those of samples that a vote has left."""
    curve = curve_of(five_samples(method))
    more = replace(five_samples(method), counts=TokenCounts(generated=90))
    tokens = curve_of(more).tokens
    assert tokens[-1] == 90
    assert tokens.tolist() == pytest.approx((curve.tokens * 90 / curve.tokens[-1]).tolist())
    assert figures_at_k(5, [more]).tokens(more) == 90
    of_none = tuple(replace(s, token_ids=(), parent=None, branch=None) for s in more.sequences)
    evenly = curve_of(replace(more, sequences=of_none)).tokens
    assert evenly.tolist() == pytest.approx([0, 18, 36, 54, 72, 90])


def test_full_parallel_costs_in_proportion() -> None:
    sampled = record(CORRECT, counts=TokenCounts(generated=50))
    curve = curve_of(sampled)
    assert curve.tokens.tolist() == [0, 10, 20, 30, 40, 50]
    assert curve.passes[2] == pytest.approx(1 - math.comb(3, 2) / math.comb(5, 2))


def test_a_verifier_ends_a_search_after_its_round_and_sampling_on_average() -> None:
    sampled = record(CORRECT, counts=TokenCounts(generated=50))
    drawn = [1 + order.index(True) for order in permutations(CORRECT)]
    assert tokens_to_first_correct(sampled, 1, 5) == pytest.approx(10 * np.mean(drawn))
    # What a sample costs is not linear where samples share tokens.
    tokens = curve_of(five_samples()).tokens
    assert tokens_to_first_correct(five_samples(), 1, 5) == pytest.approx(
        np.mean([tokens[number] for number in drawn])
    )
    assert tokens_to_first_correct(sampled, 1, 2) == pytest.approx(
        10 * np.mean([min(number, 2) for number in drawn])
    )
    search = five_samples("best_first")
    assert tokens_to_first_correct(search, 4, 5) == 3  # the root, and the round of one after it
    judged = zip(search.sequences, [False, False, False, True, False], strict=True)
    late = replace(search, sequences=tuple(replace(s, correct=good) for s, good in judged))
    assert tokens_to_first_correct(late, 1, 5) == 6
    assert tokens_to_first_correct(late, 4, 5) == 6  # rounds of 1, 1 and 2
    nothing = replace(sampled, sequences=record([False] * 5).sequences)
    assert tokens_to_first_correct(nothing, 1, 5) == 50


def test_seeds_are_averaged_within_a_prompt() -> None:
    first_seed, second_seed = (
        prompts("best_first", [0, 2], cost=10),
        prompts("best_first", [1, None], cost=30),
    )
    (curves,) = prompt_curves([*first_seed, *(replace(prompt, seed=1) for prompt in second_seed)])
    assert curves.passes[:, :4].tolist() == [[0, 0.5, 1, 1], [0, 0, 0, 0.5]]
    assert curves.tokens[:, 1].tolist() == [20, 20]
