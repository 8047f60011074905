"""The policy and the schedule that a configuration describes."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

from eager_sgl.adaptive_schedule import AdaptiveSchedule
from eager_sgl.adaptive_threshold import AdaptiveThreshold
from eager_sgl.config import EagerConfig, SearchConfig
from eager_sgl.policy import EntropyThreshold, Policy
from eager_sgl.schedule import OnlineSchedule
from eager_sgl.search.best_first import BestFirstSchedule
from eager_sgl.search.frontier import CERTAIN, StepRecorder
from eager_sgl.search.priorities import usable_priority
from eager_sgl.search.rounds import IsEnough, MayCost, SearchSchedule
from eager_sgl.search.sampling import TrieParallelSchedule, WithoutReplacementSchedule
from eager_sgl.search.trie import num_inexact_steps
from eager_sgl.tree import TokenTree

__all__ = ["Schedule", "inexact_steps_of", "mark_of", "policy_of", "schedule_of"]


Schedule = OnlineSchedule | AdaptiveSchedule | SearchSchedule
"""What decides on a prompt's tree."""


def policy_of(config: EagerConfig | SearchConfig) -> Policy:
    """What looks at the distributions of monitored steps."""
    if isinstance(config, EagerConfig):
        return EntropyThreshold.from_config(config)
    if config.order == "best_first":
        return StepRecorder()
    sampling = config.sampling
    # Elsewhere a step that is certain at temperature 1 may draw another token.
    is_certain = sampling.top_p <= CERTAIN and sampling.temperature <= 1
    stored_below = CERTAIN if config.order == "trie_parallel" and is_certain else math.inf
    return StepRecorder(stored_below, sampling.temperature)


def mark_of(config: EagerConfig | SearchConfig) -> str | None:
    """The text after which nothing is watched or stored; walks go through answers as well."""
    return None if _walks(config) else config.reasoning_end


def inexact_steps_of(config: EagerConfig | SearchConfig, tree: TokenTree) -> int | None:
    """See `PromptResult`."""
    return num_inexact_steps(tree, config.sampling) if _walks(config) else None


def _walks(config: EagerConfig | SearchConfig) -> bool:
    return isinstance(config, SearchConfig) and config.order != "best_first"


def schedule_of(
    config: EagerConfig | SearchConfig,
    max_sequences: int,
    prompt_ids: Sequence[int],
    stop: IsEnough | None = None,
    may_cost: MayCost | None = None,
    adaptive_threshold: AdaptiveThreshold | None = None,
) -> Schedule:
    """What decides on a prompt's tree.

    Args:
        max_sequences: M, at most the configuration's.
        prompt_ids: with the seed, they seed the walks.
        stop: ends a search early; EAGer-init has none.
        may_cost: of a search that shares its tokens with others.
        adaptive_threshold: gives EAGer-init its θ.

    Raises:
        ValueError: the configuration is of EAGer-init, which no rule ends, and which does not bid.
    """
    if isinstance(config, EagerConfig):
        if stop is not None:
            raise ValueError("until is given for EAGer-init, which only M and patience end")
        if may_cost is not None:
            raise ValueError(
                "a bidder is given for EAGer-init; only searches have rounds to bid for"
            )
        online = OnlineSchedule(
            max_sequences, config.patience, config.threshold, config.deferred_threshold is not None
        )
        return AdaptiveSchedule(online, adaptive_threshold) if adaptive_threshold else online
    common: dict[str, Any] = {
        "max_sequences": max_sequences,
        "width": config.width,
        "max_tokens": config.max_tokens,
        "stop": stop,
        "may_cost": may_cost,
    }
    if config.order == "best_first":
        return BestFirstSchedule(**common, priority=usable_priority(config.priority))
    rng = random.Random(f"{config.seed} {list(prompt_ids)}")
    kind = TrieParallelSchedule if config.order == "trie_parallel" else WithoutReplacementSchedule
    return kind(**common, sampling=config.sampling, rng=rng)
