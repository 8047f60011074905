"""The recorded independent samples of a prompt, as arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from eager_sgl.core import FinishReason
from eager_sgl.signals import Floats
from eager_sgl.voting.cutting import lowest_group_confidence
from evals.records.columns import unpack_columns
from evals.records.record import PromptRecord, SequenceRecord

__all__ = ["NO_VOTE", "Prompts", "RecordedSample", "Samples", "TaskName", "samples_of"]

NO_VOTE = -1
"""The class of a sample without an answer."""
MIN_SURPRISAL, MAX_SURPRISAL = 1e-9, 64.0
"""In nats; the second stands for a value that was not recorded."""


class TaskName(NamedTuple):
    """A task of some runs.

    Attributes:
        task: as `--task` has it.
        model: where the runs are of several; else None.
    """

    task: str
    model: str | None = None

    def __str__(self) -> str:
        return self.task if self.model is None else f"{self.task}, {self.model}"


@dataclass(frozen=True)
class RecordedSample:
    """A sample as the rules of `eager_sgl.voting` see sequences.

    Attributes:
        finish_reason, raw_logprob: see `eager_sgl.core.Sequence`.
        values: the confidence of every token, float64; empty without `--record`.
        surprisals: of every token, at the temperature of the run; empty without.
    """

    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    raw_logprob: float | None
    values: Floats
    surprisals: Floats

    @property
    def confidences(self) -> list[float]:
        """See `eager_sgl.core.Sequence`."""
        values: list[float] = self.values.tolist()
        return values


@dataclass(frozen=True)
class Samples:
    """The N samples of a prompt.

    Attributes:
        level: of difficulty; None in a task without.
        recorded: the samples.
        votes: int64 [N], the class of each answer, or `NO_VOTE`.
        is_right: bool [C], of the classes.
        temperature: τ of the run.
    """

    sample_id: str
    level: int | None
    recorded: tuple[RecordedSample, ...]
    votes: NDArray[np.int64]
    is_right: NDArray[np.bool_]
    temperature: float
    _lowest: dict[int, Floats] = field(default_factory=dict, repr=False)

    def lowest(self, window: int) -> Floats:
        """The lowest group confidences [N]."""
        if window not in self._lowest:
            found = [lowest_group_confidence(s.confidences, window) for s in self.recorded]
            self._lowest[window] = np.array(found)
        return self._lowest[window]

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each sample [N]."""
        return np.array([len(sample.token_ids) for sample in self.recorded])

    @cached_property
    def logprobs(self) -> Floats:
        """At temperature 1, in nats [N]; NaN where not known."""
        known = [sample.raw_logprob for sample in self.recorded]
        return np.array([np.nan if logprob is None else logprob for logprob in known])

    @cached_property
    def path_logprobs(self) -> list[Floats]:
        """Of each sample's first 1 … n tokens, at temperature 1.

        They are found from the surprisals at τ and scaled to the probability of the whole sample,
        which is known: exactly at τ = 1, and as if every step had two tokens elsewhere.
        """
        pairs = zip(self.recorded, self.logprobs.tolist(), strict=True)
        return [_path_logprobs(sample.surprisals, self.temperature, lp) for sample, lp in pairs]

    @cached_property
    def has_confidences(self) -> bool:
        """Whether the confidence of every token is known."""
        return all(len(s.values) and np.isfinite(s.values).all() for s in self.recorded)

    @cached_property
    def distinct(self) -> NDArray[np.int64]:
        """Index of the first sample with the same tokens [N]."""
        first: dict[tuple[int, ...], int] = {}
        ids = (sample.token_ids for sample in self.recorded)
        return np.array([first.setdefault(tokens, index) for index, tokens in enumerate(ids)])

    @cached_property
    def common(self) -> NDArray[np.int32]:
        """Length of the common prefix of each two samples [N, N]."""
        number, width = len(self.recorded), int(self.lengths.max())
        tokens = np.full((number, width + 1), NO_VOTE, np.int64)
        for row, sample in zip(tokens, self.recorded, strict=True):
            row[: len(sample.token_ids)] = sample.token_ids
        common = [np.where((d := tokens != row).any(1), d.argmax(1), width) for row in tokens]
        both = np.minimum(self.lengths[:, None], self.lengths)
        return np.asarray(np.minimum(np.array(common), both), np.int32)


Prompts = Mapping[float, Sequence[Samples]]
"""The prompts of a task by temperature; the same prompts in the same order at each."""


def samples_of(records: Sequence[PromptRecord]) -> Samples:
    """The samples of a prompt's records, one after the other.

    Args:
        records: of Full Parallel at one temperature; several seeds are more samples.

    Raises:
        ValueError: the packed values of a sequence cannot be read.
    """
    sequences = [sequence for record in records for sequence in record.sequences]
    votes, is_right = _joined_votes(records)
    recorded = tuple(map(_recorded, sequences))
    first = records[0]
    return Samples(first.sample_id, first.level, recorded, votes, is_right, first.temperature)


def _path_logprobs(surprisals: Floats, temperature: float, whole: float) -> Floats:
    """Surprisals at τ as those at temperature 1 of steps with two tokens, added up."""
    known = np.nan_to_num(surprisals, nan=MAX_SURPRISAL)
    odds = temperature * (known + np.log(-np.expm1(-np.maximum(known, MIN_SURPRISAL))))
    sums = np.logaddexp(0, odds).cumsum()
    return np.asarray(sums * (whole / sums[-1]))


def _recorded(sequence: SequenceRecord) -> RecordedSample:
    confidences = surprisals = np.empty(0)
    if sequence.columns is not None:
        columns = unpack_columns(sequence.columns, len(sequence.token_ids))
        confidences, surprisals = columns.confidences, columns.surprisals
    fields = sequence.token_ids, sequence.finish_reason, sequence.raw_logprob
    return RecordedSample(*fields, confidences, surprisals)


def _joined_votes(
    records: Iterable[PromptRecord],
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The classes of all sequences, in the order of their first ones, and which are right.

    Classes of different records are one where an answer of both has the same text.
    """
    known: dict[str, int] = {}
    votes: list[int] = []
    is_right: list[bool] = []
    for record in records:
        of_record: dict[int, int] = {}
        for sequence in record.sequences:
            if sequence.vote is None:
                votes.append(NO_VOTE)
                continue
            answer = sequence.answer or ""
            number = of_record.get(sequence.vote, known.get(answer, len(is_right)))
            if number == len(is_right):
                is_right.append(record.sequences[sequence.vote].correct)
            of_record[sequence.vote] = known[answer] = number
            votes.append(number)
    return np.array(votes, np.int64), np.array(is_right, np.bool_)
