"""The frontier of trees whose every distribution is known."""

import math
import random

import numpy as np
import pytest

from eager_sgl.config import SamplingConfig
from eager_sgl.core import BranchPoint, Generation, TopLogprobs
from eager_sgl.search.frontier import CERTAIN, NONE, Reshaping, StepRecorder, candidates
from eager_sgl.search.priorities import PRIORITIES, find_priority
from eager_sgl.steps import Steps
from eager_sgl.tree import TokenTree
from tests.fakes.scripted import EOS, VOCABULARY, mixed_distribution
from tests.fakes.searches import search_of

TEMPERATURE = 0.6
DISTRIBUTION = mixed_distribution(3)


def drawn(path, length, seed):
    """A generation after a path, with the top logprobs that a server gives at τ = 0.6."""
    rng = random.Random(seed)
    tokens, ids, logprobs = [], [], []
    for _ in range(length):
        raw = np.array(DISTRIBUTION((*path, *tokens)))
        tempered = raw ** (1 / TEMPERATURE) / (raw ** (1 / TEMPERATURE)).sum()
        order = np.argsort(-tempered, kind="stable")
        ids.append(order)
        logprobs.append(np.log(tempered[order]))
        tokens.append(rng.choices(range(VOCABULARY), tempered)[0])
        if tokens[-1] == EOS:
            break
    return Generation(
        token_ids=tuple(tokens),
        finish_reason="stop" if tokens[-1] == EOS else "length",
        prompt_tokens=1,
        cached_tokens=0,
        top=TopLogprobs(np.array(ids, np.int32), np.array(logprobs, np.float32), TEMPERATURE),
    )


def grow(tree, segment, seed):
    generation = drawn(tuple(segment.path()), tree.remaining(segment), seed)
    tree.append(segment, generation, num_asked=tree.remaining(segment))


def random_tree(seed, num_branches=4, stored_below=0.995, **arguments):
    """A tree whose every segment is drawn to its end, and that leaves others at random places."""
    tree = TokenTree(
        [9],
        max_new_tokens=9,
        policy=StepRecorder(stored_below),
        is_stop=lambda token: token == EOS,
        **arguments,
    )
    grow(tree, tree.open_root(), seed)
    rng = random.Random(seed)
    for number in range(num_branches):
        found = candidates(tree)
        if not len(found):
            break
        segment = open_candidate(tree, found, rng.randrange(len(found)))
        if segment.finish_reason is None:
            grow(tree, segment, seed * 100 + number)
    return tree


def open_candidate(tree, found, index):
    taken, token = int(found.taken_ids[index]), int(found.token_ids[index])
    point = BranchPoint(
        position=int(found.positions[index]),
        entropy=1.0,
        token_ids=(taken, token),
        probabilities=(
            float(found.taken_probabilities[index]),
            float(found.probabilities[index]),
        ),
        logprobs=(0.0, 0.0),
        sampled=taken,
    )
    return tree.branch(tree.segments[found.segments[index]], point, 1)


def expected_frontier(tree, stored_below=0.995):
    """By brute force: every (path, token) of a stored step that no segment holds."""
    held, steps = set(), set()
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


def paths(tree, found):
    segments = [tree.segments[index] for index in found.segments]
    return [
        (*segment.path()[:position], int(token))
        for segment, position, token in zip(segments, found.positions, found.token_ids, strict=True)
    ]


@pytest.mark.parametrize("stored_below", [0.995, 0.7, 1.1])
@pytest.mark.parametrize("seed", range(12))
def test_it_is_every_untried_token_of_every_stored_step_once(seed, stored_below):
    tree = random_tree(seed, stored_below=stored_below)
    found = paths(tree, candidates(tree))
    assert len(found) == len(set(found))
    assert set(found) == expected_frontier(tree, stored_below)


@pytest.mark.parametrize("seed", range(12))
def test_probabilities_are_the_models_own_and_joint_over_the_whole_path(seed):
    """With every step stored, joint is the log-probability of the path at temperature 1."""
    tree = random_tree(seed, stored_below=1.1)
    found = candidates(tree)
    for index, path in enumerate(paths(tree, found)):
        chances = [DISTRIBUTION(path[:end])[path[end]] for end in range(len(path))]
        assert found.probabilities[index] == pytest.approx(chances[-1], rel=1e-4)
        assert found.joint_logprobs[index] == pytest.approx(sum(map(math.log, chances)), rel=1e-4)
        probabilities = np.array(DISTRIBUTION(path[:-1]))
        surprisal = -np.log(probabilities)
        entropy = float((probabilities * surprisal).sum())
        variance = float((probabilities * (surprisal - entropy) ** 2).sum())
        uniform = float(np.mean(np.log(1 / VOCABULARY) + surprisal))
        assert found.entropies[index] == pytest.approx(entropy, rel=1e-4)
        assert found.varentropies[index] == pytest.approx(variance, rel=1e-3, abs=1e-5)
        assert found.uniform_kl[index] == pytest.approx(uniform, rel=1e-4, abs=1e-5)


def test_flattened_distributions_are_those_of_the_formula():
    logprobs = np.log(np.array([[0.7, 0.2, 0.07, 0.03]], np.float32))
    weights = np.array([0.7, 0.2, 0.07, 0.0]) ** (1 / 1.5)
    flat = np.exp(Reshaping(temperature=1.5, min_p=0.05)(logprobs))[0]
    assert flat == pytest.approx(weights / weights.sum(), rel=1e-4)
    assert np.exp(NONE(logprobs))[0] == pytest.approx([0.7, 0.2, 0.07, 0.03], rel=1e-4)


def test_expected_remaining_is_over_the_sequences_that_go_on():
    tree = random_tree(5, num_branches=6)
    found = candidates(tree)
    ends = [segment.end for segment in tree.segments if segment.finish_reason]
    for position, remaining in zip(found.positions, found.remaining, strict=True):
        beyond = [end - position for end in ends if end > position]
        assert remaining == pytest.approx(np.mean(beyond) if beyond else 1)


def test_what_follows_the_reasoning_is_not_part_of_it():
    seed = next(n for n in range(50) if len(single(n).segments[0].token_ids) > 4)
    tree = single(seed)
    close = tree.segments[0].token_ids[2]
    place = tree.segments[0].token_ids.index(close)
    closing = TokenTree(
        [9], max_new_tokens=9, policy=StepRecorder(stored_below=1.1), reasoning_end=[close]
    )
    root = closing.open_root()
    closing.append(root, drawn((), 9, seed), num_asked=9)
    assert candidates(tree).positions.max() > place
    assert candidates(closing).positions.max() == place


def single(seed):
    return random_tree(seed, num_branches=0, stored_below=1.1)


def test_an_end_set_by_hand_is_a_finished_sequence_without_a_request():
    tree = random_tree(2, num_branches=0, stored_below=1.1)
    found = candidates(tree)
    ends = np.flatnonzero(found.token_ids == EOS)
    before = tree.spent.requests
    segment = open_candidate(tree, found, int(ends[0]))
    assert (segment.finish_reason, tree.spent.requests) == ("stop", before)
    assert len(candidates(tree)) == len(found) - 1


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
def test_walks_store_all_steps_that_are_not_certain_for_them(
    order, temperature, top_p, stored_below
):
    sampling = SamplingConfig(temperature=temperature, top_p=top_p)
    recorder = search_of(order, sampling=sampling).policy()
    assert recorder.stored_below == stored_below


def test_a_stored_step_takes_168_bytes_at_20_tokens():
    ids, logprobs = np.zeros((3, 20), np.int32), np.zeros((3, 20), np.float32)
    steps = Steps(np.zeros(3, np.int32), ids, logprobs, np.ones(3, np.float32))
    assert sum(array.nbytes for array in vars(steps).values()) == 3 * 168


@pytest.mark.parametrize("name", PRIORITIES)
def test_a_priority_values_every_candidate(name):
    priority = find_priority(name)
    for seed in range(4):
        found = candidates(random_tree(seed), priority.reshaping)
        values = priority(found)
        assert values.shape == (len(found),)
        assert not np.isnan(values).any()


def test_priorities_follow_their_formulas():
    tree = random_tree(7, num_branches=2)
    plain = candidates(tree)
    early = PRIORITIES["early_peaks"](plain)
    first_seen = set()
    for index in range(len(plain)):
        step = (plain.segments[index], plain.positions[index])
        is_first, likely = step not in first_seen, plain.probabilities[index] >= 0.02
        first_seen.add(step)
        formula = math.log(plain.entropies[index]) - plain.positions[index] / 40
        expected = formula if is_first and likely else -math.inf
        assert early[index] == pytest.approx(expected)
    joint = PRIORITIES["joint_cost"](plain)
    assert joint == pytest.approx(plain.joint_logprobs - np.log(plain.remaining))
    likely = plain.probabilities >= 0.02
    entropy = PRIORITIES["entropy"](plain)
    assert entropy[likely] == pytest.approx(plain.entropies[likely])
    assert np.isneginf(entropy[~likely]).all()


def test_a_priority_by_import_path():
    assert find_priority("eager_sgl.search.priorities:PRIORITIES") is PRIORITIES
    for name in ("magic", "no.such:thing", "eager_sgl.search.priorities:nothing"):
        with pytest.raises(ValueError, match=f"unknown priority '{name}'; there is early_peaks"):
            find_priority(name)
