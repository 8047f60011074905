"""Tokens shared by vote uncertainty: curves by price are what grants, one by one, give."""

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eager_sgl.core import TokenCounts
from eager_sgl.search import round_sizes
from eager_sgl.voting.votes import vote_uncertainty
from evals import compare as command
from evals.analysis.curves import decoded_tokens, drawn_tokens
from evals.analysis.prompt_curves import prompt_curves
from evals.comparison import shared as compare_shared
from evals.comparison.budgets import at_budgets
from evals.comparison.compare import compare
from evals.comparison.shared import cut, shared_curves
from evals.comparison.votes import votes_of
from evals.records.files import to_line
from evals.records.header import write_header
from evals.records.record import PromptRecord
from tests.evals.fakes import sample_run
from tests.evals.fakes.build import BRANCH, record

WIDTH = 3


def searched(sample_id: str, seed: int = 0, method: str = "best_first") -> PromptRecord:
    """Sequences of random lengths, probabilities, answers."""
    rng = random.Random(f"{sample_id} {seed}")
    good = rng.random()
    votes = [0 if rng.random() < good else rng.randrange(1, 4) for _ in range(9)]
    base = record(
        [vote == 0 for vote in votes],
        method=method,
        sample_id=sample_id,
        votes=votes,
        threshold=None,
        seed=seed,
        level=int(sample_id) % 2,
    )
    sequences = tuple(
        replace(
            sequence,
            token_ids=tuple(rng.randrange(50) for _ in range(rng.randrange(3, 20))),
            branch=replace(BRANCH, position=1) if index else None,
            raw_logprob=-rng.random() * 9,
        )
        for index, sequence in enumerate(base.sequences)
    )
    generated = sum(len(s.token_ids) - 2 * (s.branch is not None) for s in sequences)
    return replace(base, sequences=sequences, counts=TokenCounts(generated=generated))


def granted(records: Sequence[PromptRecord]) -> list[tuple[float, float, list[int]]]:
    """Mean tokens and passes after every grant of a ledger that runs one round at a time."""
    courses = [round_sizes(len(prompt.sequences), WIDTH) for prompt in records]
    costs = [drawn_tokens(prompt) for prompt in records]
    at = [0] * len(records)

    def bid(index: int) -> float:
        size = courses[index][at[index]]
        prompt = records[index]
        return float(np.log(vote_uncertainty(prompt.sequences[:size], prompt.votes[:size]) / size))

    def now() -> tuple[float, float, list[int]]:
        sizes = [course[step] for course, step in zip(courses, at, strict=True)]
        tokens = [cost[size] for cost, size in zip(costs, sizes, strict=True)]
        solved = [any(prompt.correct[:size]) for prompt, size in zip(records, sizes, strict=True)]
        return float(np.mean(tokens)), float(np.mean(solved)), sizes

    moments = [now()]
    while waiting := [p for p in range(len(records)) if at[p] + 1 < len(courses[p])]:
        at[max(waiting, key=bid)] += 1
        moments.append(now())
    return moments


@pytest.mark.parametrize("method", ["best_first", "swor"])
def test_a_curve_by_price_goes_through_what_a_ledger_grants(method: str) -> None:
    records = [searched(str(number), method=method) for number in range(12)]
    (curves,) = shared_curves(records, WIDTH)
    moments = {(round(tokens, 6), round(solved, 6)) for tokens, solved, _ in granted(records)}
    points = list(zip(curves.tokens.mean(axis=0), curves.passes.mean(axis=0), strict=True))
    assert points[0] == (0, 0)
    assert len(points) > 20
    assert moments >= {(round(tokens, 6), round(solved, 6)) for tokens, solved in points[1:]}
    every = np.mean([prompt.counts.generated for prompt in records])
    assert points[-1] == pytest.approx(
        (every, np.mean([any(prompt.correct) for prompt in records]))
    )
    assert curves.is_shared
    assert curves.name == f"{method} τ=0.6, shared"


def test_a_prompt_that_becomes_uncertain_continues_at_once() -> None:
    """Two that agree bid less than the four that they turn out to be two and two of."""
    prompt = record([False] * 8, method="best_first", votes=[0, 0, 1, 1, 2, 3, 4, 5])
    bids = [
        vote_uncertainty(prompt.sequences[:size], prompt.votes[:size]) / size for size in (1, 2, 4)
    ]
    assert bids[1] < bids[2] < bids[0]
    (curves,) = shared_curves([prompt], 8)
    costs = drawn_tokens(prompt)
    assert curves.tokens[0].tolist() == [0, costs[1], costs[2], costs[8]]


def test_few_prices_lead_from_the_first_sequences_to_everything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    records = [searched(str(number)) for number in range(12)]
    (whole,) = shared_curves(records, WIDTH)
    monkeypatch.setattr(compare_shared, "NUM_PRICES", 6)
    (thin,) = shared_curves(records, WIDTH)
    assert thin.tokens.shape[1] == 2 + 6 < whole.tokens.shape[1]
    for column in (0, 1, -1):
        assert thin.tokens[:, column].tolist() == whole.tokens[:, column].tolist()
    assert {*thin.tokens.mean(axis=0)} <= {*whole.tokens.mean(axis=0)}


def test_seeds_and_levels_share_at_one_price() -> None:
    records = [searched(str(number), seed) for number in range(12) for seed in (0, 1)]
    (curves,) = shared_curves(records, WIDTH)
    moments = [tokens for tokens, _, _ in granted(records)]
    for tokens in curves.tokens.mean(axis=0)[1:]:
        assert min(abs(tokens - moment) for moment in moments) < 1e-9
    odd = curves.at_levels([1])
    assert odd.is_shared
    assert len(odd.levels) == 6
    assert odd.tokens.shape == (6, curves.tokens.shape[1])


def test_records_are_cut_where_all_together_have_cost_so_much() -> None:
    records = [searched(str(number)) for number in range(12)]
    (curves,) = shared_curves(records, WIDTH)
    means = curves.tokens.mean(axis=0)[1:]
    for tokens, following in zip(means, [*means[1:], np.inf], strict=True):
        for budget in (tokens + 1e-9, min(following - 1e-9, tokens + 5)):
            there = cut(records, WIDTH, budget)
            costs = [
                drawn_tokens(whole)[len(part.sequences)]
                for whole, part in zip(records, there, strict=True)
            ]
            assert np.mean(costs) == pytest.approx(tokens)
    sizes = [given for tokens, _, given in granted(records) if tokens in means]
    for tokens, given in zip(means, sizes, strict=True):
        assert [len(prompt.sequences) for prompt in cut(records, WIDTH, tokens + 1e-9)] == given
    assert [len(prompt.sequences) for prompt in cut(records, WIDTH, 0)] == [1] * 12
    assert cut(records, WIDTH, 1e9) == records


def test_a_sample_of_a_known_path_costs_nothing() -> None:
    prompt = searched("3")
    again = replace(prompt.sequences[2], branch=None)
    sampled = replace(prompt, method="trie_parallel", sequences=(*prompt.sequences[:4], again))
    assert drawn_tokens(sampled)[-1] == drawn_tokens(sampled)[-2]
    assert drawn_tokens(prompt)[-1] == prompt.counts.generated
    cost = sum(map(decoded_tokens, sampled.sequences))
    twice = replace(sampled, method="parallel", counts=TokenCounts(generated=cost))
    assert drawn_tokens(twice)[-1] == drawn_tokens(twice)[-2] + len(again.token_ids)


def test_a_search_that_shares_is_read_off_at_the_tokens_of_eager_init() -> None:
    records = [searched(str(number)) for number in range(12)]
    budget = 60
    online = [
        record([True], method="eager_init", sample_id=prompt.sample_id, level=prompt.level)
        for prompt in records
    ]
    online = [replace(prompt, counts=TokenCounts(generated=budget)) for prompt in online]
    curves = [*prompt_curves(online), *shared_curves(records, WIDTH)]
    budgets = list(at_budgets(curves, [*online, *records], WIDTH))
    (whole,) = [at for at in budgets if at.levels == (None,)]
    there = cut(records, WIDTH, budget)
    assert whole.num_sequences == pytest.approx(
        np.mean([len(prompt.sequences) for prompt in there])
    )
    assert whole.search_votes == votes_of(there)
    assert whole.search_pass == pytest.approx(
        np.interp(budget, curves[1].tokens.mean(axis=0), curves[1].passes.mean(axis=0))
    )
    assert {at.num_sequences for at in budgets if at is not whole} == {None}


def test_sharing_is_measured_against_full_parallel_that_shares_too() -> None:
    searches = [searched(str(number)) for number in range(12)]
    parallel = [searched(str(number), method="parallel") for number in range(12)]
    records = [*searches, *parallel]
    comparison = compare(records, 0.6, WIDTH, {prompt.cell: 1.0 for prompt in records})
    pairs = {(pair.method, pair.reference) for pair in comparison.needed}
    assert ("best_first τ=0.6, shared", "parallel τ=0.6, shared") in pairs
    assert ("best_first τ=0.6", "parallel τ=0.6, shared") not in pairs
    seconds = {pair.method: pair.seconds for pair in comparison.needed if pair.tokens}
    assert seconds["best_first τ=0.6, shared"] is None, "nobody ran it"
    assert seconds["best_first τ=0.6"] is not None
    shared = compare(records, 0.6, WIDTH, {prompt.cell: 1.0 for prompt in records}, has_shared=True)
    assert {*shared.tokens_per_second} == {"parallel τ=0.6", "best_first τ=0.6, shared"}


def test_vote_uncertainty_gives_hard_prompts_more() -> None:
    """Half of the prompts say the same always, and half are right once in nine."""
    easy = [record([True] * 9, sample_id=f"a{n}", votes=[0] * 9) for n in range(10)]
    hard = [
        record(
            [number == 8 - n % 3 for number in range(9)], sample_id=f"b{n}", votes=list(range(9))
        )
        for n in range(10)
    ]
    records = [
        replace(
            prompt,
            sequences=tuple(replace(s, parent=None, branch=None) for s in prompt.sequences),
            counts=TokenCounts(generated=18),
            level=1 + (prompt.sample_id[0] == "b"),
        )
        for prompt in (*easy, *hard)
    ]
    (alone,) = prompt_curves(records)
    (shared,) = shared_curves(records, 1)
    # Without sharing, all nine sequences of everybody are needed for the last hard prompt.
    assert alone.passes[:, -2].mean() < 1
    column = int(np.argmax(shared.passes.mean(axis=0) == 1))
    assert shared.tokens[:, column].mean() < 0.75 * alone.tokens[:, -1].mean()
    assert shared.at_levels([1]).tokens[:, column].mean() < 9


def test_a_run_that_shared_its_tokens_is_compared_by_price_alone(tmp_path: Path) -> None:
    plan = sample_run.plan(
        methods=("parallel", "best_first", "eager_init"), max_sequences=(10,), num_prompts=9
    )
    search = {"width": 2, "token_budget": 40, "bids": "vote_uncertainty"}
    write_header(tmp_path, sample_run.header(plan, search=search))
    lines = [to_line(prompt.to_json()) for prompt in sample_run.run_records(plan)]
    (tmp_path / "results.jsonl").write_text("".join(lines))
    assert command.main([str(tmp_path)]) == 0
    content = json.loads((tmp_path / "compare.json").read_text())
    assert {pair["method"] for pair in content["needed"]} == {
        "parallel τ=0.6",
        "parallel τ=0.6, shared",
        "best_first τ=0.6, shared",
        "eager_init θ=0.7 τ=0.6",
    }
    assert {at["search"] for at in content["budgets"]} == {"best_first τ=0.6, shared"}
    assert {row["method"] for row in content["verifier"]} == {"parallel"}
    write_header(tmp_path, sample_run.header(replace(plan, can_vote=False), search=search))
    assert command.main([str(tmp_path)]) == 0
    content = json.loads((tmp_path / "compare.json").read_text())
    assert not any("shared" in pair["method"] for pair in content["needed"])
