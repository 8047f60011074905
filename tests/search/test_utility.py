"""What a round is utility: doubt by hand, and what it orders prompts by."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eager_sgl import (
    BestEntry,
    BestFirst,
    SamplingConfig,
    SearchConfig,
    Sequence,
    VoteUncertainty,
    generate,
)
from eager_sgl.engine.endpoint import TokenEndpoint
from eager_sgl.search.priorities import find_priority
from eager_sgl.search.utility import vote_uncertainty, vote_weights
from eager_sgl.tree import TokenTree
from tests.fakes.scripted import VOCABULARY, ScriptedServer, mixed_distribution


def sequence(*token_ids: int, probability: float | None) -> Sequence:
    raw = None if probability is None else math.log(probability)
    return Sequence(token_ids, (), "stop", raw_logprob=raw)


def test_a_single_sequence_leaves_half():
    assert vote_uncertainty([sequence(1, probability=1e-200)], ["x"]) == pytest.approx(1 / 2)


def test_votes_weigh_as_much_as_the_model_thinks_them_likely():
    three = [
        sequence(1, probability=0.1),
        sequence(2, probability=0.3),
        sequence(3, probability=0.2),
    ]
    assert vote_uncertainty(three, ["x", "y", "x"]) == pytest.approx(1 - 0.3 / 0.6 + 1 / 4)
    assert vote_uncertainty(three, ["x", "y", "y"]) == pytest.approx(1 - 0.5 / 0.6 + 1 / 4)


def test_the_same_sequence_counts_once_but_was_drawn_twice():
    drawn = [
        sequence(1, probability=0.1),
        sequence(2, probability=0.3),
        sequence(1, probability=0.1),
    ]
    assert vote_uncertainty(drawn, ["x", "y", "x"]) == pytest.approx(1 - 0.3 / 0.4 + 1 / 4)


def test_where_a_probability_is_not_known_every_draw_has_one_vote():
    drawn = [
        sequence(1, probability=None),
        sequence(2, probability=0.9),
        sequence(1, probability=None),
    ]
    assert vote_uncertainty(drawn, ["x", "y", "x"]) == pytest.approx(1 - 2 / 3 + 1 / 4)


def test_what_gives_no_answer_agrees_with_nothing():
    drawn = [
        sequence(1, probability=0.2),
        sequence(2, probability=0.2),
        sequence(3, probability=0.3),
    ]
    assert vote_uncertainty(drawn, [None, None, 1]) == pytest.approx(1 - 0.3 / 0.7 + 1 / 4)
    assert vote_uncertainty(drawn, [None, 0, 1]) == pytest.approx(1 - 0.3 / 0.7 + 1 / 4)


def test_weights_are_probabilities_until_the_most_likely_has_next_to_none():
    assert vote_weights([-9.0, -10.0, -8.0]) == pytest.approx([math.exp(-1), math.exp(-2), 1])
    assert vote_weights([0.0, -math.log(4)]) == pytest.approx([1, 1 / 4])
    # A tenth more surprise is a factor e, however long the sequences are.
    for length in (1, 7, 5000):
        assert vote_weights([-10.0 * length, -11.0 * length]) == pytest.approx([1, math.exp(-1)])


def test_the_most_likely_of_long_sequences_does_not_outvote_the_others():
    long = [Sequence((token,), (), "stop", raw_logprob=-4000.0 - 40 * token) for token in range(4)]
    assert vote_uncertainty(long, ["x", "y", "y", "y"]) < 0.3 + 1 / 5
    weights = [math.exp(-token / 10) for token in range(4)]
    assert vote_uncertainty(long, ["x", "y", "y", "y"]) == pytest.approx(1 / sum(weights) + 1 / 5)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), min_size=1, max_size=12))
def test_doubt_lies_between_agreement_and_all_apart(drawn):
    sequences = [sequence(token, probability=0.1 + token / 10) for token, _ in drawn]
    classes = [token % (1 + spread) for token, spread in drawn]
    least = 1 / (len(drawn) + 1)
    assert least - 1e-12 <= vote_uncertainty(sequences, [0] * len(drawn)) <= least + 1e-12
    assert least - 1e-12 <= vote_uncertainty(sequences, classes) < 1
    assert vote_uncertainty(sequences, classes) == vote_uncertainty(
        sequences, [("named", each) for each in classes]
    )


def test_a_prompt_that_disagrees_goes_before_one_that_agrees_and_few_before_many():
    rule = VoteUncertainty(lambda sequences: [one.token_ids[-1] for one in sequences])
    agreed = [sequence(place, 7, probability=0.1) for place in range(4)]
    apart = [sequence(place, place, probability=0.1) for place in range(4)]
    tree = None
    assert rule(tree, apart) > rule(tree, agreed)
    assert rule(tree, agreed[:2]) > rule(tree, agreed)
    assert rule(tree, apart) == pytest.approx(math.log((3 / 4 + 1 / 5) / 4))


class Taking:
    """Notes what a rule says before every round, and grants four."""

    def __init__(self, rule):
        self.rule, self.said = rule, []

    def utility(self, tree, sequences):
        self.said.append(self.rule(tree, sequences))
        return self.said[-1]

    def ask(self, spent, value, expected):
        return len(self.said) <= 4

    def leave(self, spent):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass


@pytest.mark.parametrize("priority", ["joint_cost", "flat_joint_cost"])
def test_the_best_entry_is_what_best_first_opens_next(priority):
    bidder = Taking(BestEntry(find_priority(priority)))
    config = SearchConfig(
        max_sequences=20,
        width=1,
        top_k=VOCABULARY,
        sampling=SamplingConfig(temperature=0.8, top_p=0.9, max_new_tokens=4),
        reasoning_end=None,
    )
    endpoint = TokenEndpoint(ScriptedServer(mixed_distribution(0)))
    method = BestFirst(config, priority=priority, bidder=bidder)
    state = generate.run(prompt=(9,), method=method, backend=endpoint)
    opened = [one.branch.priority for one in state.ret_value.sequences[1:]]
    assert len(opened) == 4
    assert bidder.said[:4] == pytest.approx(opened)


def test_a_tree_without_entries_bids_nothing():
    assert (
        BestEntry(find_priority("joint_cost"))(TokenTree((9,), max_new_tokens=4), []) == -math.inf
    )
