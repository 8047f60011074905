"""What a tree shows of its forks, and the order in which searches that look at it open entries."""

import math
from collections import Counter

import numpy as np
import pytest

from eager_sgl import SamplingConfig, generate
from eager_sgl.core import Generation, TopLogprobs
from eager_sgl.engine.endpoint import TokenEndpoint
from eager_sgl.search.frontier import StepRecorder, candidates
from eager_sgl.search.priorities import PRIORITIES, EarlyPeaks
from eager_sgl.search.redundancy import Divergent, Novel, _Options, divergence, recurrences
from eager_sgl.tree import TokenTree
from tests.fakes.scripted import EOS, VOCABULARY, ScriptedServer, mixed_distribution
from tests.fakes.searches import search_of
from tests.search.test_frontier import open_candidate

SO, THEN, PLUS, MINUS = 11, 12, 21, 22
IDLE = {SO: 0.5, THEN: 0.5}
DECISION = {PLUS: 0.6, MINUS: 0.4}
HORIZON = 12
RARE = 1e-9


def drawn(tokens, *distributions):
    """A generation of tokens, each from a distribution; from where none is given, certain."""
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


def tree_of(generation):
    tree = TokenTree([9], max_new_tokens=50, policy=StepRecorder())
    tree.append(tree.open_root(), generation, num_asked=50)
    return tree


def fork(tree, position, token, generation):
    """Open a token at a step of any segment, and draw what follows."""
    found = candidates(tree)
    places = (found.positions == position) & (found.token_ids == token)
    segment = open_candidate(tree, found, int(np.flatnonzero(places)[0]))
    tree.append(segment, generation, num_asked=50)
    return segment


def two_words():
    """so + so 5 end: a word, a decision, a word, and its result."""
    return tree_of(drawn([SO, PLUS, SO, 5, EOS], IDLE, DECISION, IDLE))


def by_place(found, values):
    places = zip(found.segments, found.positions, found.token_ids, values, strict=True)
    return {
        (int(s), int(p), int(t)): float(value) for s, p, t, value in places if value > -math.inf
    }


def test_a_token_taken_from_the_same_options_recurs():
    tree = two_words()
    found = candidates(tree)
    assert by_place(found, recurrences(found)) == {
        (0, 0, THEN): 0,
        (0, 1, MINUS): 0,
        (0, 2, THEN): 0,
    }
    fork(tree, 0, THEN, drawn([PLUS, SO, 5, EOS], DECISION, {SO: 0.45, THEN: 0.55}))
    found = candidates(tree)
    assert by_place(found, recurrences(found)) == {
        (0, 1, MINUS): 0,
        (0, 2, THEN): 1,
        (1, 1, MINUS): 0,
        (1, 2, THEN): 1,
    }
    fork(tree, 1, MINUS, drawn([THEN, 4, EOS], IDLE))
    found = candidates(tree)
    times = by_place(found, recurrences(found))
    assert times[0, 2, THEN] == 2
    assert times.pop((1, 1, MINUS)) == 1, "one branch has taken it: to the other it is not new"


def test_unlikely_tokens_are_no_options():
    tree = tree_of(drawn([SO, SO, EOS], {SO: 0.55, THEN: 0.4, 30: 0.05}, IDLE))
    found = candidates(tree)
    assert by_place(found, recurrences(found)) == {(0, 0, THEN): 0, (0, 0, 30): 0, (0, 1, THEN): 0}
    fork(tree, 0, THEN, drawn([SO, EOS], {SO: 0.6, 30: 0.4}))
    found = candidates(tree)
    times = by_place(found, recurrences(found))
    assert times[0, 1, THEN] == 1
    assert times[1, 1, 30] == 0, "other options, though the token is the same"


def test_flat_steps_have_options_of_their_own():
    """Where no token has a tenth, the most likely ones are the options."""
    words, others = dict.fromkeys(range(40, 52), 1 / 12), dict.fromkeys(range(60, 72), 1 / 12)
    tree = tree_of(drawn([40, 60, 41, EOS], words, others, words))
    found = candidates(tree)
    options = _Options(tree)
    assert options.at(0, 0) == options.at(0, 2) != options.at(0, 1)
    assert set(options.of(found)) == {options.at(0, 0), options.at(0, 1)}


def test_a_fork_shows_nothing_where_both_go_on_alike():
    tree = two_words()
    child = fork(tree, 0, THEN, drawn([PLUS, SO, 5, EOS], DECISION, IDLE))
    assert divergence(child, HORIZON) == pytest.approx(0, abs=1e-6)


def test_a_consequence_is_the_largest_distance_while_both_say_the_same():
    tree = two_words()
    child = fork(tree, 0, THEN, drawn([PLUS, SO, 6, EOS], {PLUS: 0.9, MINUS: 0.1}, IDLE))
    assert divergence(child, horizon=1) == pytest.approx(0.3)
    assert divergence(child, horizon=2) == pytest.approx(0.3)
    assert divergence(child, horizon=3) == pytest.approx(1), "5 is certain here, 6 there"
    tree = two_words()
    other = fork(tree, 0, THEN, drawn([MINUS, SO, 6, EOS], {PLUS: 0.4, MINUS: 0.6}, IDLE))
    assert divergence(other, HORIZON) == pytest.approx(0.2), "6 may be of the minus before it"


def test_a_fork_with_nothing_behind_it_counts_as_a_decision():
    tree = TokenTree([9], max_new_tokens=50, policy=StepRecorder(), is_stop=lambda t: t == EOS)
    tree.append(tree.open_root(), drawn([SO, 5, EOS], {SO: 0.6, EOS: 0.4}), num_asked=50)
    child = open_candidate(tree, candidates(tree), 0)
    assert child.finish_reason == "stop"
    assert divergence(child, HORIZON) == 1


def test_forks_at_the_same_options_are_judged_together():
    tree, base = two_words(), EarlyPeaks()
    first = candidates(tree)
    assert Divergent(base)(first) == pytest.approx(base(first)), "nothing is known yet"
    fork(tree, 0, THEN, drawn([PLUS, SO, 5, EOS], DECISION, IDLE))
    fork(tree, 1, MINUS, drawn([SO, 3, EOS], IDLE))  # of the root: the first in order
    found = candidates(tree)
    change = by_place(found, Divergent(base)(found) - base(found))
    assert change[0, 2, THEN] == pytest.approx(math.log((1 + 0) / 2))
    assert change[1, 1, MINUS] == pytest.approx(math.log((1 + 1) / 2))


def words_and_decisions(path):
    """At even steps an idle word, at odd steps a decision, on which later ones depend."""
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


def run(distribution, seed, priority, **arguments):
    server = ScriptedServer(distribution)
    server.restart(seed=seed)
    fields = {"max_sequences": 10, "width": 1, "top_k": VOCABULARY, "sampling": SAMPLING}
    method = search_of(**fields | {"priority": priority} | arguments)
    return generate.run(prompt=(9,), method=method, backend=TokenEndpoint(server)).ret_value


def options_of(distribution, path):
    return frozenset(token for token, chance in enumerate(distribution(path)) if chance >= 0.1)


def tried(sequences):
    """Every (path, token) that a sequence holds."""
    return {(s.token_ids[:at], token) for s in sequences for at, token in enumerate(s.token_ids)}


def choices(distribution, sequences):
    """Those of them where the model had a choice."""
    return {(p, token) for p, token in tried(sequences) if max(distribution(p)) < 0.995}


def early_peak(distribution, path):
    chances = [chance for chance in distribution(path) if chance]
    return math.log(-sum(chance * math.log(chance) for chance in chances)) - len(path) / 40


def best_untried(distribution, sequences, discount):
    """The highest value of what is untried, by brute force over all paths."""
    held, values = tried(sequences), []
    for path in {path for path, _ in choices(distribution, sequences)}:
        chances = distribution(path)
        left = [t for t in range(VOCABULARY) if chances[t] >= 0.02 and (path, t) not in held]
        if left:
            token = max(left, key=lambda t: chances[t])
            values.append(early_peak(distribution, path) + discount(path, token))
    return max(values)


def by_recurrence(distribution, sequences):
    taken = Counter(
        (options_of(distribution, path), token) for path, token in choices(distribution, sequences)
    )
    return lambda path, token: -math.log1p(taken[options_of(distribution, path), token])


def expected(distribution, path, at):
    """What counts as certain where the tree does not store it."""
    chances = distribution(path[:at])
    if max(chances) < 0.995:
        return chances
    return [float(token == path[at]) for token in range(VOCABULARY)]


def by_divergence(distribution, sequences):
    shown = {}
    for one in sequences[1:]:
        parent, start = sequences[one.parent].token_ids, one.branch.position
        distances = []
        for at in range(start + 1, min(len(parent), len(one.token_ids), start + 1 + HORIZON)):
            both = (expected(distribution, path, at) for path in (one.token_ids, parent))
            distances.append(sum(abs(p - q) for p, q in zip(*both, strict=True)) / 2)
            if one.token_ids[at] != parent[at]:
                break
        options = options_of(distribution, parent[:start])
        shown.setdefault(options, [1.0]).append(max(distances, default=1.0))
    return lambda path, token: math.log(np.mean(shown.get(options_of(distribution, path), [1.0])))


@pytest.mark.parametrize(
    ("name", "discounts"),
    [("novel_early_peaks", by_recurrence), ("divergent_early_peaks", by_divergence)],
)
@pytest.mark.parametrize("distribution", [words_and_decisions, *map(mixed_distribution, range(3))])
def test_the_best_is_opened_at_every_turn(name, discounts, distribution):
    """What was opened has the highest value that a count over all paths finds at its turn."""
    for seed in range(5):
        sequences = run(distribution, seed, name, reasoning_end=None).sequences
        assert len(sequences) > 1
        for turn in range(1, len(sequences)):
            before = sequences[:turn]
            best = best_untried(distribution, before, discounts(distribution, before))
            assert sequences[turn].branch.priority == pytest.approx(best, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "positions"),
    [
        ("early_peaks", [0, 2, 2, 1, 2, 1, 2]),
        ("novel_early_peaks", [1, 5, 3, 3, 5, 2, 3]),
        ("divergent_early_peaks", [0, 1, 3, 5, 3, 2, 1]),
    ],
)
def test_idle_words_are_left_once_they_are_known(name, positions):
    """Even positions are words. The first sequence holds both of them: none of them is new."""
    arguments = {"max_sequences": 8, "reasoning_end": None}
    result = run(words_and_decisions, 0, name, **arguments)
    assert [sequence.branch.position for sequence in result.sequences[1:]] == positions


@pytest.mark.parametrize("name", ["novel_early_peaks", "divergent_early_peaks"])
@pytest.mark.parametrize("model", range(3))
def test_no_path_is_opened_twice(name, model):
    for seed in range(10):
        sequences = run(mixed_distribution(model), seed, name, width=3, max_sequences=12).sequences
        paths = [sequence.token_ids for sequence in sequences]
        assert len(set(paths)) == len(paths)


def test_they_see_what_the_other_priority_wants_to_see():
    flat = PRIORITIES["flat_joint_cost"]
    assert Novel(flat).reshaping is flat.reshaping
    assert Divergent(flat).reshaping is flat.reshaping
