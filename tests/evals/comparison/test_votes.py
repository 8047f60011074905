"""Votes that weigh as much as the model thinks their sequences likely."""

from dataclasses import replace

from evals.analysis.figures_at_k import ALL_SEQUENCES
from evals.analysis.metrics import majority_correct
from evals.comparison.votes import votes_of
from evals.records.record import PromptRecord
from tests.evals.fakes.build import record


def test_a_weighted_vote() -> None:
    classes, correct = [0, 1, 1, None], [True, False, False, True]
    assert not majority_correct(classes, correct, [1, 1, 1, 9])
    assert majority_correct(classes, correct, [3, 1, 1, 9])
    assert not majority_correct([None], [True], [1.0])
    assert not majority_correct([0, 0], [True, True], [0.0, 0.0]), "nobody votes"


def voted(weights: list[float | None], logprobs: list[float | None]) -> PromptRecord:
    """Two say the right answer and three another."""
    base = record([True, True, False, False, False], method="vote", votes=[0, 0, 2, 2, 2])
    parts = zip(base.sequences, weights, logprobs, strict=True)
    sequences = (replace(s, weight=weight, raw_logprob=p) for s, weight, p in parts)
    return replace(base, sequences=tuple(sequences))


def test_sequences_that_were_cut_do_not_vote() -> None:
    """Cons is that of the report, and those that were cut weigh nothing by their probability."""
    likely: list[float | None] = [-2.0, -2.0, -2.0, -0.1, -0.1]
    whole, cut = voted([None] * 5, likely), voted([1.0, 1.0, 1.0, 0.0, 0.0], likely)
    assert (votes_of([whole]).cons, votes_of([whole]).weighted_cons) == (0, 0)
    assert (votes_of([cut]).cons, votes_of([cut]).weighted_cons) == (1, 1)
    for prompt in (whole, cut):
        assert votes_of([prompt]).cons == ALL_SEQUENCES.majority(prompt)
    unknown = voted([1.0, 1.0, 1.0, 0.0, 0.0], [-2.0, -2.0, -2.0, None, None])
    assert votes_of([unknown]).weighted_cons == 1
    assert votes_of([voted([None] * 5, [-2.0, -2.0, -2.0, None, None])]).weighted_cons is None
    nobody = votes_of([voted([0.0] * 5, likely)])
    assert (nobody.cons, nobody.weighted_cons) == (0, 0)
