"""Every line that a method can write is one that reading accepts, and whose cost adds up."""

import json
from collections.abc import Sequence as Items
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from eager_sgl import (
    BestFirst,
    EagerConfig,
    EagerInit,
    FullParallel,
    SamplingConfig,
    SearchConfig,
    TrieParallel,
    Vote,
    WithoutReplacement,
)
from eager_sgl.adaptive_threshold import AdaptiveThreshold
from eager_sgl.core import PromptResult, Sequence
from evals.analysis.curves import curve_of
from evals.records.files import to_line
from evals.records.plan import BEST_FIRST, PARALLEL, SWOR, TRIE_PARALLEL, VOTE
from evals.records.record import PromptRecord, SequenceRecord
from tests.evals.fakes.build import record
from tests.fakes.endpoint import endpoint_of, run_method
from tests.fakes.scripted import ScriptedServer, mixed_distribution

SAMPLING = SamplingConfig(temperature=0.8, top_p=0.9, max_new_tokens=6)
EAGER = EagerConfig(threshold=0.4, max_sequences=5, top_k=4, chunk_tokens=2, sampling=SAMPLING)
SEARCH = SearchConfig(max_sequences=6, width=2, top_k=5, sampling=SAMPLING)
SEARCHES = {BEST_FIRST: BestFirst, SWOR: WithoutReplacement, TRIE_PARALLEL: TrieParallel}
RUNS: dict[str, Any] = {
    PARALLEL: lambda end: run_method(FullParallel(SAMPLING, 4), end, "p"),
    "eager_init": lambda end: run_method(
        EagerInit(replace(EAGER, deferred_threshold=0.3)), end, "p"
    ),
    "adaptive": lambda end: run_method(EagerInit(EAGER, AdaptiveThreshold()), end, "p"),
    **{
        name: lambda end, kind=kind: run_method(kind(SEARCH), end, "p")
        for name, kind in SEARCHES.items()
    },
}


def line_of(result: PromptResult) -> PromptRecord:
    sequences = (
        SequenceRecord(
            text=s.text,
            token_ids=s.token_ids,
            finish_reason=s.finish_reason,
            parent=s.parent,
            branch=s.branch,
            answer=None,
            correct=False,
            explanation="",
            vote=None,
            raw_logprob=s.raw_logprob,
        )
        for s in result.sequences
    )
    return replace(
        record([True]),
        sequences=tuple(sequences),
        counts=result.counts,
        deferred=result.deferred,
        inexact_steps=result.inexact_steps,
        entropy_histogram=result.entropy_histogram,
    )


@pytest.mark.parametrize("allows_gate", [False, True])
@pytest.mark.parametrize("name", RUNS)
def test_the_line_of_a_method_is_read_as_it_was_written(name: str, allows_gate: bool) -> None:
    for model in range(6):
        server = ScriptedServer(mixed_distribution(model), allows_gate=allows_gate)
        written = line_of(RUNS[name](endpoint_of(server)))
        assert PromptRecord.from_json(json.loads(to_line(written.to_json()))) == written


def last_tokens(sequences: Items[Sequence]) -> list[int]:
    return [sequence.token_ids[-1] for sequence in sequences]


DRAWING = replace(SEARCH, top_k=2, sampling=SamplingConfig(temperature=0.8, max_new_tokens=6))
"""The server draws the tokens beyond the K."""
DISCARDING: dict[str, Any] = {
    TRIE_PARALLEL: TrieParallel(DRAWING),
    VOTE: Vote(replace(SEARCH, max_sequences=24), last_tokens, ahead=6),
}
NESTED_METHODS: dict[str, Any] = DISCARDING | {
    PARALLEL: FullParallel(SAMPLING, 4),
    BEST_FIRST: BestFirst(SEARCH),
    SWOR: WithoutReplacement(SEARCH),
}


@pytest.mark.parametrize("name", NESTED_METHODS)
def test_the_curve_of_a_method_ends_at_the_tokens_that_it_generated(name: str) -> None:
    num_discarded = 0
    for model in range(6):
        server = ScriptedServer(mixed_distribution(model))
        result = run_method(NESTED_METHODS[name], endpoint_of(server), "p")
        curve = curve_of(replace(line_of(result), method=name))
        assert (curve.tokens[0], curve.tokens[-1]) == (0, result.counts.generated)
        assert (np.diff(curve.tokens) >= 0).all()
        num_discarded += result.counts.discarded
    assert (num_discarded > 0) == (name in DISCARDING)
