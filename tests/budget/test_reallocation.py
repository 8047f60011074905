"""Who gets the surplus, how much, and when a grant is certain."""

from __future__ import annotations

import math
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eager_sgl import (
    RULES,
    Grant,
    PromptResult,
    Reallocation,
    Sequence,
    StageOne,
    TokenCounts,
)

ADAPT, FULL = RULES["eager_adapt"], RULES["eager"]
M = 8


def stage_ones(*counts: int, solved: bool | None = False) -> dict[str, StageOne]:
    return {str(i): StageOne(n, M, solved) for i, n in enumerate(counts)}


def test_eager_adapt_gives_to_saturating_prompts_at_the_same_threshold() -> None:
    grants = ADAPT.certain_grants(stage_ones(8, 1, 8, 2), 4, threshold=1.0)
    assert grants == {"0": Grant(7, 1.0), "2": Grant(6, 1.0)}


def test_full_eager_gives_to_unsolved_prompts_and_lowers_theta_where_there_was_room() -> None:
    finished_stages = stage_ones(8, 1, 3) | {"3": StageOne(1, M, solved=True)}
    grants = FULL.certain_grants(finished_stages, 4, threshold=1.0)
    assert grants == {"0": Grant(7, 1.0), "1": Grant(6, 0.8), "2": Grant(6, 0.8)}


def test_a_grant_is_at_most_twice_m_and_the_rest_stays_unspent() -> None:
    grants = ADAPT.certain_grants(stage_ones(8, *[1] * 9), 10, threshold=1.0)
    assert grants == {"0": Grant(2 * M, 1.0)}


def test_the_reference_implementations_caps_are_parameters() -> None:
    rule = Reallocation("x", False, ADAPT.next_threshold, max_extra_factor=3)
    assert rule.certain_grants(stage_ones(8, *[1] * 9), 10, 1.0) == {"0": Grant(3 * M, 1.0)}


def test_without_eligible_prompts_there_are_no_grants() -> None:
    assert ADAPT.certain_grants(stage_ones(1, 2), 2, 1.0) == {}
    assert FULL.certain_grants(stage_ones(1, 2, solved=True), 2, 1.0) == {}


def test_full_eager_needs_to_know_which_prompts_are_solved() -> None:
    with pytest.raises(ValueError, match="solved is None; the rule 'eager' needs labels"):
        FULL.certain_grants(stage_ones(1, solved=None), 1, 1.0)


@pytest.mark.parametrize(
    "arguments",
    [
        {"max_extra_factor": 0},
        {"max_extra_factor": math.inf},
        {"threshold_factor": 1.2},
        {"max_tries": 0},
        {"late_factor": 0},
    ],
)
def test_parameters_out_of_range_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        Reallocation("x", False, ADAPT.next_threshold, **arguments)


def test_a_cap_can_be_certain_before_all_prompts_have_finished() -> None:
    early = stage_ones(8, *[1] * 9)
    assert ADAPT.certain_grants(early, 11, 1.0) == {"0": Grant(2 * M, 1.0)}
    assert ADAPT.certain_grants(early, 14, 1.0) == {}


prompts = st.lists(st.tuples(st.integers(1, M), st.booleans()), min_size=1, max_size=30)


@settings(max_examples=300, deadline=None)
@given(prompts, st.sampled_from([ADAPT, FULL]), st.randoms(use_true_random=False))
def test_an_early_certain_grant_is_the_final_one(
    outcomes: list[tuple[int, bool]], rule: Reallocation, random: Random
) -> None:
    everyone = {str(i): StageOne(n, M, solved) for i, (n, solved) in enumerate(outcomes)}
    final = rule.certain_grants(everyone, len(everyone), 1.0)
    surplus = sum(M - n for n, _ in outcomes)
    assert sum(grant.extra for grant in final.values()) <= surplus
    assert all(0 <= grant.extra <= 2 * M for grant in final.values())
    extras = [grant.extra for grant in final.values()]
    assert not extras or max(extras) - min(extras) <= 1
    if extras and max(extras) < 2 * M:
        assert sum(extras) == surplus
    finished = {key: s for key, s in everyone.items() if random.random() < 0.8}
    for key, grant in rule.certain_grants(finished, len(everyone), 1.0).items():
        assert final[key] == grant


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, M), st.booleans()), min_size=1, max_size=3),
    st.integers(1, 3),
    st.sampled_from([ADAPT, FULL]),
    st.randoms(use_true_random=False),
)
def test_an_early_certain_cap_holds_for_any_outcome_of_the_slowest_prompts(
    slow: list[tuple[int, bool]], num_hard: int, rule: Reallocation, random: Random
) -> None:
    """Many easy prompts leave more than the few hard ones may take, whatever the slow ones do."""
    easy = 2 * (num_hard + len(slow)) + len(slow) + 1
    finished_stages = [StageOne(1, M, True)] * easy + [StageOne(M, M, False)] * num_hard
    random.shuffle(finished_stages)
    finished = {str(i): stage_one for i, stage_one in enumerate(finished_stages)}
    number = len(finished) + len(slow)
    early = rule.certain_grants(finished, number, 1.0)
    hard = [key for key, stage_one in finished.items() if stage_one.saturated]
    assert early == {key: Grant(2 * M, 1.0) for key in hard}
    last = {
        str(len(finished_stages) + i): StageOne(n, M, solved) for i, (n, solved) in enumerate(slow)
    }
    final = rule.certain_grants(finished | last, number, 1.0)
    assert early.items() <= final.items()


def test_a_cap_is_a_whole_number_of_sequences() -> None:
    assert replace(ADAPT, max_extra_factor=0.29).max_extra(100) == 29
    assert replace(ADAPT, max_extra_factor=0.5).max_extra(5) == 2
    assert replace(ADAPT, max_extra_factor=0.01).max_extra(5) == 1


def test_a_share_that_just_reaches_the_cap_is_certain() -> None:
    """17 free sequences, one eligible prompt, and none or one unfinished: 16, or 8 = the cap."""
    finished_stages = stage_ones(8, *[1] * 2) | {"3": StageOne(6, M, False)}
    rule = replace(ADAPT, max_extra_factor=1)
    assert sum(M - stage_one.num_sequences for stage_one in finished_stages.values()) == 16
    assert rule.certain_grants(finished_stages, 5, 1.0) == {"0": Grant(M, 1.0)}


def test_theta_falls_at_every_try_and_faster_after_the_second() -> None:
    rule = replace(FULL, max_tries=4)
    assert rule.thresholds(1.0) == pytest.approx([1, 0.8, 0.8**2 * 0.9, 0.8**3 * 0.9**2])
    assert FULL.thresholds(1.0) == [1.0]
    assert rule.lowest_threshold(1.0) == pytest.approx(0.8**4 * 0.9**2)
    assert replace(ADAPT, max_tries=2).lowest_threshold(1.0) == pytest.approx(0.8)


def test_a_verifier_decides_whether_a_prompt_is_solved() -> None:
    sequences = tuple(Sequence((i,), (), "stop", text=text) for i, text in enumerate("ab"))
    result = PromptResult((9,), sequences, TokenCounts(), max_sequences=2)
    assert StageOne.of(result) == StageOne(2, 2, None)
    assert StageOne.of(result, lambda sequence: sequence.text == "b").solved is True
    assert StageOne.of(result, lambda sequence: sequence.text == "c").solved is False
