"""The journal of a prompt: what `--replay` needs besides the sequences, kept where it is known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eager_sgl import BestFirst, PromptResult, Search, TrieParallel, Vote, WithoutReplacement
from eager_sgl import Sequence as Generated
from eager_sgl.search import usable_priority
from eager_sgl.search.priorities import JointOverCost
from eager_sgl.search.trie import nucleus
from eager_sgl.steps import Steps
from eager_sgl.tree import Segment, TokenTree
from evals.records.record import UntakenStep
from evals.records.steps import pack_steps

__all__ = [
    "JournaledBestFirst",
    "JournaledTrieParallel",
    "JournaledVote",
    "JournaledWithoutReplacement",
    "packed_steps",
    "untaken_steps",
]


@dataclass(frozen=True)
class SearchResult(PromptResult):
    """The result of a search with the steps that its decisions depended on.

    Attributes:
        steps: as `evals.records.record.Journal.steps`; empty where samples depended on tokens
            that the tree does not know.
    """

    steps: tuple[str, ...] = ()


class _Journaled(Search):
    """A search whose results have their steps."""

    def annotate(self, result: PromptResult, tree: TokenTree) -> PromptResult:
        result = super().annotate(result, tree)
        if _depends_on_unknown(self, tree) or tree.probes:
            return SearchResult(**vars(result))
        opened = _opened_segments(result.sequences, tree)
        steps = tuple("" if segment is None else _packed(self, segment) for segment in opened)
        return SearchResult(**vars(result), steps=steps)


def _depends_on_unknown(method: Search, tree: TokenTree) -> bool:
    """Whether samples depend on tokens that the tree does not know, or on their probability."""
    has_tails = tree.has_sampling_logprobs and method.sampling.is_whole
    shares = isinstance(method, TrieParallel) or (isinstance(method, Vote) and method.shares)
    samples = shares and method.sampling.temperature > 0
    return samples and (has_tails or tree.has_draws)


def _opened_segments(sequences: Sequence[Generated], tree: TokenTree) -> list[Segment | None]:
    """The segment that a sequence opened; None for a repeated sample."""
    left = [segment for segment in tree.segments if segment.parent is not None]
    children = {(segment.parent, segment.start, segment.token_ids[0]): segment for segment in left}
    opened: list[Segment | None] = [*tree.segments[:1]]
    for sequence in sequences[1:]:
        if sequence.branch is None or sequence.parent is None:
            opened.append(None)
        else:
            point = sequence.branch
            opened.append(children[opened[sequence.parent], point.position, point.token_ids[1]])
    return opened


class JournaledBestFirst(_Journaled, BestFirst):
    """`BestFirst`, its results with their steps."""


class JournaledTrieParallel(_Journaled, TrieParallel):
    """`TrieParallel`, its results with their steps."""


class JournaledVote(_Journaled, Vote):
    """`Vote`, its results with their steps."""


class JournaledWithoutReplacement(_Journaled, WithoutReplacement):
    """`WithoutReplacement`, its results with their steps."""


def packed_steps(result: PromptResult) -> tuple[str, ...]:
    """The steps of a search's result; empty for another method's."""
    return result.steps if isinstance(result, SearchResult) else ()


def _packed(method: Search, segment: Segment) -> str:
    if (steps := segment.steps) is None:
        return ""
    taken = [segment.token_ids[position - segment.start] for position in steps.positions.tolist()]
    return pack_steps(steps, taken, _can_open(method, steps))


def _can_open(method: Search, steps: Steps) -> NDArray[np.bool_]:
    """The tokens [n, K] of a step that a search may open or value.

    Sampling draws from the nucleus. A joint probability is of the tokens that the reshaping leaves.
    Any other priority may look at all of them.
    """
    if not isinstance(method, BestFirst):
        return np.asarray(nucleus(steps.logprobs, steps.top_k_mass, method.sampling) > 0)
    priority = usable_priority(method.priority)
    if isinstance(priority, JointOverCost):
        return np.isfinite(priority.reshaping(steps.logprobs))
    return np.ones(steps.token_ids.shape, np.bool_)


def untaken_steps(
    sequences: Sequence[Generated], threshold: float, num_before: int = 0
) -> Iterator[UntakenStep]:
    """The steps of at least a threshold at which no sequence branched off, each once.

    Args:
        sequences: of EAGer-init, each with the entropies of its steps.
        threshold: in nats.
        num_before: index of the first of the sequences; parents count from it.
    """
    branched = {(s.parent, s.branch.position) for s in sequences if s.branch is not None}
    for index, sequence in enumerate(sequences, num_before):
        start = sequence.branch.position + 1 if sequence.branch else 0
        entropies = np.array(sequence.entropies[start:], float)
        for position in (start + np.flatnonzero(entropies >= threshold)).tolist():
            if (index, position) not in branched:
                yield UntakenStep(index, position, sequence.entropies[position])
