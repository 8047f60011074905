"""Searches that draw from the server's distribution through the cached tree."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from eager_sgl.config import SamplingConfig
from eager_sgl.core import PromptResult
from eager_sgl.methods.protocol import ReadSequences
from eager_sgl.methods.searches import Search, StoppedSearch
from eager_sgl.search.frontier import CERTAIN, StepRecorder
from eager_sgl.search.rounds import SearchSchedule
from eager_sgl.search.sampling import TrieParallelSchedule, WithoutReplacementSchedule
from eager_sgl.search.trie import num_inexact_steps
from eager_sgl.tree import TokenTree

__all__ = [
    "SamplingSearch",
    "TrieParallel",
    "WithoutReplacement",
    "trie_policy",
    "with_inexact_steps",
]


@dataclass(frozen=True)
class SamplingSearch(Search):
    """Draws whole paths, answers included, from the distribution that the server samples from."""

    @property
    def observed_until(self) -> None:
        return None

    def _rng(self, tree: TokenTree) -> random.Random:
        if self.seed is None:
            return random.Random()
        return random.Random(f"{self.seed} {list(tree.prompt_ids)}")


def trie_policy(sampling: SamplingConfig) -> StepRecorder:
    """A step with a certain token at temperature 1 need not be stored.

    Without top-p and top-k its other tokens are drawn by the server, if its logprobs are of the
    sampling temperature. With them it has none where top-p keeps no other token, at temperatures
    that do not lower the probability of the certain one.
    """
    temperature = sampling.temperature
    if sampling.top_p <= CERTAIN and temperature <= 1:
        return StepRecorder(temperature=temperature)
    if sampling.is_whole:
        return StepRecorder(temperature=temperature, stored_below_bound=math.inf)
    return StepRecorder(stored_below=math.inf, temperature=temperature)


def with_inexact_steps(
    result: PromptResult, tree: TokenTree, sampling: SamplingConfig
) -> PromptResult:
    """With the number of stored steps at which samples are not exact: 0 where the server draws."""
    number = 0 if tree.has_sampling_logprobs else num_inexact_steps(tree, sampling)
    return replace(result, inexact_steps=number)


@dataclass(frozen=True)
class TrieParallel(StoppedSearch, SamplingSearch):
    """Independent samples; only their tokens outside the tree are generated.

    All run at once. With a stop rule, shared tokens or `max_tokens` they start in rounds.
    """

    @property
    def decides_in_thread(self) -> bool:
        return self._calls_users

    def policy(self) -> StepRecorder:
        return trie_policy(self.sampling)

    def _rounds(self, tree: TokenTree, read: ReadSequences) -> Callable[..., SearchSchedule]:
        return partial(TrieParallelSchedule, rng=self._rng(tree))

    def annotate(self, result: PromptResult, tree: TokenTree) -> PromptResult:
        return with_inexact_steps(result, tree, self.sampling)


@dataclass(frozen=True)
class WithoutReplacement(StoppedSearch, SamplingSearch):
    """Exact sampling without replacement: no path is drawn twice."""

    def policy(self) -> StepRecorder:
        return StepRecorder(stored_below=math.inf, temperature=self.sampling.temperature)

    def _rounds(self, tree: TokenTree, read: ReadSequences) -> Callable[..., SearchSchedule]:
        return partial(WithoutReplacementSchedule, rng=self._rng(tree))

    def annotate(self, result: PromptResult, tree: TokenTree) -> PromptResult:
        return replace(result, inexact_steps=num_inexact_steps(tree, self.sampling))
