"""The known failure signs of a run, with numbers (paper, appendix on hyper-parameters)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from evals.analysis.groups import group_by
from evals.records.plan import STAGE_ONE
from evals.records.record import PromptRecord, SequenceRecord

__all__ = ["diagnose", "ends_in_a_loop"]

MAX_PERIOD = 40
NUM_REPEATS = 6
MIN_LOOP_TOKENS = 24
NEARLY_NONE, NOTICEABLE, NEARLY_ALL = 0.02, 0.05, 0.9
MIN_SEQUENCES = 8
"""With fewer, a feature that all of them lack says nothing."""


def ends_in_a_loop(token_ids: Sequence[int]) -> bool:
    """Whether a sequence ends with the same 1 to 40 tokens, six times and at least 24 in all."""
    for period in range(1, MAX_PERIOD + 1):
        length = max(period * NUM_REPEATS, MIN_LOOP_TOKENS)
        if len(token_ids) < length:
            continue
        end = token_ids[-length:]
        if end[period:] == end[:-period]:
            return True
    return False


def diagnose(records: Iterable[PromptRecord], reasoning_end: str | None = None) -> list[str]:
    """A sentence for each sign in all results, and in those of a method at one M, θ and τ.

    Args:
        records: of a run.
        reasoning_end: the text that closes the reasoning; None where no text does.
    """
    groups = group_by(records, lambda record: record.cell.without_seed)
    finished = [
        sequence
        for group in groups.values()
        for record in group
        for sequence in record.sequences
        if sequence.finish_reason == "stop"
    ]
    signs = [*_of_reasoning(finished, reasoning_end), *_of_answers(finished)]
    for cell, group in groups.items():
        signs += [
            *_of_sequences(cell.label(), group),
            *_of_branching(cell.label(), group),
        ]
    return signs


def _of_reasoning(finished: Sequence[SequenceRecord], end: str | None) -> Iterator[str]:
    """Nothing follows the end of the reasoning of sequences that were not cut."""
    known = [sequence for sequence in finished if sequence.final_text is not None]
    closed = sum(sequence.final_text != sequence.text for sequence in known)
    if end is not None and _is_nearly_none(closed, known):
        yield (
            f"{_few(closed)} of {len(known)} sequences closed its reasoning with {end!r}, so "
            "that the whole text was judged; give the text with which this model closes its "
            "reasoning as --reasoning-end (none if it does not mark its reasoning), with --regrade "
            "to judge these sequences again"
        )


def _of_answers(finished: Sequence[SequenceRecord]) -> Iterator[str]:
    """The task finds no answer in sequences that were not cut."""
    judged = [sequence for sequence in finished if sequence.status == "judged"]
    without = [sequence for sequence in judged if sequence.answer is None]
    answered = len(judged) - len(without)
    if _is_nearly_none(answered, judged):
        ((reason, number),) = Counter(s.explanation for s in without).most_common(1)
        yield (
            f"{_few(answered)} of {len(judged)} sequences gave an answer of the form that "
            f"the task asks for ({number}: {reason}); read some in the report: the prompt has to "
            "ask for that form, and --reasoning-end has to be that of the model"
        )


def _is_nearly_none(number: int, sequences: Sequence[SequenceRecord]) -> bool:
    return len(sequences) >= MIN_SEQUENCES and number <= NEARLY_NONE * len(sequences)


def _few(number: int) -> str:
    return "none" if number == 0 else f"only {number}"


def _of_sequences(label: str, records: Sequence[PromptRecord]) -> Iterator[str]:
    sequences = [sequence for record in records for sequence in record.sequences]
    truncated = [s for s in sequences if s.finish_reason == "length"]
    looping = sum(ends_in_a_loop(s.token_ids) for s in truncated)
    if looping > NOTICEABLE * len(sequences):
        yield (
            f"{label}: {looping} of {len(sequences)} sequences end in a repetition; "
            "the temperature or θ is too low"
        )
    if len(truncated) > NOTICEABLE * len(sequences):
        yield (
            f"{label}: {len(truncated)} of {len(sequences)} sequences were cut at the length "
            "limit; raise --max-new-tokens"
        )


def _of_branching(label: str, records: Sequence[PromptRecord]) -> Iterator[str]:
    if records[0].method != STAGE_ONE or records[0].max_sequences < 4:
        return
    few = sum(len(record.sequences) <= 2 for record in records)
    saturated = sum(len(record.sequences) == record.max_sequences for record in records)
    if few >= NEARLY_ALL * len(records):
        yield (
            f"{label}: {few} of {len(records)} prompts ended with one or two sequences; "
            "θ is too high for this model (evals/calibrate.py chooses one)"
        )
    if saturated >= NEARLY_ALL * len(records):
        yield (
            f"{label}: {saturated} of {len(records)} prompts reached M; "
            "θ is too low for this model (evals/calibrate.py chooses one)"
        )
