"""The known failure signs of a run, with numbers (paper, appendix on hyper-parameters)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from evals.records.plan import STAGE_ONE, Cell
from evals.records.store import PromptRecord, SequenceRecord

__all__ = ["diagnose", "ends_in_a_loop"]

MAX_PERIOD = 40
NUM_REPEATS = 6
NEARLY_NONE, NOTICEABLE, NEARLY_ALL = 0.02, 0.05, 0.9
FEWEST_SEQUENCES = 8
"""Fewer say nothing of what all of them lack."""


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


def diagnose(records: Iterable[PromptRecord], reasoning_end: str | None = None) -> list[str]:
    """A sentence for each sign of all results, and of those of a method at some M, θ and τ.

    Args:
        records: of a run.
        reasoning_end: the text that closes the reasoning; None where nothing does.
    """
    by_place: dict[Cell, list[PromptRecord]] = defaultdict(list)
    for record in records:
        by_place[record.cell._replace(seed=0)].append(record)
    whole = [
        sequence
        for found in by_place.values()
        for record in found
        for sequence in record.sequences
        if sequence.finish_reason == "stop"
    ]
    return [
        *_of_reasoning(whole, reasoning_end),
        *_of_answers(whole),
    ] + [
        sentence
        for place, found in by_place.items()
        for sentence in (*_of_sequences(_name(place), found), *_of_branching(_name(place), found))
    ]


def _name(place: Cell) -> str:
    theta = f", θ = {place.theta}" if place.theta else ""
    return f"{place.name} (M = {place.max_sequences}{theta}, τ = {place.temperature:g})"


def _of_reasoning(whole: Sequence[SequenceRecord], end: str | None) -> Iterable[str]:
    """Of the sequences that were not cut: that nothing follows the end of their reasoning."""
    known = [sequence for sequence in whole if sequence.final_text is not None]
    closed = sum(sequence.final_text != sequence.text for sequence in known)
    if end is not None and _is_nearly_none(closed, known):
        yield (
            f"{_number_of(closed)} of {len(known)} sequences closed its reasoning with {end!r}, so "
            "that all of their text was judged; give the text that this model closes it with as "
            "--reasoning-end (or none, where it does not reason apart), to judge these sequences "
            "again together with --regrade"
        )


def _of_answers(whole: Sequence[SequenceRecord]) -> Iterable[str]:
    """Of the sequences that were not cut: that the task finds no answer in them."""
    judged = [sequence for sequence in whole if sequence.status == "judged"]
    without = [sequence for sequence in judged if sequence.answer is None]
    answered = len(judged) - len(without)
    if _is_nearly_none(answered, judged):
        ((why, number),) = Counter(each.explanation for each in without).most_common(1)
        yield (
            f"{_number_of(answered)} of {len(judged)} sequences gave an answer of the form that "
            f"the task asks for ({number}: {why}); read some in the report: the prompt has to ask "
            "for that form, and --reasoning-end has to be the model's own"
        )


def _is_nearly_none(number: int, sequences: Sequence[SequenceRecord]) -> bool:
    return len(sequences) >= FEWEST_SEQUENCES and number <= NEARLY_NONE * len(sequences)


def _number_of(number: int) -> str:
    return "none" if number == 0 else f"only {number}"


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
