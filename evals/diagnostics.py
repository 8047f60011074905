"""The known failure signs of a run, with numbers (paper, appendix on hyper-parameters)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

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
    """One sentence for each sign that a method's results show."""
    by_method: dict[str, list[PromptRecord]] = defaultdict(list)
    for record in records:
        by_method[record.method].append(record)
    return [
        sentence
        for method, of_method in by_method.items()
        for sentence in (*_of_sequences(method, of_method), *_of_branching(method, of_method))
    ]


def _of_sequences(method: str, records: Sequence[PromptRecord]) -> Iterable[str]:
    sequences = [sequence for record in records for sequence in record.sequences]
    truncated = [s for s in sequences if s.finish_reason == "length"]
    looping = sum(ends_in_a_loop(s.token_ids) for s in truncated)
    if looping > NOTICEABLE * len(sequences):
        yield (
            f"{method}: {looping} of {len(sequences)} sequences end in a repetition; "
            "the temperature or θ is too low"
        )
    if len(truncated) > NOTICEABLE * len(sequences):
        yield (
            f"{method}: {len(truncated)} of {len(sequences)} sequences were cut at the length "
            "limit; raise --max-new-tokens"
        )


def _of_branching(method: str, records: Sequence[PromptRecord]) -> Iterable[str]:
    if method != "eager_init" or records[0].max_sequences < 4:
        return
    few = sum(len(record.sequences) <= 2 for record in records)
    saturated = sum(len(record.sequences) == record.max_sequences for record in records)
    if few >= NEARLY_ALL * len(records):
        yield (
            f"{method}: {few} of {len(records)} prompts ended with one or two sequences; "
            "θ is too high for this model (evals/calibrate.py chooses one)"
        )
    if saturated >= NEARLY_ALL * len(records):
        yield (
            f"{method}: {saturated} of {len(records)} prompts reached M; "
            "θ is too low for this model (evals/calibrate.py chooses one)"
        )
