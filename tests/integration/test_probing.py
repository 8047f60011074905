"""Probes of running sequences on the real runtime: what they prefill, and what the vote is."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from eager_sgl import Probing, PromptResult, SamplingConfig, SearchConfig, Vote
from eager_sgl import Sequence as Generated
from eager_sgl.core import Generation
from eager_sgl.engine.frontend.endpoint import TokenEndpoint
from eager_sgl.engine.loop import run
from eager_sgl.generate.executor import TreeExecutor
from eager_sgl.generate.executor.in_flight import InFlight
from eager_sgl.generate.prompt import grow
from eager_sgl.voting.votes import Classes
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


def run_votes(
    endpoint: TokenEndpoint, samples: Sequence[Sample], votes: Sequence[Vote]
) -> list[PromptResult]:
    async def gathered() -> list[PromptResult]:
        pairs = zip(samples, votes, strict=True)
        return await asyncio.gather(
            *(grow(endpoint.replicas, sample.prompt, vote) for sample, vote in pairs)
        )

    return run(gathered())


def vote_of(answers: Classes, **fields: Any) -> Vote:
    config = SearchConfig(max_sequences=8, sampling=SAMPLING)
    return Vote(config, answers=answers, probing=PROBING, **fields)


@pytest.mark.parametrize("shares", [True, False])
def test_a_probe_prefills_its_text_alone(endpoint: TokenEndpoint, seen: Seen, shares: bool) -> None:
    samples = TASK.load(8, (2, 3), 0)
    verdicts = [Verdicts(TASK, sample) for sample in samples]
    votes = [vote_of(verdict.classes, shares=shares) for verdict in verdicts]
    results = run_votes(endpoint, samples, votes)
    outcomes = [result.vote for result in results if result.vote is not None]
    num_right = sum(
        outcome.sequence is not None and verdict.is_correct(result.sequences[outcome.sequence])
        for verdict, result, outcome in zip(verdicts, results, outcomes, strict=True)
    )
    print(
        f"{sum(v.num_probes for v in outcomes)} probes, "
        f"{sum(v.num_probe_tokens for v in outcomes)} tokens of "
        f"{sum(r.counts.generated for r in results)}; {num_right} of {len(results)} votes right; "
        f"at most {max(seen.num_uncached)} uncached tokens before a probe"
    )
    assert num_right > len(results) / 2
    assert len(seen.num_uncached) > 10
    assert max(seen.num_uncached) <= 1


def same_answers(sequences: Sequence[Generated]) -> list[str]:
    return ["same"] * len(sequences)


def test_a_sequence_ends_at_its_second_probe(endpoint: TokenEndpoint) -> None:
    samples = TASK.load(8, (3, 4), 0)
    results = run_votes(endpoint, samples, [vote_of(same_answers)] * len(samples))
    sequences = [sequence for result in results for sequence in result.sequences]
    probed = [sequence for sequence in sequences if sequence.finish_reason == "probed"]
    print(
        f"{len(probed)} of {len(sequences)} sequences ended at {PROBING.interval} tokens or later"
    )
    assert len(probed) > len(sequences) / 2
    for sequence in probed:
        forced = [math.isnan(logprob) for logprob in sequence.logprobs].index(True)
        assert forced % PROBING.interval == 0
        assert forced >= PROBING.stable * PROBING.interval
        assert sequence.final_text
        assert len(sequence.token_ids) - forced <= 1 + PROBING.max_answer_tokens
