"""Samples through the trie are exact for any K: the server draws what the tree does not know."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest

from eager_sgl import PromptResult, SamplingConfig, Stop, TrieParallel
from eager_sgl import Sequence as Generated
from eager_sgl.engine.protocol import Json
from eager_sgl.generate.executor import builder
from eager_sgl.search import exits
from eager_sgl.search.frontier import StepRecorder, candidates
from eager_sgl.search.trie import TrieSegment
from eager_sgl.signals import Floats
from eager_sgl.tree import Draw, Segment, TokenTree
from tests.fakes.endpoint import endpoint_of, run_method
from tests.fakes.scripted import (
    VOCABULARY,
    Distribution,
    ScriptedServer,
    mixed_distribution,
    tempered,
)
from tests.fakes.searches import search_of
from tests.search.fits import p_value, sequence_distribution

TOP_K = 2
ERROR_PROBABILITY = 1e-5
WHOLE = SamplingConfig(temperature=1.0, top_p=1.0, max_new_tokens=2)
LAWS = {
    "τ = 1": WHOLE,
    "τ = 0.4": replace(WHOLE, temperature=0.4),
    "τ = 3": replace(WHOLE, temperature=3.0),
    "top-p 0.9": replace(WHOLE, temperature=1.2, top_p=0.9),
    "top-k 2": replace(WHOLE, temperature=1.5, top_k=2),
    "top-k 4": replace(WHOLE, temperature=1.5, top_k=4),
    "top-p 0.9, top-k 3": replace(WHOLE, temperature=2.0, top_p=0.9, top_k=3),
}
GATE, CHUNK = True, False
Pair = tuple[tuple[int, ...], tuple[int, ...]]


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every token that samples wait for is reported at once."""
    monkeypatch.setattr(builder, "AWAITED_INTERVAL", 1)


def never(tree: TokenTree, sequences: Sequence[Generated]) -> bool:
    """Ends no search, but is asked before every round."""
    return False


def results(
    server: ScriptedServer,
    num_runs: int,
    *,
    law: SamplingConfig = WHOLE,
    in_rounds: bool = True,
    stop: Stop | None = None,
    max_sequences: int = 8,
    top_k: int = TOP_K,
    **config: Any,
) -> Iterator[PromptResult]:
    endpoint = endpoint_of(server)
    for seed in range(num_runs):
        server.restart(seed)
        method = search_of(
            "trie_parallel",
            seed=seed,
            stop=stop or (never if in_rounds else None),
            top_k=top_k,
            sampling=law,
            max_sequences=max_sequences,
            **config,
        )
        yield run_method(method, endpoint)


def requests_of(server: ScriptedServer) -> list[Json]:
    """Those for tokens, without questions for stop tokens."""
    return [r for r in server.requests if tuple(r["input_ids"][:1]) == server.prompt]


def stepped(path: tuple[int, ...]) -> tuple[float, ...]:
    """Uncertain steps in turn with certain ones, which are not stored at top-p 1."""
    weights = (0.996, *[0.001] * 4) if len(path) % 2 else (0.4, 0.25, 0.15, 0.12, 0.08)
    return tuple(np.roll(weights, 1 + sum(path) % 4).tolist())


def misfit(
    law: str,
    num_runs: int = 50,
    *,
    distribution: Distribution = stepped,
    max_new_tokens: int = 2,
    in_rounds: bool = True,
    top_k: int = 3,
    stored_below: float | None = None,
    **options: Any,
) -> float:
    """The probability of a fit as bad as this, if the samples have the distribution.

    Args:
        stored_below: stores other steps than the method would.
    """
    server, drawn = ScriptedServer(distribution, **options), LAWS[law]
    drawn = replace(drawn, max_new_tokens=max_new_tokens)
    given: dict[str, Any] = {"max_sequences": 30, "in_rounds": in_rounds, "top_k": top_k}
    with pytest.MonkeyPatch.context() as patch:
        if stored_below is not None:
            recorder = StepRecorder(stored_below=stored_below, temperature=drawn.temperature)
            patch.setattr(TrieParallel, "policy", lambda _: recorder)
        found = list(results(server, num_runs, law=drawn, **given))
    assert {result.inexact_steps for result in found} == {0}
    assert {len(result.sequences) for result in found} == {30}
    counts = Counter(s.token_ids for result in found for s in result.sequences)
    expected = sequence_distribution(distribution, drawn)
    return p_value(counts, expected) if set(counts) <= set(expected) else 0.0


@pytest.mark.parametrize("allows_gate", [GATE, CHUNK])
@pytest.mark.parametrize("law", LAWS)
def test_samples_in_rounds_have_the_servers_distribution(law: str, allows_gate: bool) -> None:
    assert misfit(law, allows_gate=allows_gate) > ERROR_PROBABILITY


@pytest.mark.parametrize("allows_gate", [GATE, CHUNK])
@pytest.mark.parametrize("stored_below", [0.0, 0.5])
def test_the_distribution_does_not_depend_on_the_steps_that_are_stored(
    stored_below: float, allows_gate: bool
) -> None:
    found = misfit("τ = 3", stored_below=stored_below, allows_gate=allows_gate)
    assert found > ERROR_PROBABILITY


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("allows_gate", [GATE, CHUNK])
@pytest.mark.parametrize("law", LAWS)
def test_samples_at_once_have_the_servers_distribution(law: str, allows_gate: bool) -> None:
    mixed = mixed_distribution(3)
    options: dict[str, Any] = {"allows_gate": allows_gate, "top_k": 2, "max_new_tokens": 4}
    assert misfit(law, 20, distribution=mixed, in_rounds=False, **options) > ERROR_PROBABILITY


@pytest.mark.parametrize("law", ["τ = 1", "top-p 0.9"])
def test_draws_at_the_same_step_have_seeds_of_their_own(law: str) -> None:
    assert misfit(law, allows_gate=GATE, honours_seed=True) > ERROR_PROBABILITY


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("in_rounds", [True, False])
@pytest.mark.parametrize("law", ["τ = 0.4", "top-p 0.9"])
def test_samples_are_independent(law: str, in_rounds: bool) -> None:
    server = ScriptedServer(mixed_distribution(0), allows_gate=True)
    pairs: Counter[Pair] = Counter()
    for result in results(server, 300, law=LAWS[law], in_rounds=in_rounds, max_sequences=2):
        first, second = sorted(sequence.token_ids for sequence in result.sequences)
        pairs[first, second] += 1
    single, together = (
        sequence_distribution(mixed_distribution(0), LAWS[law]),
        defaultdict[Pair, float](float),
    )
    for one, other in product(single, repeat=2):
        together[min(one, other), max(one, other)] += single[one] * single[other]
    assert p_value(pairs, together) > ERROR_PROBABILITY


def no_tail(monkeypatch: pytest.MonkeyPatch) -> None:
    """The K tokens are renormalised."""
    exit_with_tail = exits._exit_with_tail

    def without_tail(*arguments: Any) -> exits.Exit:
        found = exit_with_tail(*arguments)
        return replace(found, weights=np.append(found.weights[:-1], 0.0))

    monkeypatch.setattr(exits, "_exit_with_tail", without_tail)


def children_are_excluded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A draw never falls on a token that was drawn before, as without replacement."""
    at = exits.Exits.at

    def excluding(self: exits.Exits, node: TrieSegment, position: int) -> exits.Exit:
        found = at(self, node, position)
        taken = tuple(token for place, token in node.by_token if place == position)
        excluded = tuple({*found.draw.excluded, *taken})
        if len(excluded) == VOCABULARY:
            return found
        return replace(found, draw=Draw(excluded, found.draw.mass))

    monkeypatch.setattr(exits.Exits, "at", excluding)


def nothing_is_excluded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tail is drawn from the whole distribution."""
    monkeypatch.setattr(TokenTree, "draw", _changed_draw(lambda given, taken: Draw((), given.mass)))


def certain_steps_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """No sample leaves at a step that is not stored."""
    stays = exits.Exits.stays

    def keeping(self: exits.Exits, node: TrieSegment) -> Floats:
        kept, steps = stays(self, node), node.segment.steps
        stored = set() if steps is None else set(steps.positions.tolist())
        start = node.segment.start
        return np.array([p if start + i in stored else 1.0 for i, p in enumerate(kept)])

    monkeypatch.setattr(exits.Exits, "stays", keeping)


def temperature_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The known tokens are weighed at temperature 1."""
    probabilities = exits._probabilities
    monkeypatch.setattr(exits, "_probabilities", lambda row, _: probabilities(row, 1.0))


def the_segments_token_is_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that is drawn as a whole is always left."""
    monkeypatch.setattr(
        TokenTree, "draw", _changed_draw(lambda given, taken: Draw((*given.excluded, taken)))
    )


def _changed_draw(change: Callable[[Draw, int], Draw]) -> Callable[..., Segment]:
    draw = TokenTree.draw

    def changed(self: TokenTree, parent: Segment, position: int, given: Draw) -> Segment:
        taken = parent.token_ids[position - parent.start]
        return draw(self, parent, position, change(given, taken))

    return changed


@pytest.mark.parametrize(
    ("mutation", "law", "stored_below"),
    [
        (no_tail, "τ = 1", None),
        (children_are_excluded, "τ = 3", 0.0),
        (nothing_is_excluded, "τ = 1", None),
        (certain_steps_are_kept, "τ = 3", 0.0),
        (temperature_is_one, "τ = 0.4", None),
        (temperature_is_one, "τ = 3", None),
        (the_segments_token_is_not_drawn, "top-p 0.9", None),
    ],
)
def test_a_wrong_rule_is_noticed(
    mutation: Callable[[pytest.MonkeyPatch], None],
    law: str,
    stored_below: float | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mutation(monkeypatch)
    assert misfit(law, stored_below=stored_below) < ERROR_PROBABILITY


@pytest.mark.parametrize("allows_gate", [GATE, CHUNK])
@pytest.mark.parametrize("law", LAWS)
def test_logprobs_are_those_of_the_whole_distribution(law: str, allows_gate: bool) -> None:
    """Also of tokens that were drawn outside the known ones, or here."""
    distribution, num_drawn = mixed_distribution(1), 0
    server = ScriptedServer(distribution, allows_gate=allows_gate)
    for result in results(server, 15, law=LAWS[law]):
        for sequence in result.sequences:
            path, temperature = sequence.token_ids, LAWS[law].temperature
            rows = [tempered(distribution(path[:n]), temperature, 1.0) for n in range(len(path))]
            wanted = [math.log(row[token]) for row, token in zip(rows, path, strict=True)]
            assert sequence.logprobs == pytest.approx(wanted, abs=1e-3)
        for point in result.branch_points:
            assert point.logprobs[1] < 0
            num_drawn += len(point.token_ids)
    assert num_drawn > 20


def test_every_token_is_decoded_once_but_for_draws_that_fall_on_known_ones() -> None:
    server, num_known = ScriptedServer(mixed_distribution(0), allows_gate=True), 0
    for result in results(server, 40, law=LAWS["τ = 3"]):
        counts = result.counts
        decoded = Counter(
            (*request["input_ids"], *request["output_ids"][: n + 1])
            for request in requests_of(server)
            for n in range(len(request["output_ids"]))
        )
        repeated = sum(decoded.values()) - len(decoded)
        draws = [r for r in requests_of(server) if "logit_bias" in r["sampling_params"]]
        assert {len(request["output_ids"]) for request in draws} <= {1}
        assert counts.generated == sum(decoded.values())
        assert counts.discarded == repeated
        assert counts.unique == len(decoded) + counts.forced
        num_known += repeated
    assert num_known > 5


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("in_rounds", [True, False])
@pytest.mark.parametrize("law", ["τ = 1", "τ = 3", "top-p 0.9"])
def test_a_seed_gives_the_same_samples_in_whatever_order_answers_come(
    law: str, in_rounds: bool
) -> None:
    found = []
    long = replace(LAWS[law], max_new_tokens=6)
    for order in range(6):
        server = ScriptedServer(mixed_distribution(0), allows_gate=True, honours_seed=True)
        server._order = random.Random(order)
        given: dict[str, Any] = {"in_rounds": in_rounds, "width": 4, "max_sequences": 16}
        found.append([r.sequences for r in results(server, 8, law=long, **given)])
    texts = [[[(s.token_ids, s.parent) for s in sequences] for sequences in run] for run in found]
    assert texts == [texts[0]] * 6


def test_raw_logprobs_of_another_temperature_leave_the_known_tokens_alone() -> None:
    server = ScriptedServer(mixed_distribution(0))
    server.logprobs_are_raw = True
    (result,) = results(server, 1, law=LAWS["τ = 0.4"])
    assert result.inexact_steps
    assert not any("logit_bias" in r["sampling_params"] for r in requests_of(server))


def test_the_gates_logprobs_are_exact_where_the_servers_are_raw() -> None:
    server = ScriptedServer(mixed_distribution(0), allows_gate=True)
    server.logprobs_are_raw = True
    found = list(results(server, 60, law=LAWS["τ = 0.4"]))
    counts = Counter(s.token_ids for result in found for s in result.sequences)
    assert (
        p_value(counts, sequence_distribution(mixed_distribution(0), LAWS["τ = 0.4"]))
        > ERROR_PROBABILITY
    )
    assert {result.inexact_steps for result in found} == {0}


def test_certain_steps_are_not_reported_at_top_p_1() -> None:
    for law, is_stored in (("τ = 1", False), ("τ = 3", False), ("top-p 0.9", True)):
        gate = search_of("trie_parallel", sampling=LAWS[law]).gate(TOP_K)
        assert gate is not None
        assert gate.stored_below is not None
        assert (gate.stored_below > 1) == is_stored


def test_candidates_beside_drawn_tokens_are_those_of_the_stored_steps() -> None:
    """Also where segments left at steps that are not stored, or with tokens of the tail."""
    seen: list[int] = []

    def look(tree: TokenTree, sequences: Sequence[Generated]) -> bool:
        untried = candidates(tree)
        held = {tuple(s.path()[: end + 1]) for s in tree.segments for end in range(s.end)}
        for index, position, token in zip(
            untried.segments, untried.positions, untried.token_ids, strict=True
        ):
            assert (*tree.segments[index].path()[:position], int(token)) not in held
        assert (untried.joint_logprobs <= 1e-6).all()
        seen.append(sum(segment.draw is not None for segment in tree.segments))
        return False

    server = ScriptedServer(stepped, allows_gate=True)
    law = replace(WHOLE, max_new_tokens=12)
    for _ in results(server, 10, law=law, max_sequences=24, stop=look):
        pass
    assert max(seen) > 3
