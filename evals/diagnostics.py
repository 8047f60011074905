"""The known failure signs of a run, with numbers (paper, appendix on hyper-parameters)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from evals.plan import STAGE_ONE, Cell
from evals.store import PromptRecord

__all__ = ["diagnose", "ends_in_a_loop"]

MAX_PERIOD = 40
NUM_REPEATS = 6
NOTICEABLE, NEARLY_ALL = 0.05, 0.9


def ends_in_a_loop(token_ids: Sequence[int]) -> bool:
    """Whether a sequence ends with the same 1 to 40 tokens, six times over and 24 at the least."""
    for period in range(1, MAX_PERIOD + 1):
        length = max(period * NUM_REPEATS, 24)
        if len(token_ids) < length:
            continue
        end = token_ids[-length:]
        if end[period:] == end[:-period]:
            return True
    return False


def diagnose(records: Iterable[PromptRecord]) -> list[str]:
    """One sentence for each sign that the results of a method at some M, θ and τ show."""
    by_place: dict[Cell, list[PromptRecord]] = defaultdict(list)
    for record in records:
        by_place[record.cell._replace(seed=0)].append(record)
    return [
        sentence
        for place, found in by_place.items()
        for sentence in (*_of_sequences(_name(place), found), *_of_branching(_name(place), found))
    ]


def _name(place: Cell) -> str:
    theta = f", θ = {place.theta}" if place.theta else ""
    return f"{place.name} (M = {place.max_sequences}{theta}, τ = {place.temperature:g})"


def _of_sequences(name: str, records: Sequence[PromptRecord]) -> Iterable[str]:
    sequences = [sequence for record in records for sequence in record.sequences]
    truncated = [s for s in sequences if s.finish_reason == "length"]
    looping = sum(ends_in_a_loop(s.token_ids) for s in truncated)
    if looping > NOTICEABLE * len(sequences):
        yield (
            f"{name}: {looping} of {len(sequences)} sequences end in a repetition; "
            "the temperature or θ is too low"
        )
    if len(truncated) > NOTICEABLE * len(sequences):
        yield (
            f"{name}: {len(truncated)} of {len(sequences)} sequences were cut at the length "
            "limit; raise --max-new-tokens"
        )


def _of_branching(name: str, records: Sequence[PromptRecord]) -> Iterable[str]:
    if records[0].method != STAGE_ONE or records[0].max_sequences < 4:
        return
    few = sum(len(record.sequences) <= 2 for record in records)
    saturated = sum(len(record.sequences) == record.max_sequences for record in records)
    if few >= NEARLY_ALL * len(records):
        yield (
            f"{name}: {few} of {len(records)} prompts ended with one or two sequences; "
            "θ is too high for this model (evals/calibrate.py chooses one)"
        )
    if saturated >= NEARLY_ALL * len(records):
        yield (
            f"{name}: {saturated} of {len(records)} prompts reached M; "
            "θ is too low for this model (evals/calibrate.py chooses one)"
        )
