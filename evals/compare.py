"""Tokens to equal pass: `python evals/compare.py RUN_FOLDER`.

How many generated tokens each method of a run needs to reach Full Parallel's pass@8, @16 and @32,
as a share of Full Parallel's, per level and over all, and how many seconds that is: with as many
sequences for every prompt, and ("shared") where prompts share their tokens by how far the answer of
each is in doubt. Then searches against EAGer-init at its own tokens, what a verifier saves that
ends the search at the first correct sequence, and what exploring costs the mean sequence and the
vote. All of it is printed, and written to compare.json; the curves are drawn in compare.png. Both
files are put into the folder of the run, or into --output-dir.

Seconds are tokens over the tokens per second that the method's group of cells had in this run, all
levels together: as if it had gone on at the same pace up to the target alone. The cells of a group
(EAGer-init and what follows on it) ran at the same time, so each of them looks slower than alone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from evals.analysis.curves import curve_of, tokens_to_first_correct
from evals.analysis.prompt_curves import PromptCurves, curve_place, prompt_curves
from evals.comparison.budgets import at_budgets
from evals.comparison.findings import budget_findings, needed_findings
from evals.comparison.needed import Needed, needed_tokens
from evals.comparison.plot import draw_curves
from evals.comparison.shared import shared_curves
from evals.comparison.table import render
from evals.comparison.votes import votes_of
from evals.config import VOTE_UNCERTAINTY
from evals.execution.stages import wall_seconds
from evals.records.failures import FAILURES, failed_per_cell, read_failures
from evals.records.files import StoreError, reported, write_whole
from evals.records.header import SearchFields, read_header
from evals.records.lines import describe
from evals.records.plan import NESTED, PARALLEL, SEARCHES, Cell, Plan
from evals.records.results import RESULTS, read_results
from evals.records.store import PromptRecord

__all__ = ["compare", "main"]

OUTPUT, PLOT = "compare.json", "compare.png"
TARGETS = (8, 16, 32)


def compare(
    records: Sequence[PromptRecord],
    temperature: float,
    width: int,
    seconds: Mapping[Cell, float],
    *,
    can_vote: bool = True,
    has_shared: bool = False,
) -> dict[str, Any]:
    """All comparisons of a run.

    Args:
        temperature: of the Full Parallel that sets the targets.
        width: paths that a search opens at once.
        seconds: wall time of each cell.
        can_vote: whether answers can agree, without which there is no doubt to share tokens by.
        has_shared: whether the searches of the run shared their tokens, so that they are no part
            of longer ones.

    Raises:
        StoreError: the run has no Full Parallel at that temperature.
    """
    own = [each for each in records if not (has_shared and each.method in SEARCHES)]
    curves = prompt_curves(own) + (shared_curves(records, width) if can_vote else [])
    parallels = [each for each in curves if each.place.method == PARALLEL]  # shared ones come last
    base = next((each for each in parallels if each.place.temperature == temperature), None)
    if base is None:
        raise StoreError(f"the run has no parallel at temperature {temperature:g} to compare with")
    # A curve read off without a ledger was not run, so nobody knows its pace: where a place has
    # both, the pace is that of the first, which was.
    run = {each.place: each.name for each in reversed(curves)}
    rates = {run[place]: rate for place, rate in _rates(records, seconds).items()}
    needed = [asdict(each) for each in _needed(curves, base, parallels, rates)]
    budgets = at_budgets(curves, records, width)
    return {
        "needed": needed,
        "tokens_per_second": rates,
        "budgets": budgets,
        "findings": [*needed_findings(needed), *budget_findings(budgets)],
        "verifier": _with_verifier(own, width),
        "votes": _votes(records),
        "curves": [_mean_curve(each) for each in curves],
    }


def _mean_curve(curves: PromptCurves) -> dict[str, Any]:
    return {
        "method": curves.place.method,
        "label": curves.label,
        "temperature": curves.place.temperature,
        "is_shared": curves.is_shared,
        "tokens": curves.tokens.mean(axis=0).tolist(),
        "passes": curves.passes.mean(axis=0).tolist(),
    }


def _most(records: Iterable[PromptRecord]) -> int | None:
    """The largest M, of which Full Parallel may have more; None where nothing else was run."""
    return max((r.max_sequences for r in records if r.method != PARALLEL), default=None)


def _needed(
    curves: Sequence[PromptCurves],
    base: PromptCurves,
    parallels: Sequence[PromptCurves],
    rates: Mapping[str, float],
) -> Iterator[Needed]:
    levels = sorted({level for level in base.levels if level is not None})
    hard = [level for level in levels if level > levels[0]]
    targets = [k for k in TARGETS if k < base.passes.shape[1]]
    every: list[Sequence[int | None]] = [[None]]
    if len(set(base.levels)) > 1:
        every += [[level] for level in levels]
    every += [hard] if len(hard) > 1 else []
    pairs = [
        (method, reference)
        for method, reference in product(curves, parallels)
        if method.is_shared or not reference.is_shared
    ]
    for chosen, (method, reference), k in product(every, pairs, targets):
        method, target, measure = (s.at_levels(chosen) for s in (method, base, reference))
        found = needed_tokens(method, target, measure, k)
        yield replace(
            found,
            seconds=_seconds(found.tokens, rates.get(method.name)),
            reference_seconds=_seconds(found.reference_tokens, rates.get(measure.name)),
        )


def _seconds(tokens: float | None, rate: float | None) -> float | None:
    return None if tokens is None or rate is None else tokens / rate


def _groups(records: Iterable[PromptRecord]) -> dict[Cell, list[PromptRecord]]:
    found: dict[Cell, list[PromptRecord]] = {}
    for record in records:
        found.setdefault(record.cell._replace(seed=0), []).append(record)
    return found


def _with_verifier(records: Sequence[PromptRecord], width: int) -> list[dict[str, Any]]:
    """Where a verifier ends the search at the first correct sequence: tokens and pass."""
    found, most = [], _most(records)
    for place, group in _groups(records).items():
        if place.method in NESTED:
            number = min(place.max_sequences, most or place.max_sequences)
            tokens = [tokens_to_first_correct(record, width, number) for record in group]
            passes = [curve_of(record).passes[: number + 1][-1] for record in group]
            found.append(
                {
                    "method": place.name,
                    "temperature": place.temperature,
                    "tokens": float(np.mean(tokens)),
                    "pass": float(np.mean(passes)),
                    "max_sequences": number,
                }
            )
    return found


def _votes(records: Sequence[PromptRecord]) -> list[dict[str, Any]]:
    most = _most(records)
    return [
        {
            "method": place.name,
            "temperature": place.temperature,
            "theta": place.theta or None,
            "max_sequences": min(place.max_sequences, most or place.max_sequences),
            **asdict(votes_of(group, most if place.method == PARALLEL else None)),
        }
        for place, group in _groups(records).items()
    ]


def _rates(records: Iterable[PromptRecord], seconds: Mapping[Cell, float]) -> dict[Cell, float]:
    """Generated tokens per second of wall time, by the place of a curve."""
    tokens: dict[Cell, int] = {}
    cells: dict[Cell, set[Cell]] = {}
    for record in records:
        place = curve_place(record.cell)
        tokens[place] = tokens.get(place, 0) + record.counts.generated
        cells.setdefault(place, set()).add(record.cell)
    spent = {place: sum(seconds[cell] for cell in own) for place, own in cells.items()}
    return {place: tokens[place] / spent[place] for place in tokens if spent[place] > 0}


def _require_whole(folder: Path, search: SearchFields) -> None:
    ended = {"--stop": search.stop}
    if search.token_budget and search.bids != VOTE_UNCERTAINTY:
        ended["--bids"] = search.bids
    for option, value in ended.items():
        if value is not None:
            raise StoreError(
                f"{folder} was run with {option} {value}; its searches are no part of longer ones, "
                "so that nothing can be read off them: compare a run without"
            )


def _records(folder: Path, plan: Plan) -> list[PromptRecord]:
    """The results of the prompts that have one in every cell.

    Raises:
        StoreError: some are missing and have not failed.
    """
    records, bad = read_results(folder / RESULTS, plan.cells)
    if bad:
        print(f"warning: left out {describe(bad, folder / RESULTS)}", file=sys.stderr)
    keys = {record.key for record in records}
    failures, _ = read_failures(folder / FAILURES, keys)
    failed = failed_per_cell(failures, plan, keys)
    num_missing = sum(plan.missing(cell for cell, _ in keys).values())
    if num_missing > sum(failed.values()):
        raise StoreError(f"{folder} lacks {num_missing} results; repeat its command to bring them")
    whole = [each for each in records if all((c, each.sample_id) in keys for c in plan.cells)]
    if not whole:
        raise StoreError(f"{folder} has no prompt with all of its results")
    if failed:
        num_prompts = len({each.sample_id for each in whole})
        text = f"{sum(failed.values())} results failed; {num_prompts} prompts have all"
        print(f"warning: {text}, and they alone are compared", file=sys.stderr)
    return whole


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; the exit code."""
    parser = argparse.ArgumentParser(prog="evals/compare.py", description=__doc__)
    parser.add_argument("folder", type=Path, help="of a finished run with parallel in it")
    parser.add_argument(
        "--output-dir",
        type=Path,
        help="where to write compare.json and compare.png; default: FOLDER",
    )
    options = parser.parse_args(arguments)
    folder = options.folder
    output_dir = options.output_dir or folder
    try:
        config = read_header(folder).config
        plan, search = config.plan, config.search
        _require_whole(folder, search)
        records = _records(folder, plan)
        found = compare(
            records,
            plan.temperatures[0],
            search.width,
            wall_seconds(records, plan),
            can_vote=plan.can_vote,
            has_shared=search.token_budget is not None,
        )
        with reported(output_dir):
            output_dir.mkdir(parents=True, exist_ok=True)
        write_whole(output_dir / OUTPUT, found)
        with reported(output_dir / PLOT):
            draw_curves(found["curves"], output_dir / PLOT)
    except StoreError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(render(found))
    print(f"\nresults: {output_dir / OUTPUT}, {output_dir / PLOT}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
