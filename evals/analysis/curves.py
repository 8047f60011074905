"""A prompt's tokens and its chance of a correct sequence, for its first 0 … n sequences.

Full Parallel and trie-cached samples are independent: any k of them are as good as the first k, so
that pass@k and the tokens of k are expectations over all subsets. A search has an order, and its
first k sequences are those of the same search with M = k.

The tokens of all sequences are those that the prompt cost. Some of them no sequence holds: of
samples that ran ahead of a vote and were left, of probes, of draws that led to a known path. They
are spread over the sequences in proportion to the tokens that these hold, as Full Parallel's are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eager_sgl.search import round_sizes
from eager_sgl.signals import Floats
from evals.analysis.metrics import pass_curve
from evals.records.plan import INDEPENDENT, PARALLEL, TRIE_PARALLEL, VOTE
from evals.records.record import PromptRecord, SequenceRecord

__all__ = ["Curve", "added_tokens", "curve_of", "drawn_tokens", "tokens_to_first_correct"]


@dataclass(frozen=True)
class Curve:
    """The first 0 … n sequences of a prompt.

    Attributes:
        tokens: float64 [n + 1], generated for them; the last is `TokenCounts.generated`.
        passes: float64 [n + 1], chance that one of them is correct.
    """

    tokens: Floats
    passes: Floats


def curve_of(record: PromptRecord) -> Curve:
    """The curve of a method whose smaller M are part of its larger ones."""
    if record.method == PARALLEL:
        total, number = record.counts.generated, len(record.sequences)
        return Curve(np.linspace(0, total, number + 1), pass_curve(record.correct))
    if record.method == TRIE_PARALLEL:
        tokens = _up_to_generated(_expected_tokens(record.sequences), record)
        return Curve(tokens, pass_curve(record.correct))
    solved = np.maximum.accumulate([False, *record.correct])
    return Curve(drawn_tokens(record), solved.astype(float))


def tokens_to_first_correct(record: PromptRecord, width: int, max_sequences: int) -> float:
    """Tokens generated when a verifier ends the search; of all sequences if none is correct.

    Independent samples are drawn one at a time, in any order: the next one is drawn with the chance
    that none so far is correct. A search ends after the round of its first correct sequence.

    Args:
        width: paths that a search opens at once.
        max_sequences: sequences that count, where there are more.
    """
    curve, number = curve_of(record), min(len(record.sequences), max_sequences)
    tokens = curve.tokens[: number + 1]
    if record.method in INDEPENDENT:
        return float((np.diff(tokens) * (1 - curve.passes[:number])).sum())
    if not any(record.correct):
        return float(tokens[number])
    first = record.correct.index(True)
    return float(tokens[next(size for size in round_sizes(number, width) if size > first)])


def decoded_tokens(sequence: SequenceRecord) -> int:
    """Tokens that the server decoded for a sequence alone: not the forced one of its branch."""
    if sequence.branch is None:
        return len(sequence.token_ids)
    return len(sequence.token_ids) - sequence.branch.position - 1


def added_tokens(sequence: SequenceRecord) -> int:
    """Tokens that a sequence added to its tree: the decoded ones and the forced one."""
    return len(sequence.token_ids) - (sequence.branch.position if sequence.branch else 0)


def drawn_tokens(record: PromptRecord) -> Floats:
    """Tokens that the server decoded for the first 0 … n sequences in the order of drawing.

    A trie-cached sample whose whole path is in the tree costs nothing. Tokens that no sequence
    holds are in proportion to the others.
    """
    seen: set[tuple[int, ...]] = set()
    tokens = [0]
    for sequence in record.sequences:
        is_cached = record.method in (TRIE_PARALLEL, VOTE) and sequence.token_ids in seen
        tokens.append(0 if is_cached else decoded_tokens(sequence))
        seen.add(sequence.token_ids)
    return _up_to_generated(np.cumsum(tokens, dtype=np.float64), record)


def _up_to_generated(held: Floats, record: PromptRecord) -> Floats:
    """The tokens that the first 0 … n sequences hold, scaled to those that the prompt cost."""
    evenly = np.linspace(0, 1, len(held))  # of sequences that hold none
    return record.counts.generated * (held / held[-1] if held[-1] else evenly)


def _expected_tokens(sequences: Sequence[SequenceRecord]) -> Floats:
    """Distinct generated tokens of k of the samples, expected over all subsets of k.

    A token that c of n samples share is among those of k unless all k are of the other n − c. The
    token at which a sample leaves the tree was not generated, and each such exit begins a new path.
    """
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
