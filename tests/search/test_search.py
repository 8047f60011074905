"""Searches over the tree of a scripted model: exact where they promise it, and nothing twice."""

from collections import Counter
from functools import cache
from itertools import product

import numpy as np
import pytest
from scipy.stats import chisquare

from eager_sgl import EagerConfig, EagerInit, SamplingConfig, SearchConfig, generate
from eager_sgl.engine.endpoint import TokenEndpoint
from eager_sgl.search import trie
from tests.fakes.scripted import EOS, VOCABULARY, ScriptedServer, mixed_distribution, tempered
from tests.fakes.searches import search_of

SAMPLING = SamplingConfig(temperature=0.8, top_p=0.9, max_new_tokens=4)
ERROR_PROBABILITY = 1e-5
MODELS = range(4)


def run(server, seed, **arguments):
    endpoint = TokenEndpoint(server)
    return run_on(endpoint, server, seed, **arguments)


def run_on(endpoint, server, seed, **arguments):
    server.restart(seed=seed)
    fields = {"max_sequences": 6, "top_k": VOCABULARY, "sampling": SAMPLING, "seed": seed}
    method = search_of(**fields | arguments)
    return generate.run(prompt=(9,), method=method, backend=endpoint).ret_value


@cache
def sequence_distribution(model):
    """The exact probability of every sequence of plain sampling."""
    distribution, found = mixed_distribution(model), {}

    def descend(path, chance):
        if (path and path[-1] == EOS) or len(path) == SAMPLING.max_new_tokens:
            found[path] = chance
            return
        step = tempered(distribution(path), SAMPLING.temperature, SAMPLING.top_p)
        for token in np.flatnonzero(step):
            descend((*path, int(token)), chance * step[token])

    descend((), 1.0)
    return found


def p_value(counts, expected):
    """Of a chi-square test, categories under 5 expected draws taken together."""
    total = sum(counts.values())
    assert set(counts) <= set(expected), "an impossible outcome"
    large = [key for key, chance in expected.items() if chance * total >= 5]
    observed = [counts[key] for key in large]
    wanted = [expected[key] * total for key in large]
    observed.append(total - sum(observed))
    wanted.append(total - sum(wanted))
    if wanted[-1] < 1e-6:
        observed, wanted = observed[:-1], wanted[:-1]
    return chisquare(observed, wanted).pvalue if len(wanted) > 1 else 1.0


def draws(model, order, num_runs, **arguments):
    server = ScriptedServer(mixed_distribution(model))
    endpoint = TokenEndpoint(server)
    for seed in range(num_runs):
        result = run_on(endpoint, server, seed, order=order, **arguments)
        yield [sequence.token_ids for sequence in result.sequences]


@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("model", MODELS)
def test_trie_cached_samples_have_the_distribution_of_plain_sampling(model, width):
    runs = list(draws(model, "trie_parallel", 150, width=width))
    assert all(len(sequences) == 6 for sequences in runs)
    counts = Counter(sequence for sequences in runs for sequence in sequences)
    assert p_value(counts, sequence_distribution(model)) > ERROR_PROBABILITY


def test_a_biased_walk_is_noticed(monkeypatch):
    exact = trie.nucleus
    flat = SamplingConfig(temperature=1.6, top_p=1.0)
    monkeypatch.setattr(
        trie, "nucleus", lambda logprobs, top_k_mass, _: exact(logprobs, top_k_mass, flat)
    )
    counts = Counter(s for sequences in draws(0, "trie_parallel", 150) for s in sequences)
    biased = not set(counts) <= set(sequence_distribution(0))
    assert biased or p_value(counts, sequence_distribution(0)) < ERROR_PROBABILITY


def pair_distribution(model):
    """Of the first two draws without replacement, in order."""
    single = sequence_distribution(model)
    return {
        (one, other): single[one] * single[other] / (1 - single[one])
        for one, other in product(single, repeat=2)
        if one != other
    }


@pytest.mark.parametrize("model", MODELS)
def test_draws_without_replacement_are_exact(model):
    runs = list(draws(model, "swor", 400, width=1, max_sequences=2))
    counts = Counter(tuple(sequences) for sequences in runs if len(sequences) == 2)
    assert p_value(counts, pair_distribution(model)) > ERROR_PROBABILITY


def test_biased_draws_without_replacement_are_noticed(monkeypatch):
    exact = trie.nucleus
    flat = SamplingConfig(temperature=1.2, top_p=SAMPLING.top_p)
    monkeypatch.setattr(
        trie, "nucleus", lambda logprobs, top_k_mass, _: exact(logprobs, top_k_mass, flat)
    )
    runs = list(draws(1, "swor", 400, width=1, max_sequences=2))
    counts = Counter(tuple(sequences) for sequences in runs if len(sequences) == 2)
    expected = pair_distribution(1)
    assert not set(counts) <= set(expected) or p_value(counts, expected) < ERROR_PROBABILITY


@pytest.mark.parametrize("order", ["best_first", "swor"])
@pytest.mark.parametrize("model", MODELS)
def test_no_path_is_opened_twice(model, order):
    server = ScriptedServer(mixed_distribution(model))
    for seed in range(20):
        result = run(server, seed, order=order, width=3, max_sequences=12)
        paths = [sequence.token_ids for sequence in result.sequences]
        assert len(set(paths)) == len(paths)


@pytest.mark.parametrize("order", ["best_first", "swor", "trie_parallel"])
def test_nothing_is_discarded_and_prefixes_come_from_the_cache(order):
    server = ScriptedServer(mixed_distribution(2))
    result = run(server, 1, order=order, max_sequences=8, width=4)
    counts = result.counts
    assert counts.discarded == 0
    assert counts.prefilled == counts.requests
    assert counts.naive == sum(len(sequence.token_ids) for sequence in result.sequences)
    for sequence in result.sequences:
        if sequence.parent is not None:
            before = result.sequences[sequence.parent].token_ids[: sequence.branch.position]
            assert sequence.token_ids[: len(before)] == before
            taken, chosen = sequence.branch.token_ids
            assert sequence.token_ids[len(before)] == chosen != taken


def test_everything_there_is_ends_a_search():
    """A model with few sequences is drawn to the last of them, however large M is."""
    few = ScriptedServer(lambda path: (0.6 - 3e-9, 0.4, 1e-9, 1e-9, 1e-9))
    result = run(few, 0, order="swor", max_sequences=100, width=2)
    assert len(result.sequences) == 5  # 0, 10, 110, 1110, 1111
    best = run(few, 0, priority="entropy", max_sequences=100, width=2, reasoning_end=None)
    assert {s.token_ids for s in best.sequences} == {s.token_ids for s in result.sequences}


@pytest.mark.parametrize("order", ["best_first", "swor"])
def test_a_round_never_opens_more_than_there_are_sequences(order):
    sizes = []
    method = search_of(
        order,
        stop=lambda _, leaves: sizes.append(len(leaves)),
        width=4,
        max_sequences=15,
        top_k=VOCABULARY,
        sampling=SAMPLING,
    )
    backend = TokenEndpoint(ScriptedServer(mixed_distribution(3)))
    generate.run(prompt=(9,), method=method, backend=backend)
    assert sizes == [1, 2, 4, 8, 12]


def test_a_budget_and_a_stop_rule_end_a_search():
    server = ScriptedServer(mixed_distribution(3))
    long = run(server, 4, width=1, max_sequences=30)
    short = run(server, 4, width=1, max_sequences=30, max_tokens=8)
    assert 8 <= short.counts.generated < 8 + 4 < long.counts.generated
    assert [s.token_ids for s in short.sequences] == [
        s.token_ids for s in long.sequences[: len(short.sequences)]
    ]
    endpoint = TokenEndpoint(server)
    server.restart(seed=4)
    method = search_of(
        stop=lambda tree, leaves: len(leaves) >= 3, top_k=VOCABULARY, sampling=SAMPLING, width=1
    )
    state = generate.run(prompt=(9,), method=method, backend=endpoint)
    assert len(state.ret_value.sequences) == 3


def test_the_best_entries_are_opened_in_order():
    """At width 1 every opened entry has the highest value of all that were untried then."""
    server = ScriptedServer(mixed_distribution(1))
    result = run(server, 2, width=1, max_sequences=10, priority="entropy")
    values = [sequence.branch.priority for sequence in result.sequences[1:]]
    entropies = [sequence.branch.entropy for sequence in result.sequences[1:]]
    assert values == pytest.approx(entropies)
    root = result.sequences[0]
    known = [h for h in root.entropies if h == h]
    assert values[0] == pytest.approx(max(known), rel=1e-4)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"width": 0}, "width is 0"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"top_k": 1}, "top_k is 1"),
        ({"max_sequences": 0}, "max_sequences is 0"),
    ],
)
def test_a_wrong_search_names_the_value(arguments, said):
    with pytest.raises(ValueError, match=said):
        SearchConfig(**arguments)


def test_eager_and_searches_run_the_same_program():
    server = ScriptedServer(mixed_distribution(1))
    config = EagerConfig(threshold=0.8, top_k=VOCABULARY, sampling=SAMPLING)
    state = generate.run(prompt=(9,), method=EagerInit(config), backend=TokenEndpoint(server))
    assert state.ret_value.max_sequences == 32
