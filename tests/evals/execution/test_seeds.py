"""The seeds of a run's methods: those of its cells, and others for every try of a second stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eager_sgl import RULES
from eager_sgl.core import PromptResult
from evals import run
from evals.execution.calls import Call
from evals.execution.methods import METHODS, method_of
from tests.evals.fakes.build import result
from tests.evals.fakes.scripted_run import Scripted


def test_every_method_has_the_seed_of_its_cell() -> None:
    arguments = ["--methods", ",".join(METHODS), "--theta", "0.5", "--seeds", "3,4"]
    experiment = run.parse_settings(arguments, METHODS).experiment
    cells = [group.first for group in experiment.plan.groups]
    assert {cell.seed for cell in cells} == {3, 4}
    assert len({cell.method for cell in cells}) == len(METHODS) - len(RULES)
    methods = [method_of(cell, experiment, lambda sequences: sequences) for cell in cells]
    assert [method.seed for method in methods] == [cell.seed for cell in cells]


def test_no_try_of_a_second_stage_repeats_another(tmp_path: Path, scripted: Scripted) -> None:
    seeds: dict[str, list[int | None]] = {}

    def generate(call: Call) -> PromptResult:
        seeds.setdefault(str(call.sample.id), []).append(call.method.seed)
        call.account.commit(1)
        return result(["no answer"], max_sequences=call.method.max_sequences)

    scripted(generate)
    options: list[Any] = ["--methods", "eager", "--theta", "0.5", "--max-sequences", "4"]
    tries = ["--extra-cap", "1", "--stage-two-tries", "10", "--seeds", "3", "--limit", "2"]
    assert run.main([*options, *tries, "--output-dir", str(tmp_path)]) == 0
    assert len(seeds) == 2
    for of_prompt in seeds.values():
        assert of_prompt[0] == 3
        assert len(set(of_prompt)) == len(of_prompt) == 4
        assert None not in of_prompt
