"""Which forks of a tree are redundant, and the order in which priorities open its candidates."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from collections.abc import Sequence as Items
from typing import Any

import numpy as np
import pytest

from eager_sgl import PromptResult, SamplingConfig, Sequence
from eager_sgl.core import BranchPoint, Generation, TopLogprobs
from eager_sgl.search.frontier import Candidates, StepRecorder, candidates
from eager_sgl.search.priorities import PRIORITIES, EarlyPeaks
from eager_sgl.search.redundancy import Divergent, Novel, _Options, divergence, recurrences
from eager_sgl.signals import Floats
from eager_sgl.tree import Draw, Segment, TokenTree
from tests.fakes.endpoint import endpoint_of, run_method
from tests.fakes.scripted import (
    EOS,
    VOCABULARY,
    Distribution,
    ScriptedServer,
    mixed_distribution,
)
from tests.fakes.searches import search_of
from tests.fakes.trees import open_candidate

Path = tuple[int, ...]
Discount = Callable[[Path, int], float]
SO, THEN, PLUS, MINUS = 11, 12, 21, 22
REDUNDANT = {SO: 0.5, THEN: 0.5}
DECISION = {PLUS: 0.6, MINUS: 0.4}
HORIZON = 12
RARE = 1e-9


def drawn(tokens: list[int], *distributions: dict[int, float]) -> Generation:
    """A generation of tokens, drawn from the distributions as far as given, then certain."""
    rows = [*distributions, *({token: 1.0} for token in tokens[len(distributions) :])]
    width = max(4, *map(len, rows))
    ids, chances = np.zeros((len(tokens), width), np.int32), np.zeros((len(tokens), width))
    for step, row in enumerate(rows):
        best = sorted(row, key=lambda token: -row[token])
        ids[step] = [*best, *range(100, 100 + width - len(best))]
        chances[step, : len(best)] = [row[token] for token in best]
    with np.errstate(divide="ignore"):
        top = TopLogprobs(ids, np.log(chances).astype(np.float32), temperature=1.0)
    return Generation(tuple(tokens), "stop", 1, 0, top=top)


def tree_of(generation: Generation) -> TokenTree:
    tree = TokenTree([9], max_new_tokens=50, policy=StepRecorder())
    tree.append(tree.open_root(), generation, num_asked=50)
    return tree


def fork(tree: TokenTree, position: int, token: int, generation: Generation) -> Segment:
    """Open a token at a step of any segment, and draw the rest."""
    frontier = candidates(tree)
    matches = (frontier.positions == position) & (frontier.token_ids == token)
    segment = open_candidate(tree, frontier, int(np.flatnonzero(matches)[0]))
    tree.append(segment, generation, num_asked=50)
    return segment


def two_words() -> TokenTree:
    """so + so 5 end: a word, a decision, a word, and the result."""
    return tree_of(drawn([SO, PLUS, SO, 5, EOS], REDUNDANT, DECISION, REDUNDANT))


def by_candidate(frontier: Candidates, values: Floats) -> dict[tuple[int, int, int], float]:
    """Finite values by segment, position and token."""
    rows = zip(frontier.segments, frontier.positions, frontier.token_ids, values, strict=True)
    return {(int(s), int(p), int(t)): float(value) for s, p, t, value in rows if value > -math.inf}


def test_a_token_taken_from_the_same_options_recurs() -> None:
    tree = two_words()
    frontier = candidates(tree)
    assert by_candidate(frontier, recurrences(frontier)) == {
        (0, 0, THEN): 0,
        (0, 1, MINUS): 0,
        (0, 2, THEN): 0,
    }
    fork(tree, 0, THEN, drawn([PLUS, SO, 5, EOS], DECISION, {SO: 0.45, THEN: 0.55}))
    frontier = candidates(tree)
    assert by_candidate(frontier, recurrences(frontier)) == {
        (0, 1, MINUS): 0,
        (0, 2, THEN): 1,
        (1, 1, MINUS): 0,
        (1, 2, THEN): 1,
    }
    fork(tree, 1, MINUS, drawn([THEN, 4, EOS], REDUNDANT))
    frontier = candidates(tree)
    times = by_candidate(frontier, recurrences(frontier))
    assert times[0, 2, THEN] == 2
    assert times.pop((1, 1, MINUS)) == 1, "taken on one branch, no longer new on the other"


def test_unlikely_tokens_are_no_options() -> None:
    tree = tree_of(drawn([SO, SO, EOS], {SO: 0.55, THEN: 0.4, 30: 0.05}, REDUNDANT))
    frontier = candidates(tree)
    assert by_candidate(frontier, recurrences(frontier)) == {
        (0, 0, THEN): 0,
        (0, 0, 30): 0,
        (0, 1, THEN): 0,
    }
    fork(tree, 0, THEN, drawn([SO, EOS], {SO: 0.6, 30: 0.4}))
    frontier = candidates(tree)
    times = by_candidate(frontier, recurrences(frontier))
    assert times[0, 1, THEN] == 1
    assert times[1, 1, 30] == 0, "other options, the same token"


def test_flat_steps_have_their_most_likely_tokens_as_options() -> None:
    """Where no token has a tenth, the most likely ones are the options."""
    words, others = dict.fromkeys(range(40, 52), 1 / 12), dict.fromkeys(range(60, 72), 1 / 12)
    tree = tree_of(drawn([40, 60, 41, EOS], words, others, words))
    frontier = candidates(tree)
    options = _Options(tree)
    assert options.at(0, 0) == options.at(0, 2) != options.at(0, 1)
    assert set(options.of(frontier)) == {options.at(0, 0), options.at(0, 1)}


def test_divergence_is_zero_where_both_sequences_continue_alike() -> None:
    tree = two_words()
    child = fork(tree, 0, THEN, drawn([PLUS, SO, 5, EOS], DECISION, REDUNDANT))
    assert divergence(child, HORIZON) == pytest.approx(0, abs=1e-6)


def test_divergence_is_the_largest_distance_up_to_the_next_difference() -> None:
    tree = two_words()
    child = fork(tree, 0, THEN, drawn([PLUS, SO, 6, EOS], {PLUS: 0.9, MINUS: 0.1}, REDUNDANT))
    assert divergence(child, horizon=1) == pytest.approx(0.3)
    assert divergence(child, horizon=2) == pytest.approx(0.3)
    assert divergence(child, horizon=3) == pytest.approx(1), "5 is certain here, 6 there"
    tree = two_words()
    other = fork(tree, 0, THEN, drawn([MINUS, SO, 6, EOS], {PLUS: 0.4, MINUS: 0.6}, REDUNDANT))
    assert divergence(other, HORIZON) == pytest.approx(0.2), "6 may depend on the minus before it"


def test_a_fork_without_further_tokens_counts_as_a_decision() -> None:
    tree = TokenTree([9], max_new_tokens=50, policy=StepRecorder(), is_stop=lambda t: t == EOS)
    tree.append(tree.open_root(), drawn([SO, 5, EOS], {SO: 0.6, EOS: 0.4}), num_asked=50)
    child = open_candidate(tree, candidates(tree), 0)
    assert child.finish_reason == "stop"
    assert divergence(child, HORIZON) == 1


def test_forks_at_the_same_options_share_their_discount() -> None:
    tree, base = two_words(), EarlyPeaks()
    first = candidates(tree)
    assert Divergent(base)(first) == pytest.approx(base(first)), "no fork yet"
    fork(tree, 0, THEN, drawn([PLUS, SO, 5, EOS], DECISION, REDUNDANT))
    fork(tree, 1, MINUS, drawn([SO, 3, EOS], REDUNDANT))  # of the root, which comes first
    frontier = candidates(tree)
    change = by_candidate(frontier, Divergent(base)(frontier) - base(frontier))
    assert change[0, 2, THEN] == pytest.approx(math.log((1 + 0) / 2))
    assert change[1, 1, MINUS] == pytest.approx(math.log((1 + 1) / 2))


def words_and_decisions(path: Path) -> tuple[float, ...]:
    """At even steps a redundant word, at odd steps a decision on which later ones depend."""
    chances = [RARE] * VOCABULARY
    if len(path) >= 6:
        chances[EOS] = 1
    elif len(path) % 2 == 0:
        chances[2] = chances[3] = 0.5
    else:
        chance = (0.6, 0.55, 0.7)[sum(token == 4 for token in path[1::2])]
        chances[len(path) // 2 + 1], chances[4] = chance, 1 - chance
    return tuple(chances)


SAMPLING = SamplingConfig(temperature=0.8, top_p=0.9, max_new_tokens=8)


def run(distribution: Distribution, seed: int, priority: str, **arguments: Any) -> PromptResult:
    server = ScriptedServer(distribution)
    server.restart(seed=seed)
    fields: dict[str, Any] = {"max_sequences": 10, "width": 1, "top_k": VOCABULARY}
    fields["sampling"] = SAMPLING
    method = search_of(**fields | {"priority": priority} | arguments)
    return run_method(method, endpoint_of(server))


def options_of(distribution: Distribution, path: Path) -> frozenset[int]:
    return frozenset(token for token, chance in enumerate(distribution(path)) if chance >= 0.1)


def tried(sequences: Iterable[Sequence]) -> set[tuple[Path, int]]:
    """Every (path, token) that a sequence holds."""
    return {(s.token_ids[:at], token) for s in sequences for at, token in enumerate(s.token_ids)}


def choices(distribution: Distribution, sequences: Iterable[Sequence]) -> set[tuple[Path, int]]:
    """The tried pairs whose step is stored."""
    return {(p, token) for p, token in tried(sequences) if max(distribution(p)) < 0.995}


def early_peak(distribution: Distribution, path: Path) -> float:
    chances = [chance for chance in distribution(path) if chance]
    return math.log(-sum(chance * math.log(chance) for chance in chances)) - len(path) / 40


def best_untried(
    distribution: Distribution, sequences: Iterable[Sequence], discount: Discount
) -> float:
    """The highest value of an untried token, by brute force over all paths."""
    held, values = tried(sequences), []
    for path in {path for path, _ in choices(distribution, sequences)}:
        chances = distribution(path)
        left = [t for t in range(VOCABULARY) if chances[t] >= 0.02 and (path, t) not in held]
        if left:
            token = max(left, key=lambda t: chances[t])
            values.append(early_peak(distribution, path) + discount(path, token))
    return max(values)


def by_recurrence(distribution: Distribution, sequences: Items[Sequence]) -> Discount:
    taken = Counter(
        (options_of(distribution, path), token) for path, token in choices(distribution, sequences)
    )
    return lambda path, token: -math.log1p(taken[options_of(distribution, path), token])


def expected(distribution: Distribution, path: Path, at: int) -> Iterable[float]:
    """The distribution at a position; certain where the step is not stored."""
    chances = distribution(path[:at])
    if max(chances) < 0.995:
        return chances
    return [float(token == path[at]) for token in range(VOCABULARY)]


def by_divergence(distribution: Distribution, sequences: Items[Sequence]) -> Discount:
    divergences: dict[frozenset[int], list[float]] = {}
    for branched in sequences[1:]:
        assert branched.parent is not None
        assert branched.branch is not None
        parent, start = sequences[branched.parent].token_ids, branched.branch.position
        distances = []
        for at in range(start + 1, min(len(parent), len(branched.token_ids), start + 1 + HORIZON)):
            both = (expected(distribution, path, at) for path in (branched.token_ids, parent))
            distances.append(sum(abs(p - q) for p, q in zip(*both, strict=True)) / 2)
            if branched.token_ids[at] != parent[at]:
                break
        options = options_of(distribution, parent[:start])
        divergences.setdefault(options, [1.0]).append(max(distances, default=1.0))

    def discount(path: Path, token: int) -> float:
        return math.log(np.mean(divergences.get(options_of(distribution, path), [1.0])))

    return discount


@pytest.mark.parametrize(
    ("name", "discounts"),
    [("novel_early_peaks", by_recurrence), ("divergent_early_peaks", by_divergence)],
)
@pytest.mark.parametrize("distribution", [words_and_decisions, *map(mixed_distribution, range(3))])
def test_the_best_is_opened_at_every_turn(
    name: str,
    discounts: Callable[[Distribution, Items[Sequence]], Discount],
    distribution: Distribution,
) -> None:
    """The opened token has the highest value that brute force finds at its turn."""
    for seed in range(5):
        sequences = run(distribution, seed, name, reasoning_end=None).sequences
        assert len(sequences) > 1
        for turn in range(1, len(sequences)):
            before = sequences[:turn]
            best = best_untried(distribution, before, discounts(distribution, before))
            branch = sequences[turn].branch
            assert branch is not None
            assert branch.priority == pytest.approx(best, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "positions"),
    [
        ("early_peaks", [0, 2, 2, 1, 2, 1, 2]),
        ("novel_early_peaks", [1, 3, 5, 3, 5, 5, 0]),
        ("divergent_early_peaks", [0, 1, 3, 5, 3, 2, 1]),
    ],
)
def test_redundant_words_are_left_once_they_are_known(name: str, positions: list[int]) -> None:
    """Even positions are words. The first sequence holds both of them, so none is new."""
    result = run(words_and_decisions, 4, name, max_sequences=8, reasoning_end=None)
    assert [point.position for point in result.branch_points] == positions


@pytest.mark.parametrize("name", ["novel_early_peaks", "divergent_early_peaks"])
@pytest.mark.parametrize("model", range(3))
def test_no_path_is_opened_twice(name: str, model: int) -> None:
    for seed in range(10):
        sequences = run(mixed_distribution(model), seed, name, width=3, max_sequences=12).sequences
        paths = [sequence.token_ids for sequence in sequences]
        assert len(set(paths)) == len(paths)


def test_a_branch_that_the_server_drew_at_a_step_without_options_is_passed_over() -> None:
    """Such steps are not stored; a utility may value the tree of a search that draws."""
    tree = tree_of(drawn([SO, PLUS, 5, EOS], REDUNDANT, DECISION))
    root, token = tree.segments[0], 77
    segment = tree.draw(root, 2, Draw((5,), 0.999))
    tree.append(segment, Generation((token,), "length", 1, 0), num_asked=1)
    tree.accept(segment, BranchPoint(2, 0.0, (5, token), (0.999, 0.001), (-0.001, -6.9), 5))
    frontier = candidates(tree)
    expected = EarlyPeaks()(frontier)
    for priority in (Novel(EarlyPeaks()), Divergent(EarlyPeaks())):
        assert priority(frontier).tolist() == expected.tolist()


def test_wrappers_keep_the_reshaping_of_the_base_priority() -> None:
    flat = PRIORITIES["flat_joint_cost"]
    assert Novel(flat).reshaping is flat.reshaping
    assert Divergent(flat).reshaping is flat.reshaping
