"""Deferred branches of an earlier result, taken later."""

from __future__ import annotations

import math
from collections.abc import Sequence

from eager_sgl.config import SamplingConfig, require, require_whole
from eager_sgl.core import PromptResult
from eager_sgl.engine.client import Prompt
from eager_sgl.engine.replicas import Replicas
from eager_sgl.generate.growth import Growth, encoded, planted
from eager_sgl.generate.limits import UNLIMITED, PromptLimits
from eager_sgl.generate.observers import Observer
from eager_sgl.generate.results import finished
from eager_sgl.methods import FullParallel
from eager_sgl.schedule import FixedSchedule, Leaf

__all__ = ["resume"]


async def resume(
    replicas: Replicas,
    prompt: Prompt,
    result: PromptResult,
    num_sequences: int,
    sampling: SamplingConfig,
    *,
    threshold: float,
    reasoning_end: str | None,
    seed: int | None = None,
    limits: PromptLimits = UNLIMITED,
    observers: Sequence[Observer] = (),
) -> PromptResult:
    """The new sequences; see `AsyncClient.resume`."""
    require_whole("num_sequences", num_sequences, 1)
    require(0 <= threshold < math.inf, "threshold", threshold, "a finite number, at least 0")
    method = FullParallel(sampling, num_sequences, reasoning_end, seed=seed)
    tokens = await encoded(replicas, prompt, method)
    chosen = [d for d in result.deferred[:num_sequences] if d.point.entropy >= threshold]
    async with planted(replicas, tokens, method, limits) as (executor, reader):
        leaves = []
        for index, deferred in enumerate(chosen):
            segment = await executor.open_deferred(result, deferred)
            leaves.append(Leaf(index, segment, deferred.sequence, deferred.point))
        growth = Growth(executor, FixedSchedule(tuple(leaves)), method, None, observers)
        return await finished(growth, reader, method, num_sequences, limits)
