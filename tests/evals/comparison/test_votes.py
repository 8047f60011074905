"""Votes that weigh as much as the model thinks their sequences likely."""

from evals.analysis.metrics import weighted_majority_correct


def test_a_weighted_vote() -> None:
    classes, correct = [0, 1, 1, None], [True, False, False, True]
    assert not weighted_majority_correct(classes, [1, 1, 1, 9], correct)
    assert weighted_majority_correct(classes, [3, 1, 1, 9], correct)
    assert not weighted_majority_correct([None], [1.0], [True])
