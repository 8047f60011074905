"""When a search has found enough, on the tree of a scripted model."""

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eager_sgl import (
    Consensus,
    EagerConfig,
    EagerInit,
    FullParallel,
    SamplingConfig,
    Solved,
    Unexplored,
    generate,
)
from eager_sgl.engine.endpoint import TokenEndpoint
from eager_sgl.search.frontier import CERTAIN
from eager_sgl.search.stopping import majority_confidence, unexplored_mass
from tests.fakes.scripted import EOS, VOCABULARY, ScriptedServer, mixed_distribution
from tests.fakes.searches import search_of

SAMPLING = SamplingConfig(temperature=0.8, top_p=0.9, max_new_tokens=4)
MODELS = range(4)


class CountingServer(ScriptedServer):
    """Notes what it was asked to decode."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.decoded = []

    def answer(self, path, body=None):
        if path == "/detokenize":
            self.decoded += [tuple(ids) for ids in body["tokens"]]
        return super().answer(path, body)


def run(server, stop=None, **arguments):
    fields = {"max_sequences": 12, "width": 1, "top_k": VOCABULARY, "reasoning_end": None}
    method = search_of(**fields | arguments, stop=stop, sampling=SAMPLING)
    endpoint = TokenEndpoint(server)
    return generate.run(prompt=(9,), method=method, backend=endpoint).ret_value


def integral(most, second):
    """P(X > 1/2) for X ~ Beta(most + 1, second + 1), term by term of x^most (1 − x)^second."""

    def upto(x):
        terms = range(second + 1)
        return sum(
            Fraction((-1) ** k * math.comb(second, k), most + k + 1) * x ** (most + k + 1)
            for k in terms
        )

    return 1 - upto(Fraction(1, 2)) / upto(Fraction(1))


@given(most=st.integers(0, 40), second=st.integers(0, 40))
@settings(deadline=None)
def test_the_confidence_is_the_tail_of_the_beta_distribution(most, second):
    assert majority_confidence(most, second) == pytest.approx(float(integral(most, second)))


def test_four_equal_answers_are_a_consensus_and_three_are_not():
    assert majority_confidence(3, 0) == 15 / 16
    assert majority_confidence(4, 0) == 31 / 32
    assert majority_confidence(7, 7) == 0.5
    assert majority_confidence(1_000, 200) == pytest.approx(1), "a sum beyond what a float holds"
    rule = Consensus(lambda sequences: sequences)
    assert not rule(None, "aaa")
    assert not rule(None, "aaaab")
    assert rule(None, "aaaabaa")
    assert not rule(None, [None] * 50)
    assert rule(None, [None, *"aaaa"])
    assert not rule(None, "aaaabbcc" * 3), "the two largest decide, and the second is large"


@pytest.mark.parametrize("method", [EagerInit, FullParallel])
def test_a_rule_is_refused_where_it_would_not_be_asked(method):
    with pytest.raises(TypeError, match="stop"):
        method(EagerConfig(threshold=0.5, top_k=VOCABULARY), stop=Unexplored(0.5))


@pytest.mark.parametrize("order", ["best_first", "swor", "trie_parallel"])
def test_a_consensus_ends_every_search(order):
    server = ScriptedServer(mixed_distribution(1))
    rule = Consensus(lambda sequences: ["same"] * len(sequences))
    assert len(run(server, rule, order=order).sequences) == 4


def path_mass(distribution, paths):
    """Probability of distinct sequences, steps that are nearly certain counting as certain."""
    return sum(
        math.prod(
            step[token]
            for place, token in enumerate(path)
            if max(step := distribution(path[:place])) < CERTAIN
        )
        for path in set(paths)
    )


@given(model=st.integers(0, 200), width=st.integers(1, 3))
@settings(max_examples=30, deadline=None)
def test_what_is_there_and_what_is_not_add_up(model, width):
    distribution, seen = mixed_distribution(model), []

    def check(tree, sequences):
        paths = [sequence.token_ids for sequence in sequences]
        left = unexplored_mass(tree)
        assert left + path_mass(distribution, paths) == pytest.approx(1, abs=1e-5)
        seen.append(left)
        return False

    run(ScriptedServer(distribution), check, width=width)
    assert seen == sorted(seen, reverse=True)


@pytest.mark.parametrize("below", [0.5, 0.2, 0.05])
@pytest.mark.parametrize("model", MODELS)
def test_a_search_ends_as_soon_as_little_is_unexplored(model, below):
    left = []

    def note(tree, sequences):
        left.append(unexplored_mass(tree))
        return False

    every = run(ScriptedServer(mixed_distribution(model)), note, max_sequences=60)
    some = run(ScriptedServer(mixed_distribution(model)), Unexplored(below), max_sequences=60)
    first = next((n for n, mass in enumerate(left, 1) if mass < below), len(every.sequences))
    assert len(some.sequences) == first
    assert [s.token_ids for s in some.sequences] == [s.token_ids for s in every.sequences[:first]]


@pytest.mark.parametrize("number", [1, 2, 5])
def test_nothing_is_asked_for_after_the_first_correct_sequence(number):
    every = run(ScriptedServer(mixed_distribution(3)))
    wanted, shown = every.sequences[number - 1].text, []

    def verifier(sequence):
        shown.append(sequence.token_ids)
        return sequence.text == wanted

    server = CountingServer(mixed_distribution(3))
    found = run(server, Solved(verifier))
    assert [s.token_ids for s in found.sequences] == [s.token_ids for s in every.sequences[:number]]
    assert shown == [s.token_ids for s in found.sequences], "each is shown once"
    asked = [body for body in server.requests if body.get("top_logprobs_num") == VOCABULARY]
    assert sum(len(body["output_ids"]) for body in asked) == found.counts.generated


def test_every_sequence_is_decoded_once():
    server = CountingServer(mixed_distribution(3))
    found = run(server, lambda tree, sequences: False)
    own = [s.token_ids for s in found.sequences]
    assert sorted(ids for ids in server.decoded if ids in own) == sorted(own)
    assert {s.text for s in found.sequences} != {""}


def test_a_rule_sees_finished_sequences_with_their_texts():
    def check(tree, sequences):
        for sequence in sequences:
            assert sequence.text == " ".join(map(str, sequence.token_ids))
            assert sequence.token_ids[-1] == EOS or len(sequence.token_ids) == 4
        return False

    assert len(run(ScriptedServer(mixed_distribution(0)), check, width=3).sequences) == 12
