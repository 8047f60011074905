"""Sequences of votes that the real runtime ends below a floor of confidence."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from eager_sgl import Cutting, ModeTest, PromptResult, SamplingConfig, SearchConfig, Vote
from eager_sgl.core import Generation
from eager_sgl.engine.frontend.endpoint import TokenEndpoint
from eager_sgl.engine.loop import run
from eager_sgl.engine.requests import Submission
from eager_sgl.generate.prompt import grow
from eager_sgl.voting.cutting import group_confidences
from evals.analysis.judged import Verdicts
from evals.tasks import Sample, find_task

pytestmark = pytest.mark.integration

TASK = find_task("countdown")
CUTTING = Cutting(window=16, keep=0.5, warmup=4)
SAMPLING = SamplingConfig(temperature=1.0, top_p=1.0, max_new_tokens=256)
Ends = dict[str, tuple[int, bool]]
"""Request id -> the tokens that the server has decoded by its own count, and whether it was cut."""


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> Ends:
    ends: Ends = {}
    read = Submission.read

    def noted(self: Submission, answer: Any) -> Generation:
        meta = answer["meta_info"]
        reason = (meta.get("finish_reason") or {}).get("matched")
        ends[meta["id"]] = meta.get("completion_tokens", 0), "below the floor" in str(reason)
        return read(self, answer)

    monkeypatch.setattr(Submission, "read", noted)
    return ends


def votes(endpoint: TokenEndpoint, samples: Sequence[Sample], **fields: Any) -> list[PromptResult]:
    config = SearchConfig(max_sequences=16, sampling=SAMPLING)

    async def gathered() -> list[PromptResult]:
        methods = [
            Vote(config, answers=Verdicts(TASK, sample).classes, rule=ModeTest(), **fields)
            for sample in samples
        ]
        pairs = zip(samples, methods, strict=True)
        return await asyncio.gather(
            *(grow(endpoint.replicas, sample.prompt, method) for sample, method in pairs)
        )

    return run(gathered())


@pytest.mark.parametrize("shares", [True, False])
def test_sequences_end_in_the_server_and_its_counts_agree(
    endpoint: TokenEndpoint, ends: Ends, shares: bool
) -> None:
    samples = TASK.load(6, (2, 3), 0)
    results = votes(endpoint, samples, shares=shares, cutting=CUTTING)
    num_cut_requests = sum(is_cut for _, is_cut in ends.values())
    generated = sum(result.counts.generated for result in results)
    assert generated == sum(number for number, _ in ends.values())
    num_cut = num_ended_cut = 0
    for result in results:
        assert result.vote is not None
        first, later = result.sequences[:4], result.sequences[4:]
        floor = CUTTING.floor([CUTTING.lowest(sequence.confidences) for sequence in first])
        assert all(sequence.finish_reason != "cut" for sequence in first)
        for sequence in later:
            assert floor is not None
            assert len(sequence.confidences) == len(sequence.token_ids)
            assert np.isfinite(sequence.confidences).all()
            groups = group_confidences(sequence.confidences, CUTTING.window)
            below = np.flatnonzero(groups < floor)
            if sequence.finish_reason == "cut":
                num_ended_cut += 1
                assert len(below)
                assert shares or below.tolist() == [len(groups) - 1], "it ends where it is cut"
        num_cut += result.vote.num_cut
    print(
        f"shares={shares}: {num_cut} of {sum(len(r.sequences) for r in results)} sequences cut, "
        f"{num_cut_requests} requests ended in the server, {num_ended_cut} sequences cut short; "
        f"{generated} tokens"
    )
    assert num_cut_requests
    assert num_ended_cut
    assert shares or num_cut_requests >= num_ended_cut
