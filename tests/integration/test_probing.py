"""Probes of running sequences on the real runtime: what they prefill, and what the vote is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from eager_sgl import Probing, PromptResult, SamplingConfig, SearchConfig, Vote
from eager_sgl.core import Generation
from eager_sgl.engine.frontend.endpoint import TokenEndpoint
from eager_sgl.engine.loop import run
from eager_sgl.generate.executor import TreeExecutor
from eager_sgl.generate.flights import InFlight
from eager_sgl.generate.prompt import grow
from evals.analysis.judged import Verdicts
from evals.tasks import Sample, find_task

pytestmark = pytest.mark.integration

TASK = find_task("countdown")
PROBING = Probing(text="</think>", interval=16, stable=2, max_answer_tokens=24)
SAMPLING = SamplingConfig(temperature=0.6, max_new_tokens=256)


@dataclass
class Seen:
    """The ends of requests: of probes, the tokens that were not cached beyond their texts."""

    num_uncached: list[int] = field(default_factory=list)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    seen, receive = Seen(), TreeExecutor._receive

    def noted(self: TreeExecutor, flight: InFlight, outcome: Generation | Exception) -> bool:
        probe = flight.segment.probe
        if probe is not None and isinstance(outcome, Generation) and outcome.is_over:
            uncached = outcome.prompt_tokens - outcome.cached_tokens
            seen.num_uncached.append(uncached - probe.num_forced)
        return receive(self, flight, outcome)

    monkeypatch.setattr(TreeExecutor, "_receive", noted)
    return seen


def probed_votes(
    endpoint: TokenEndpoint, samples: Sequence[Sample], **fields: Any
) -> list[PromptResult]:
    config = SearchConfig(max_sequences=8, sampling=SAMPLING)

    async def gathered() -> list[PromptResult]:
        methods = [
            Vote(config, answers=Verdicts(TASK, sample).classes, probing=PROBING, **fields)
            for sample in samples
        ]
        pairs = zip(samples, methods, strict=True)
        return await asyncio.gather(
            *(grow(endpoint.replicas, sample.prompt, method) for sample, method in pairs)
        )

    return run(gathered())


@pytest.mark.parametrize("shares", [True, False])
def test_a_probe_prefills_its_text_alone(endpoint: TokenEndpoint, seen: Seen, shares: bool) -> None:
    samples = TASK.load(8, (2, 3), 0)
    results = probed_votes(endpoint, samples, shares=shares)
    votes = [result.vote for result in results if result.vote is not None]
    sequences = [sequence for result in results for sequence in result.sequences]
    probed = [sequence for sequence in sequences if sequence.finish_reason == "probed"]
    right = sum(
        vote.sequence is not None
        and TASK.score(sample, result.sequences[vote.sequence].final_text).correct
        for sample, result, vote in zip(samples, results, votes, strict=True)
    )
    counts = [result.counts for result in results]
    print(
        f"{sum(v.num_probes for v in votes)} probes, {sum(v.num_probe_tokens for v in votes)} "
        f"tokens of {sum(c.generated for c in counts)}; {len(probed)} of {len(sequences)} "
        f"sequences probed; {right} of {len(votes)} votes right; uncached {seen.num_uncached}"
    )
    assert probed
    assert right > len(votes) / 2
    assert len(seen.num_uncached) > 10
    assert max(seen.num_uncached) <= 1
    assert all(c.discarded >= 0 for c in counts)
