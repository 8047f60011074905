"""What a method reaches with how many tokens, prompt by prompt.

Full Parallel and trie-cached samples are independent, so that any k of them will do: both pass@k
and the tokens of k are expectations over all subsets. A search has an order, and its first k
sequences are what it would have been with M = k.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evals.analysis.metrics import pass_curve
from evals.records.plan import INDEPENDENT, PARALLEL, TRIE_PARALLEL
from evals.records.store import PromptRecord, SequenceRecord

__all__ = [
    "Curve",
    "curve_of",
    "drawn_tokens",
    "own_tokens",
    "rounds",
    "tokens_to_first_correct",
]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """A prompt's sequences one after the other.

    Attributes:
        tokens: float64 [n + 1], generated with the first 0 … n of them.
        passes: float64 [n + 1], chance that one of these is correct.
    """

    tokens: Floats
    passes: Floats


def curve_of(record: PromptRecord) -> Curve:
    """Of a method whose smaller M are part of its larger ones."""
    if record.method == PARALLEL:
        total, number = record.counts.generated, len(record.sequences)
        return Curve(np.linspace(0, total, number + 1), pass_curve(record.correct))
    if record.method == TRIE_PARALLEL:
        return Curve(_expected_tokens(record.sequences), pass_curve(record.correct))
    solved = np.maximum.accumulate([False, *record.correct])
    return Curve(drawn_tokens(record), solved.astype(float))


def tokens_to_first_correct(record: PromptRecord, width: int, most: int) -> float:
    """Tokens generated when a verifier ends the search; of all sequences if none is correct.

    Independent samples come one at a time, in any order: the next one is drawn with the chance that
    none so far is correct. A search is ended after the round that brought the first correct one.

    Args:
        width: paths that a search opens at once.
        most: sequences that count, where there are more.
    """
    curve, number = curve_of(record), min(len(record.sequences), most)
    tokens = curve.tokens[: number + 1]
    if record.method in INDEPENDENT:
        return float((np.diff(tokens) * (1 - curve.passes[:number])).sum())
    if not any(record.correct):
        return float(tokens[number])
    first = record.correct.index(True)
    return float(tokens[next(size for size in rounds(number, width) if size > first)])


def rounds(number: int, width: int) -> list[int]:
    """How many sequences a search has after each of its rounds, up to all of them.

    They are those of `SearchSchedule`, but for samples of trie-cached sampling that wait.
    """
    sizes = [1]
    while sizes[-1] < number:
        sizes.append(min(sizes[-1] + min(width, sizes[-1]), number))
    return sizes


def drawn_tokens(record: PromptRecord) -> Floats:
    """Tokens that the server decoded for the first 0 … n sequences in the order of drawing.

    A sample that walked down a path which was there cost nothing.
    """
    seen: set[tuple[int, ...]] = set()
    tokens = [0]
    for sequence in record.sequences:
        is_walked = record.method == TRIE_PARALLEL and sequence.token_ids in seen
        tokens.append(0 if is_walked else own_tokens(sequence))
        seen.add(sequence.token_ids)
    return np.cumsum(tokens, dtype=np.float64)


def own_tokens(sequence: SequenceRecord) -> int:
    """Tokens that the server decoded for one sequence alone: what a branch set by hand is not."""
    if sequence.branch is None:
        return len(sequence.token_ids)
    return len(sequence.token_ids) - sequence.branch.position - 1


def _expected_tokens(sequences: Iterable[SequenceRecord]) -> Floats:
    """Distinct generated tokens of k of the samples, expected over all subsets of k.

    A token that c of n samples share is among those of k unless all k are of the other n − c. What
    a walk chose was not generated, and each such choice begins a path of its own.
    """
    sequences = list(sequences)
    number = len(sequences)
    shared = Counter(
        sequence.token_ids[:end]
        for sequence in sequences
        for end in range(1, len(sequence.token_ids) + 1)
    )
    chosen = {s.token_ids[: s.branch.position + 1] for s in sequences if s.branch is not None}
    generated = Counter(count for path, count in shared.items() if path not in chosen)
    # passes[c][k] = 1 − C(n − c, k) / C(n, k): a token is drawn where a "correct" one would be.
    passes = {count: pass_curve([True] * count + [False] * (number - count)) for count in generated}
    zero: Floats = np.zeros(number + 1)
    return sum((times * passes[count] for count, times in generated.items()), zero)
