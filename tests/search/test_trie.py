"""The trie of a tree: updated as if it were rebuilt, exact where the nucleus is known."""

from __future__ import annotations

from collections import Counter
from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy.stats import chisquare

from eager_sgl import PromptResult, SamplingConfig
from eager_sgl.search import sampling
from eager_sgl.search.trie import Trie, TrieSegment
from eager_sgl.signals import Floats, top_k_mass_bound
from eager_sgl.tree import TokenTree
from tests.fakes.endpoint import endpoint_of, run_method
from tests.fakes.scripted import VOCABULARY, ScriptedServer, mixed_distribution, tempered
from tests.fakes.searches import search_of

LENGTH = 3


def run(
    server: ScriptedServer, order: str, seed: int = 0, top_k: int = VOCABULARY, **arguments: Any
) -> PromptResult:
    server.restart(seed)
    fields: dict[str, Any] = {"temperature": 0.8, "top_p": 0.9, "max_new_tokens": 6}
    method = search_of(
        order,
        top_k=top_k,
        seed=seed,
        reasoning_end=None,
        max_sequences=arguments.pop("max_sequences", 24),
        width=arguments.pop("width", 3),
        sampling=SamplingConfig(**fields | arguments),
    )
    return run_method(method, endpoint_of(server))


class CheckedTrie(Trie):
    num_checked = 0

    def update(self) -> None:
        super().update()
        if type(self) is not CheckedTrie:
            return
        fresh = Trie(self._tree, self._sampling)
        for segment in self._tree.segments:
            updated, other = self[segment], fresh[segment]
            for name in ("p_stay", "p_leave", "unseen_mass", "taken_ranks", "positions"):
                np.testing.assert_array_equal(getattr(updated, name), getattr(other, name))
            assert updated.exit == other.exit
            assert {s: set(c) for s, c in updated.children.items() if c} == {
                s: set(c) for s, c in other.children.items() if c
            }
        CheckedTrie.num_checked += 1


class CheckedReads(Trie):
    num_checked = 0

    def read(self, node: TrieSegment) -> None:
        super().read(node)
        other = Trie(self._tree, self._sampling)[node.segment]
        for name in ("p_stay", "taken_ranks", "positions"):
            np.testing.assert_array_equal(getattr(node, name), getattr(other, name))
        CheckedReads.num_checked += 1


@pytest.mark.parametrize("model", range(4))
@pytest.mark.parametrize(
    ("order", "trie"), [("swor", CheckedTrie), ("trie_parallel", CheckedReads)]
)
def test_an_updated_trie_equals_a_rebuilt_one(
    order: str,
    trie: type[CheckedTrie] | type[CheckedReads],
    model: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sampling, "Trie", trie)
    before = trie.num_checked
    result = run(ScriptedServer(mixed_distribution(model)), order, max_sequences=40)
    assert len(result.sequences) > 3
    assert trie.num_checked > before + 3


def test_the_unseen_mass_is_that_of_the_sequences_not_drawn() -> None:
    """The probability of the sequences drawn and the unseen mass of the root add up to 1."""
    distribution = mixed_distribution(1)
    rounds: list[tuple[set[tuple[int, ...]], float]] = []
    original = sampling.WithoutReplacementSchedule.open_round

    def open_round(self: sampling.WithoutReplacementSchedule, tree: TokenTree, max_new: int) -> int:
        root = self.trie(tree).root
        drawn = {tuple(s.path()) for s in tree.segments if s.finish_reason is not None}
        rounds.append((drawn, float(root.unseen_mass[0])))
        return original(self, tree, max_new)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampling.WithoutReplacementSchedule, "open_round", open_round)
        run(ScriptedServer(distribution), "swor", width=1)
    assert len(rounds) > 5
    for drawn, unseen in rounds:
        chances = [
            np.prod([tempered(distribution(p[:n]), 0.8, 0.9)[p[n]] for n in range(len(p))])
            for p in drawn
        ]
        assert unseen == pytest.approx(1 - sum(chances), abs=1e-5)


def cut_distribution(path: tuple[int, ...]) -> tuple[float, ...]:
    """At top-p 0.8 three tokens with a mass of 0.9, all of them known at K = 3."""
    return tuple(np.roll((0.5, 0.25, 0.15, 0.07, 0.03), 1 + sum(path) % 4).tolist())


def test_a_nucleus_within_the_known_tokens_is_drawn_exactly() -> None:
    """Renormalised over the K, the third token would be cut off: 0.75 / 0.9 is above 0.8."""
    counts: Counter[tuple[int, ...]] = Counter()
    fields: dict[str, Any] = {"temperature": 1.0, "top_p": 0.8, "max_new_tokens": LENGTH}
    server = ScriptedServer(cut_distribution)
    for seed in range(120):
        result = run(server, "trie_parallel", seed, top_k=3, max_sequences=6, **fields)
        assert result.inexact_steps == 0
        counts.update(sequence.token_ids for sequence in result.sequences)
    expected: dict[tuple[int, ...], float] = {}
    for path in product(range(VOCABULARY), repeat=LENGTH):
        end = path.index(0) + 1 if 0 in path else LENGTH
        steps = [tempered(cut_distribution(path[:n]), 1.0, 0.8)[path[n]] for n in range(end)]
        expected[path[:end]] = float(np.prod(steps))
    assert {path for path in counts if expected[path] == 0} == set()
    kept = [path for path, chance in expected.items() if chance > 0]
    total = sum(counts.values())
    wanted = np.array([expected[path] * total for path in kept])
    assert chisquare([counts[path] for path in kept], wanted).pvalue > 1e-5


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("model", range(3))
def test_steps_whose_nucleus_exceeds_the_known_tokens_are_counted(model: int, raw: bool) -> None:
    """Exactly, given logprobs at the sampling temperature; raw ones may count some more."""
    distribution = mixed_distribution(model)
    server = ScriptedServer(distribution)
    server.logprobs_are_raw = raw
    result = run(server, "swor", top_k=2)
    steps = {
        sequence.token_ids[:end]
        for sequence in result.sequences
        for end in range(len(sequence.token_ids))
    }
    known = sum(int((tempered(distribution(step), 0.8, 0.9) > 0).sum()) > 2 for step in steps)
    assert result.inexact_steps is not None
    assert known > 1
    assert result.inexact_steps >= known if raw else result.inexact_steps == known
    assert result.inexact_steps <= len(steps)
    everything = run(server, "swor", top_k=VOCABULARY, top_p=1.0)
    assert everything.inexact_steps == 0


def test_only_sampling_reports_inexact_steps() -> None:
    server = ScriptedServer(mixed_distribution(0))
    assert run(server, "best_first", top_k=2).inexact_steps is None
    assert run(server, "swor", top_k=2).inexact_steps
    assert run(server, "swor", top_k=2, temperature=0.0).inexact_steps == 0


def test_the_top_k_mass_bound_is_exact_at_the_same_temperature() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(50, 40)) * rng.uniform(0.2, 4, size=(50, 1))

    def logprobs(temperature: float) -> Floats:
        scaled: Floats = logits / temperature
        return -np.sort(-(scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True))), axis=1)

    def mass(temperature: float) -> Floats:
        return np.asarray(np.exp(logprobs(temperature)[:, :10]).sum(axis=1))

    for taken_at, wanted in product([1.0, 0.6], [1.0, 0.6, 0.3, 1.4]):
        bound = top_k_mass_bound(logprobs(taken_at)[:, :10], taken_at=taken_at, wanted=wanted)
        if wanted == taken_at:
            np.testing.assert_allclose(bound, mass(wanted), atol=2e-5)
        else:
            assert (bound <= mass(wanted) + 2e-5).all()
        if wanted < taken_at:
            assert (bound > mass(taken_at) - 2e-5).all()
    assert top_k_mass_bound(logprobs(1.0)[:, :10], taken_at=1.0, wanted=0.0).tolist() == [1.0] * 50
