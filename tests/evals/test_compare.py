"""Tokens to equal pass: curves by brute force, ratios that are known."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations, permutations
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from eager_sgl.core import TokenCounts
from evals import compare
from evals.analysis.curves import curve_of, tokens_to_first_correct
from evals.analysis.metrics import weighted_majority_correct
from evals.analysis.prompt_curves import PromptCurves, prompt_curves
from evals.comparison.budgets import at_budgets, resampled
from evals.comparison.findings import budget_findings, needed_findings
from evals.comparison.needed import needed_tokens
from evals.comparison.table import render
from evals.records.files import to_line
from evals.records.header import write_header
from evals.records.store import PromptRecord
from tests.evals.fakes import sample_run
from tests.evals.fakes.build import BRANCH, record

PATHS = [(1, 2, 3), (1, 2, 4), (1, 5), (1, 2, 3), (6, 7, 8, 9)]
CORRECT = [False, True, False, False, True]


def walked(method: str = "trie_parallel") -> PromptRecord:
    """Five samples: the second, third and fifth opened a path, the fourth walked to an end."""
    one = record(CORRECT, method=method, threshold=None)
    leaves = {1: 2, 2: 1, 4: 0}
    sequences = tuple(
        replace(
            sequence,
            token_ids=path,
            parent=0 if number in leaves else None,
            branch=replace(BRANCH, position=leaves[number]) if number in leaves else None,
        )
        for number, (sequence, path) in enumerate(zip(one.sequences, PATHS, strict=True))
    )
    return replace(one, sequences=sequences, max_sequences=5)


def test_trie_cached_samples_cost_the_distinct_tokens_of_any_k_of_them() -> None:
    curve = curve_of(walked())
    opened = {(1, 2, 4), (1, 5), (6,)}
    for k in range(6):
        costs = []
        for chosen in combinations(PATHS, k):
            held = {path[:end] for path in chosen for end in range(1, len(path) + 1)}
            costs.append(len(held - opened))
        assert curve.tokens[k] == pytest.approx(np.mean(costs))
    assert curve.passes[1] == pytest.approx(2 / 5)


def test_a_search_is_its_own_first_part() -> None:
    curve = curve_of(walked("best_first"))
    assert curve.tokens.tolist() == [0, 3, 3, 3, 6, 9]
    assert curve.passes.tolist() == [0, 0, 1, 1, 1, 1]


def test_full_parallel_costs_in_proportion() -> None:
    one = record(CORRECT, counts=TokenCounts(generated=50))
    curve = curve_of(one)
    assert curve.tokens.tolist() == [0, 10, 20, 30, 40, 50]
    assert curve.passes[2] == pytest.approx(1 - math.comb(3, 2) / math.comb(5, 2))


def test_a_verifier_ends_a_search_after_its_round_and_sampling_on_average() -> None:
    one = record(CORRECT, counts=TokenCounts(generated=50))
    drawn = [1 + order.index(True) for order in permutations(CORRECT)]
    assert tokens_to_first_correct(one, 1, 5) == pytest.approx(10 * np.mean(drawn))
    # What a sample costs is not linear where samples share tokens.
    tokens = curve_of(walked()).tokens
    assert tokens_to_first_correct(walked(), 1, 5) == pytest.approx(
        np.mean([tokens[number] for number in drawn])
    )
    assert tokens_to_first_correct(one, 1, 2) == pytest.approx(
        10 * np.mean([min(number, 2) for number in drawn])
    )
    search = walked("best_first")
    assert tokens_to_first_correct(search, 4, 5) == 3  # the root, and the round of one after it
    judged = zip(search.sequences, [False, False, False, True, False], strict=True)
    late = replace(search, sequences=tuple(replace(s, correct=good) for s, good in judged))
    assert tokens_to_first_correct(late, 1, 5) == 6
    assert tokens_to_first_correct(late, 4, 5) == 6  # rounds of 1, 1 and 2
    nothing = replace(one, sequences=record([False] * 5).sequences)
    assert tokens_to_first_correct(nothing, 1, 5) == 50


def prompts(method: str, solved_at: Sequence[int | None], cost: int) -> list[PromptRecord]:
    """Prompts whose n-th sequence is the first correct one, each of `cost` tokens."""
    found = []
    for number, first in enumerate(solved_at):
        correct = [index == first for index in range(20)]
        one = record(correct, method=method, sample_id=f"{number:02d}", threshold=None)
        sequences = tuple(replace(s, token_ids=(1,) * cost, branch=None) for s in one.sequences)
        counts = TokenCounts(generated=20 * cost)
        found.append(replace(one, sequences=sequences, counts=counts, max_sequences=20))
    return found


def test_a_method_against_itself_needs_as_many_tokens() -> None:
    (curves,) = prompt_curves(prompts("parallel", [0] * 12 + [None] * 4, cost=5))
    found = needed_tokens(curves, curves, curves, 8)
    assert found.ratio == pytest.approx(1)
    assert found.interval is not None
    assert found.interval[0] < 1 < found.interval[1], "equal in 16 prompts is not equal everywhere"
    assert found.tokens == pytest.approx(8 * 5)


def test_a_ratio_is_of_the_tokens_to_the_target() -> None:
    """A search that solves at once what sampling solves with a chance of 8 in 20 at k = 8."""
    sampled, searched = prompt_curves(
        [*prompts("parallel", [3] * 20, cost=10), *prompts("best_first", [0] * 20, cost=10)]
    )
    found = needed_tokens(searched, sampled, sampled, 8)
    assert found.target == pytest.approx(8 / 20)
    assert found.tokens == pytest.approx(0.4 * 10)  # linear between no and one sequence
    assert found.ratio == pytest.approx(0.4 * 10 / 80)


def test_seeds_are_averaged_within_a_prompt() -> None:
    one, other = prompts("best_first", [0, 2], cost=10), prompts("best_first", [1, None], cost=30)
    (curves,) = prompt_curves([*one, *(replace(each, seed=1) for each in other)])
    assert curves.passes[:, :4].tolist() == [[0, 0.5, 1, 1], [0, 0, 0, 0.5]]
    assert curves.tokens[:, 1].tolist() == [20, 20]


def test_targets_are_of_the_base_temperature_whatever_the_reference() -> None:
    base = prompts("parallel", [3] * 20, cost=10)
    control = prompts("parallel", [3] * 12 + [None] * 8, cost=30)
    control = [replace(each, temperature=1.0) for each in control]
    records = [*base, *control, *prompts("best_first", [0] * 20, cost=10)]
    found = compare.compare(records, 0.6, 1, {one.cell: 1.0 for one in records})
    own = {
        each["reference"]: each
        for each in found["needed"]
        if each["method"] == "best_first τ=0.6" and each["k"] == 8
    }
    assert [each["target"] for each in own.values()] == pytest.approx([8 / 20] * 2)
    assert own["parallel τ=0.6"]["reference_tokens"] == pytest.approx(8 * 10)
    assert own["parallel τ=1"]["reference_tokens"] == pytest.approx(8 / 0.6 * 30)


def test_an_interval_is_that_of_weighted_prompts_with_an_unseen_run() -> None:
    solved = [0, 2, 5, None, 7, 1, 3, 12]
    sampled, searched = prompt_curves(
        [*prompts("parallel", [3] * 6 + [None] * 2, 10), *prompts("best_first", solved, 7)]
    )

    def needed(curves: PromptCurves, weights: NDArray[np.float64], target: float) -> float:
        passes, tokens = (weights @ each for each in (curves.passes, curves.tokens))
        if target <= 0:
            return 0.0
        for k in range(1, len(passes)):
            if passes[k] >= target - 1e-12:
                share = (target - passes[k - 1]) / (passes[k] - passes[k - 1])
                return float(tokens[k - 1] + share * (tokens[k] - tokens[k - 1]))
        return math.inf

    drawn = resampled(searched)
    assert drawn.weights.sum(axis=1) + drawn.unseen == pytest.approx(np.ones(2000))
    ratios: list[list[float]] = []
    for sign in (-1, 1):
        ratios.append([])
        for weights, unseen in zip(drawn.weights, drawn.unseen, strict=True):
            target = float(weights @ sampled.passes[:, 16])
            own = needed(searched, weights, target + sign * unseen)
            ratios[-1].append(own / needed(sampled, weights, target))
    found = needed_tokens(searched, sampled, sampled, 16)
    assert found.interval == pytest.approx((sorted(ratios[0])[100], sorted(ratios[1])[1899]))


def test_what_is_never_reached_has_no_ratio() -> None:
    sampled, searched = prompt_curves(
        [*prompts("parallel", [3] * 20, cost=10), *prompts("best_first", [None] * 20, cost=10)]
    )
    found = needed_tokens(searched, sampled, sampled, 8)
    assert (found.tokens, found.ratio, found.interval) == (None, None, None)


def test_resamples_that_never_get_there_count_as_infinite() -> None:
    solved = [0] * 11 + [None] * 9
    sampled, searched = prompt_curves(
        [*prompts("parallel", [3] * 20, cost=10), *prompts("best_first", solved, cost=10)]
    )
    found = needed_tokens(searched, sampled, sampled, 10)
    assert found.ratio is not None
    assert found.interval is not None
    assert math.isinf(found.interval[1])


def test_resamples_that_neither_side_gets_through_count_as_infinite_too() -> None:
    solved = [0] * 11 + [None] * 9
    sampled, searched = prompt_curves(
        [*prompts("parallel", [3] * 20, cost=10), *prompts("best_first", solved, cost=10)]
    )
    found = needed_tokens(searched, sampled, searched, 10)
    assert found.interval is not None
    assert found.interval[0] < 1
    assert math.isinf(found.interval[1])


def test_full_parallel_is_compared_at_the_searches_m() -> None:
    """It may have half as many sequences again, for methods of two stages."""
    parallel = prompts("parallel", [18] * 4, cost=10)
    searched = [
        replace(one, sequences=one.sequences[:10], max_sequences=10)
        for one in prompts("best_first", [0] * 4, cost=10)
    ]
    found = compare.compare(
        [*parallel, *searched], 0.6, 1, dict.fromkeys([parallel[0].cell, searched[0].cell], 1.0)
    )
    stopped, voted = found["verifier"][0], found["votes"][0]
    assert (stopped["method"], stopped["max_sequences"], voted["max_sequences"]) == (
        "parallel",
        10,
        10,
    )
    assert stopped["pass"] == pytest.approx(10 / 20)
    expected = np.mean([min(place, 10) for place in range(1, 21)])
    assert stopped["tokens"] == pytest.approx(10 * expected)
    assert voted["pass_rate"] == 0, "the nineteenth is not among them"


def test_a_target_of_nothing_has_no_ratio() -> None:
    (curves,) = prompt_curves(prompts("parallel", [None] * 3, cost=5))
    found = needed_tokens(curves, curves, curves, 8)
    assert (found.target, found.tokens, found.ratio) == (0, 0, None)


def test_seconds_are_tokens_at_the_pace_of_the_run() -> None:
    records = [*prompts("parallel", [3] * 20, cost=10), *prompts("best_first", [0] * 20, cost=10)]
    parallel, search = records[0].cell, records[-1].cell
    found = compare.compare(records, 0.6, 1, {parallel: 2.0, search: 5.0})
    assert found["tokens_per_second"] == {
        "parallel τ=0.6": 20 * 200 / 2.0,
        "best_first τ=0.6": 20 * 200 / 5.0,
    }
    one = next(n for n in found["needed"] if n["method"] == "best_first τ=0.6" and n["k"] == 8)
    assert one["seconds"] == pytest.approx(0.4 * 10 / 800)
    assert one["reference_seconds"] == pytest.approx(80 / 2000)
    unmeasured = compare.compare(records, 0.6, 1, {parallel: 0.0, search: 0.0})
    assert {each["seconds"] for each in unmeasured["needed"]} == {None}


def test_a_run_of_one_level_is_said_once() -> None:
    records = [*prompts("parallel", [3] * 20, cost=10), *prompts("best_first", [0] * 20, cost=10)]
    online = swept([True] * 20, 4)
    cells = {one.cell: 1.0 for one in [*records, *online]}
    found = compare.compare([*records, *online], 0.6, 1, cells)
    assert {one.level for one in records} == {1}
    assert {tuple(each["levels"]) for each in found["needed"]} == {(1,)}
    assert {tuple(each["levels"]) for each in found["budgets"]} == {(None,)}
    assert sum(each["method"] == "best_first τ=0.6" for each in found["needed"]) == 2


def test_votes_tell_a_running_theta_from_a_fixed_one() -> None:
    fixed = swept([True] * 4, 4)
    running = [replace(one, threshold=None) for one in fixed]
    records = [*prompts("parallel", [3] * 4, cost=10), *fixed, *running]
    found = compare.compare(records, 0.6, 1, {one.cell: 1.0 for one in records})
    table = render(found).rpartition("by probability")[2].partition("\n\n")[0]
    lines = [line.split() for line in table.splitlines() if "eager_init" in line]
    assert [line[1] for line in lines] == ["0.7", "auto"]


def swept(solved: Sequence[bool], cap: int) -> list[PromptRecord]:
    """EAGer-init with one M."""
    return [
        record([is_solved], method="eager_init", sample_id=f"{number:02d}", max_sequences=cap)
        for number, is_solved in enumerate(solved)
    ]


def test_a_search_is_read_off_where_it_cost_as_much_as_the_other() -> None:
    online = [
        replace(one, counts=TokenCounts(generated=cost), max_sequences=cap)
        for cap, cost, solved in ((2, 15, 4), (4, 25, 9), (8, 500, 10))
        for one in swept([True] * solved + [False] * (10 - solved), cap)
    ]
    search = prompts("best_first", [0] * 2 + [1] * 4 + [2] * 2 + [None] * 2, cost=10)
    found = at_budgets(prompt_curves([*online, *search]), [*online, *search], width=1)
    whole = [each for each in found if each["levels"] == (None,)]
    assert [each["max_sequences"] for each in whole] == [2, 4, 8]
    assert [each["tokens"] for each in whole] == [15, 25, 500]
    assert [each["num_sequences"] for each in whole] == [1.5, 2.5, 20]
    assert [each["search_pass"] for each in whole] == pytest.approx([0.4, 0.7, 0.8])
    assert [each["difference"] for each in whole] == pytest.approx([0.0, -0.2, -0.2])
    assert [each["is_exhausted"] for each in whole] == [False, False, True]
    for each in whole:
        low, high = each["interval"]
        assert low < each["difference"] < high
    assert whole[0]["search_votes"]["pass_rate"] == pytest.approx((2 + 4) / 2 / 10)
    (said,) = budget_findings(found)
    assert said.startswith(
        "best_first τ=0.6 against eager_init θ=0.7 τ=0.6 at equal tokens: behind"
    )
    assert "all M=4 (-0.200)" in said
    assert "undecided (the interval includes 0) at all M=2 (+0.000)" in said


def test_findings_name_what_needs_more_and_what_is_not_told_apart() -> None:
    common = {"method": "a", "reference": "parallel", "target": 0.5, "reference_tokens": 9.0}
    rows = [
        common | {"levels": (1,), "k": 8, "ratio": 1.2, "tokens": 6.0, "interval": (0.9, 2.0)},
        common | {"levels": (None,), "k": 8, "ratio": 0.8, "tokens": 6.0, "interval": (0.6, 1.1)},
        common | {"levels": (2, 3), "k": 16, "ratio": 0.5, "tokens": 6.0, "interval": (0.4, 0.7)},
        common | {"levels": (4,), "k": 16, "ratio": None, "tokens": None, "interval": None},
    ]
    assert needed_findings(rows) == [
        "a against parallel: more tokens at level 1 pass@8 (1.20); pass not reached at level 4 "
        "pass@16; undecided (the interval includes 1) at all pass@8 (0.80)."
    ]
    assert needed_findings(rows[2:3]) == ["a against parallel: nowhere more tokens."]
    absent = rows[2] | {"reference_tokens": None, "ratio": None, "interval": None}
    every = rows[2] | {"levels": (1, 2, 3)}
    assert needed_findings([absent, absent | {"k": 32}, every]) == [
        "a against parallel: pass not reached by the reference at levels 2, 3 pass@16, pass@32."
    ]
    assert needed_findings([every | {"ratio": 1.3}, rows[2]]) == [
        "a against parallel: more tokens at all pass@16 (1.30)."
    ]
    same = rows[2] | {"ratio": 1.0, "interval": (0.999, 1.001)}
    assert needed_findings([same]) == ["a against parallel: nowhere more tokens."]


def test_a_weighted_vote() -> None:
    classes, correct = [0, 1, 1, None], [True, False, False, True]
    assert not weighted_majority_correct(classes, [1, 1, 1, 9], correct)
    assert weighted_majority_correct(classes, [3, 1, 1, 9], correct)
    assert not weighted_majority_correct([None], [1.0], [True])


def test_a_run_is_compared_and_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    methods = ("parallel", "eager_init", "best_first", "trie_parallel")
    plan = sample_run.plan(
        methods=methods, max_sequences=(4, 10), temperatures=(0.6, 1.0), num_prompts=9
    )
    write_header(tmp_path, sample_run.header(plan, search={"width": 2}))
    lines = [to_line(one.to_json()) for one in sample_run.run_records(plan)]
    (tmp_path / "results.jsonl").write_text("".join(lines))
    assert compare.main([str(tmp_path)]) == 0
    said = capsys.readouterr().out
    for text in (
        "levels 1, 2, 3, 9 prompts",
        "levels 2, 3",
        "best_first τ=0.6",
        "pass@8",
        "weighted",
        "seconds a prompt",
        "at the tokens of",
        "eager_init θ=0.7 τ=0.6",
        "best_first τ=0.6 against eager_init θ=0.7 τ=0.6 at equal tokens:",
        "best_first τ=0.6 against parallel τ=0.6:",
        "trie_parallel τ=0.6, shared against parallel τ=0.6:",
    ):
        assert text in said
    found = json.loads((tmp_path / "compare.json").read_text())
    assert {each["k"] for each in found["needed"]} == {8}
    assert {each["max_sequences"] for each in found["budgets"]} == {4, 10}
    assert len(found["findings"]) == len({line.partition(":")[0] for line in found["findings"]})
    assert (tmp_path / "compare.png").read_bytes().startswith(b"\x89PNG")
    assert {curve["label"] for curve in found["curves"]} >= {"best_first", "best_first, shared"}
    assert f"results: {tmp_path / 'compare.json'}, {tmp_path / 'compare.png'}" in said
    elsewhere = tmp_path / "new" / "place"
    assert compare.main([str(tmp_path), "--output-dir", str(elsewhere)]) == 0
    assert f"results: {elsewhere / 'compare.json'}" in capsys.readouterr().out
    assert json.loads((elsewhere / "compare.json").read_text()) == found
    assert (elsewhere / "compare.png").exists()
    assert compare.main([str(tmp_path), "--output-dir", str(tmp_path / "config.json")]) == 2
    assert f"cannot use {tmp_path / 'config.json'}" in capsys.readouterr().err
    assert compare.main([str(tmp_path / "none")]) == 2
    (tmp_path / "results.jsonl").write_text("".join(lines[:-2]))
    assert compare.main([str(tmp_path)]) == 2
    assert "lacks 2 results; repeat its command" in capsys.readouterr().err
    for search, option in (
        ({"stop": "consensus"}, "--stop consensus"),
        ({"token_budget": 400, "bids": "frontier"}, "--bids frontier"),
    ):
        write_header(tmp_path, sample_run.header(plan, search={"width": 2, **search}))
        assert compare.main([str(tmp_path)]) == 2
        said = capsys.readouterr().err
        assert f"was run with {option};" in said
        assert said.count("\n") == 1


def test_a_run_of_another_version_gets_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text('{"config": {}, "model": "m", "model_digest": null}')
    (tmp_path / "results.jsonl").write_text("")
    assert compare.main([str(tmp_path)]) == 2
    assert "is not the configuration of a run: it has no config.plan" in capsys.readouterr().err
