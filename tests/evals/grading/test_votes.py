"""Votes and their ties."""

from __future__ import annotations

import pytest

from eager_sgl.voting import vote_totals, vote_winner
from evals.grading.votes import vote_classes


def test_vote_classes_name_the_first_of_each() -> None:
    assert vote_classes(["b", "a", None, "b", "a", "c"]) == [0, 1, None, 0, 1, 5]


def test_totals_keep_the_order_of_first_occurrence() -> None:
    assert list(vote_totals(["b", "a", None, "a"]).items()) == [("b", 1), ("a", 2)]
    assert vote_totals(["b", "a", None, "a"], [0.5, 0.1, 9, 0.2]) == pytest.approx(
        {"b": 0.5, "a": 0.3}
    )


@pytest.mark.parametrize(
    ("answers", "weights", "winner"),
    [
        (["b", "a", "a"], None, "a"),
        (["b", "a", "a", "b"], None, "b"),  # a tie: the first to occur
        ([None, None, "a"], None, "a"),
        ([None, None], None, None),
        ([], None, None),
        (["b", "a", "a"], [0.5, 0.2, 0.2], "b"),
        (["b", "a", "a"], [0.5, 0.25, 0.25], "b"),
    ],
)
def test_winners(
    answers: list[str | None], weights: list[float] | None, winner: str | None
) -> None:
    assert vote_winner(answers, weights) == winner


def test_a_weight_for_every_sequence() -> None:
    with pytest.raises(ValueError, match="shorter"):
        vote_winner(["a", "b"], [1.0])
