"""What walks know of a tree: the same as if it were looked at anew, and where it is not enough."""

from collections import Counter
from itertools import product

import numpy as np
import pytest
from scipy.stats import chisquare

from eager_sgl import SamplingConfig, generate
from eager_sgl.engine.endpoint import TokenEndpoint
from eager_sgl.search import sampling as walks
from eager_sgl.search.trie import Trie
from eager_sgl.signals import top_k_mass_bound
from tests.fakes.scripted import VOCABULARY, ScriptedServer, mixed_distribution, tempered
from tests.fakes.searches import search_of

LENGTH = 3


def run(server, order, seed=0, top_k=VOCABULARY, **arguments):
    server.restart(seed)
    fields = {"temperature": 0.8, "top_p": 0.9, "max_new_tokens": 6}
    method = search_of(
        order,
        top_k=top_k,
        seed=seed,
        reasoning_end=None,
        max_sequences=arguments.pop("max_sequences", 24),
        width=arguments.pop("width", 3),
        sampling=SamplingConfig(**fields | arguments),
    )
    return generate.run(prompt=(9,), method=method, backend=TokenEndpoint(server)).ret_value


class CheckedTrie(Trie):
    num_checked = 0

    def update(self):
        super().update()
        if type(self) is not CheckedTrie:
            return
        fresh = Trie(self._tree, self._sampling)
        for segment in self._tree.segments:
            one, other = self[segment], fresh[segment]
            for name in ("stay", "leave", "unseen", "taken_ranks", "positions"):
                np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
            assert one.place == other.place
            assert {s: set(c) for s, c in one.children.items() if c} == {
                s: set(c) for s, c in other.children.items() if c
            }
        CheckedTrie.num_checked += 1


@pytest.mark.parametrize("order", ["swor", "trie_parallel"])
@pytest.mark.parametrize("model", range(4))
def test_what_is_brought_up_to_date_is_what_would_be_built_anew(order, model, monkeypatch):
    monkeypatch.setattr(walks, "Trie", CheckedTrie)
    before = CheckedTrie.num_checked
    result = run(ScriptedServer(mixed_distribution(model)), order, max_sequences=40)
    assert len(result.sequences) > 3
    assert CheckedTrie.num_checked > before + 3


def test_what_is_left_to_draw_is_what_no_sequence_holds():
    """The chance of all sequences that were drawn, and what the trie says is unseen, make 1."""
    distribution = mixed_distribution(1)
    found = []
    original = walks.WithoutReplacementSchedule.open_round

    def open_round(self, tree, room):
        root = self.trie(tree).root
        drawn = {tuple(s.path()) for s in tree.segments if s.finish_reason is not None}
        found.append((drawn, float(root.unseen[0])))
        return original(self, tree, room)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(walks.WithoutReplacementSchedule, "open_round", open_round)
        run(ScriptedServer(distribution), "swor", width=1)
    assert len(found) > 5
    for drawn, unseen in found:
        chances = [
            np.prod([tempered(distribution(p[:n]), 0.8, 0.9)[p[n]] for n in range(len(p))])
            for p in drawn
        ]
        assert unseen == pytest.approx(1 - sum(chances), abs=1e-5)


def cut_distribution(path):
    """At top-p 0.8 three tokens; they have 0.9 together, so that K = 3 knows them all."""
    return tuple(np.roll((0.5, 0.25, 0.15, 0.07, 0.03), 1 + sum(path) % 4))


def test_a_nucleus_within_the_known_tokens_is_exact_though_they_are_not_all():
    """Renormalised over the K, the third token would be cut off: 0.75 / 0.9 is above 0.8."""
    counts, sampling = Counter(), {"temperature": 1.0, "top_p": 0.8, "max_new_tokens": LENGTH}
    server = ScriptedServer(cut_distribution)
    for seed in range(120):
        result = run(server, "trie_parallel", seed, top_k=3, max_sequences=6, **sampling)
        assert result.inexact_steps == 0
        counts.update(sequence.token_ids for sequence in result.sequences)
    expected = {}
    for path in product(range(VOCABULARY), repeat=LENGTH):
        end = path.index(0) + 1 if 0 in path else LENGTH
        chance = np.prod(
            [tempered(cut_distribution(path[:n]), 1.0, 0.8)[path[n]] for n in range(end)]
        )
        expected[path[:end]] = chance
    assert {path for path in counts if expected[path] == 0} == set()
    kept = [path for path, chance in expected.items() if chance > 0]
    total = sum(counts.values())
    wanted = np.array([expected[path] * total for path in kept])
    assert chisquare([counts[path] for path in kept], wanted).pvalue > 1e-5


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("model", range(3))
def test_steps_whose_nucleus_goes_beyond_the_known_tokens_are_counted(model, raw):
    """With logprobs of the sampled temperature exactly those; with raw ones perhaps some more."""
    distribution = mixed_distribution(model)
    server = ScriptedServer(distribution)
    server.logprobs_are_raw = raw
    result = run(server, "trie_parallel", top_k=2)
    steps = {
        sequence.token_ids[:end]
        for sequence in result.sequences
        for end in range(len(sequence.token_ids))
    }
    # What a walk set by hand is held by a sequence, but its step is the parent's.
    known = sum((tempered(distribution(step), 0.8, 0.9) > 0).sum() > 2 for step in steps)
    assert known > 1
    assert result.inexact_steps >= known if raw else result.inexact_steps == known
    assert result.inexact_steps <= len(steps)
    everything = run(server, "trie_parallel", top_k=VOCABULARY, top_p=1.0)
    assert everything.inexact_steps == 0


def test_only_walks_tell():
    server = ScriptedServer(mixed_distribution(0))
    assert run(server, "best_first", top_k=2).inexact_steps is None
    assert run(server, "swor", top_k=2).inexact_steps > 0
    assert run(server, "swor", top_k=2, temperature=0.0).inexact_steps == 0


def test_the_least_mass_is_a_bound_and_exact_at_the_same_temperature():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(50, 40)) * rng.uniform(0.2, 4, size=(50, 1))

    def logprobs(temperature):
        scaled = logits / temperature
        return -np.sort(-(scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True))), axis=1)

    def mass(temperature):
        return np.exp(logprobs(temperature)[:, :10]).sum(axis=1)

    for taken_at, wanted in product([1.0, 0.6], [1.0, 0.6, 0.3, 1.4]):
        found = top_k_mass_bound(logprobs(taken_at)[:, :10], taken_at=taken_at, wanted=wanted)
        if wanted == taken_at:
            np.testing.assert_allclose(found, mass(wanted), atol=2e-5)
        else:
            assert (found <= mass(wanted) + 2e-5).all()
        if wanted < taken_at:
            assert (found > mass(taken_at) - 2e-5).all()
    assert top_k_mass_bound(logprobs(1.0)[:, :10], taken_at=1.0, wanted=0.0).tolist() == [1.0] * 50
