"""The cells of a sweep."""

from dataclasses import replace

import pytest

from evals.records.plan import Cell, Plan

PLAN = Plan(
    methods=("parallel", "eager_init", "eager_adapt", "eager"),
    max_sequences=(1, 4),
    thresholds=(0.7, 0.9),
    temperatures=(0.6, 1.0),
    seeds=(0, 1),
    stage_twos=("restart",),
    parallel_sequences=4,
    num_prompts=3,
    can_vote=True,
)


def test_parallel_is_run_at_the_largest_m_alone() -> None:
    parallel = [cell for cell in PLAN.cells if cell.method == "parallel"]
    assert {(cell.max_sequences, cell.threshold) for cell in parallel} == {(4, None)}
    assert {(cell.temperature, cell.seed) for cell in parallel} == {
        *((0.6, 0), (0.6, 1), (1.0, 0), (1.0, 1))
    }


def test_other_methods_are_run_once_at_every_setting() -> None:
    assert len(set(PLAN.cells)) == len(PLAN.cells) == 4 + 3 * 2 * 2 * 4


def test_the_cells_of_a_group_differ_by_method_alone() -> None:
    for group in PLAN.groups:
        assert len({cell[1:5] for cell in group.cells}) == 1
        followers = [cell.method for cell in group.followers]
        expected = ["eager_adapt", "eager"] if group.first.method == "eager_init" else []
        assert followers == expected


@pytest.mark.parametrize("method", ["eager_adapt", "eager"])
def test_a_second_stage_includes_its_first(method: str) -> None:
    plan = replace(PLAN, methods=(method,))
    assert {cell.method for cell in plan.cells} == {"eager_init", method}


def test_parallel_alone_needs_no_tree() -> None:
    plan = replace(PLAN, methods=("parallel",))
    assert {cell.method for cell in plan.cells} == {"parallel"}


def test_control_temperatures_are_for_parallel_alone() -> None:
    plan = replace(PLAN, temperatures=(0.6,))
    assert replace(plan, control_temperatures=()).groups == plan.groups
    controlled = replace(plan, methods=(*PLAN.methods, "swor"), control_temperatures=(1.0, 0.3))
    added = [cell for cell in controlled.cells if cell.temperature != 0.6]
    assert added == [
        Cell("parallel", 4, None, temperature, seed)
        for seed in (0, 1)
        for temperature in (1.0, 0.3)
    ]
    at_one_temperature = {group for group in controlled.groups if group.first.temperature == 0.6}
    assert at_one_temperature == {*plan.groups, *replace(plan, methods=("swor",)).groups}
    assert controlled.label(added[0]) == "parallel M=4 τ=1 seed=0"


def test_control_temperatures_need_parallel_and_differ_from_the_others() -> None:
    with pytest.raises(ValueError, match="control_temperatures are of parallel; add it"):
        replace(PLAN, methods=("eager_init",), control_temperatures=(0.3,))
    with pytest.raises(ValueError, match="control_temperatures has 1, at which all methods"):
        replace(PLAN, control_temperatures=(0.3, 1.0))


def test_missing_results_are_counted() -> None:
    plan = replace(PLAN, max_sequences=(4,), thresholds=(0.7,), temperatures=(0.6,), seeds=(0,))
    parallel, init, adapt, eager = plan.cells
    cells = [parallel] * 3 + [init] * 2
    assert plan.missing(cells) == {init: 1, adapt: 3, eager: 3}
    assert plan.missing(plan.cells * 3) == {}


def test_a_label_names_what_varies() -> None:
    assert PLAN.label(Cell("eager", 4, 0.7, 0.6, 1, "restart")) == "eager M=4 θ=0.7 τ=0.6 seed=1"
    assert PLAN.label(Cell("eager", 4, 0.7, 0.6, 1, "resume")).startswith("eager+resume M=4")
    assert PLAN.label(Cell("parallel", 4, None, 0.6, 1)) == "parallel M=4 τ=0.6 seed=1"
    plan = replace(PLAN, max_sequences=(4,), thresholds=(0.7,), temperatures=(0.6,), seeds=(0,))
    assert [plan.label(cell) for cell in plan.cells] == list(plan.methods)


def test_restart_and_resume_share_their_first_stage() -> None:
    plan = replace(PLAN, stage_twos=("restart", "resume"), thresholds=(0.7,), max_sequences=(4,))
    assert [cell.name for cell in plan.groups[1].cells] == [
        "eager_init",
        "eager_adapt",
        "eager_adapt+resume",
        "eager",
        "eager+resume",
    ]


def test_parallel_may_have_more_sequences_than_the_largest_m_but_not_fewer() -> None:
    assert replace(PLAN, parallel_sequences=6).cells[0].max_sequences == 6
    with pytest.raises(ValueError, match="at least the largest M, 4"):
        replace(PLAN, parallel_sequences=3)
