"""The laboratory decides on recorded samples as a live vote does, at the same cost.

The first samples of a seeded vote that shares nothing are those of Full Parallel with that seed.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest

from eager_sgl import (
    BetaRule,
    ConsensusShare,
    FullParallel,
    ModeTest,
    PromptResult,
    SamplingConfig,
    SearchConfig,
    Vote,
)
from eager_sgl import Sequence as Generated
from eager_sgl.core import Generation
from eager_sgl.plugin.vocabulary import COLUMNS
from eager_sgl.schedule import sequences_of
from eager_sgl.tree import TokenTree
from eager_sgl.voting.cutting import Cutting
from eager_sgl.voting.deciding import VoteRule
from eager_sgl.voting.weighing import by_confidence, by_probability
from evals.execution.worker import packed_columns
from evals.grading.votes import vote_classes
from evals.laboratory.cutting import cut
from evals.laboratory.play import Played, play
from evals.laboratory.samples import Samples, samples_of
from evals.laboratory.syntax import read_rules
from evals.records.record import PromptRecord, SequenceRecord
from tests.evals.fakes.build import record
from tests.evals.laboratory.build import in_their_order
from tests.fakes.endpoint import endpoint_of, run_method
from tests.fakes.scripted import VOCABULARY, ScriptedServer, mixed_distribution

SAMPLING = SamplingConfig(temperature=0.8, top_p=0.9, max_new_tokens=8)
M = 16
RULES: dict[str, VoteRule] = {
    "beta:0.95": BetaRule(),
    "beta:0.7": BetaRule(0.7),
    "mode:0.5": ModeTest(0.5),
}


def second_tokens(sequences: Sequence[Generated]) -> list[Hashable | None]:
    """An answer that some sequences do not have."""
    return [s.token_ids[1] if len(s.token_ids) > 1 else None for s in sequences]


def server_of(model: int) -> ScriptedServer:
    return ScriptedServer(mixed_distribution(model), allows_gate=True, honours_seed=True)


def recorded(result: PromptResult) -> PromptRecord:
    """The line that `--record` writes."""
    answers = second_tokens(result.sequences)
    votes = vote_classes(answers)
    sequences = tuple(
        SequenceRecord(
            text="",
            token_ids=sequence.token_ids,
            finish_reason=sequence.finish_reason,
            parent=None,
            branch=None,
            answer=None if answer is None else str(answer),
            correct=False,
            explanation="",
            vote=vote,
            raw_logprob=sequence.raw_logprob,
            columns=packed_columns(sequence),
        )
        for sequence, answer, vote in zip(result.sequences, answers, votes, strict=True)
    )
    written = replace(record([]), sequences=sequences).to_json()
    return PromptRecord.from_json(written)


def samples_in(result: PromptResult) -> Samples:
    return samples_of([recorded(result)])


def full_parallel(model: int, seed: int) -> PromptResult:
    method = FullParallel(SAMPLING, M, None, seed=seed, columns=COLUMNS)
    return run_method(method, endpoint_of(server_of(model)))


def vote_of(name: str, seed: int, **fields: Any) -> Vote:
    config = SearchConfig(max_sequences=M, sampling=SAMPLING, top_k=VOCABULARY)
    return Vote(config, **{"rule": RULES.get(name), "answers": second_tokens} | fields, seed=seed)


def play_in_order(text: str, samples: Samples) -> Played:
    (rule,) = read_rules(text)
    return play(rule, in_their_order(samples))


def winner(played: Played, result: PromptResult) -> Hashable | None:
    """The answer that the laboratory chose, in the words of the live vote."""
    answers = [answer for answer in second_tokens(result.sequences) if answer is not None]
    number = int(played.winners[0])
    return None if number < 0 else list(dict.fromkeys(answers))[number]


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("model", range(5))
def test_a_live_vote_ends_where_the_laboratory_ends_it(model: int, name: str) -> None:
    for seed in range(2):
        live = run_method(vote_of(name, seed, shares=False, ahead=0), endpoint_of(server_of(model)))
        parallel = full_parallel(model, seed)
        number = len(live.sequences)
        own = [sequence.token_ids for sequence in live.sequences]
        assert own == [sequence.token_ids for sequence in parallel.sequences[:number]]
        played = play_in_order(name, samples_in(parallel))
        assert played.num_votes.tolist() == played.num_started.tolist() == [number]
        assert played.tokens.tolist() == [live.counts.generated]
        assert live.vote is not None
        assert winner(played, parallel) == live.vote.answer


def at_one_pace(vote: Vote, parallel: PromptResult) -> tuple[list[int], int]:
    """Tokens of each sample that starts, and steps until the decision."""
    tree = TokenTree((9,), max_new_tokens=SAMPLING.max_new_tokens)
    schedule = vote.schedule(tree, M, lambda leaves: sequences_of(tuple(leaves)))
    decision, steps, samples = schedule.replay(tree), 0, parallel.sequences
    while decision.num_alive:
        steps += 1
        for segment in decision.free:
            sample, number = samples[tree.segments.index(segment)], len(segment.token_ids) + 1
            reason = sample.finish_reason if number == len(sample.token_ids) else None
            tokens = sample.token_ids[number - 1 : number]
            waits = None if reason else "its stream ended"
            raw = np.array(sample.logprobs[number - 1 : number], np.float32)  # at τ = 1
            part = Generation(tokens, reason, 1, 0, raw_logprobs=raw, interrupted=waits)
            tree.append(segment, part, SAMPLING.max_new_tokens)
        decision = schedule.replay(tree)
    return [len(segment.token_ids) for segment in tree.segments], steps


@pytest.mark.parametrize("ahead", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("name", [*RULES, "share:0.7:3"])
@pytest.mark.parametrize("model", range(5))
def test_a_vote_costs_at_one_pace_what_the_laboratory_says(
    model: int, name: str, ahead: float
) -> None:
    rule = RULES.get(name, ConsensusShare(0.7, 3))
    for seed in range(3):
        parallel = full_parallel(model, seed)
        played = play_in_order(f"{name}+ahead:{ahead}", samples_in(parallel))
        vote = vote_of(name, seed, rule=rule, shares=False, ahead=ahead)
        tokens, steps = at_one_pace(vote, parallel)
        assert played.tokens.tolist() == [sum(tokens)]
        assert played.steps.tolist() == [steps]


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
@pytest.mark.parametrize("ahead", [0.0, 1.0, 4.0])
def test_outweighed_samples_end_where_the_laboratory_ends_them(share: float, ahead: float) -> None:
    """At one pace and τ = 1, where the probabilities of parts of samples are known exactly."""
    sampling = replace(SAMPLING, temperature=1.0, top_p=1.0)
    num_saved = 0
    for model, seed in product(range(5), range(3)):
        method = FullParallel(sampling, M, None, seed=seed, columns=COLUMNS)
        parallel = run_method(method, endpoint_of(server_of(model)))
        samples = replace(samples_in(parallel), temperature=1.0)
        text = f"share:0.8:3+ahead:{ahead}+weights:probability"
        played = play_in_order(f"{text}+outweighed:{share}", samples)
        parts = {"rule": ConsensusShare(0.8, 3), "weigh": by_probability, "outweighed": share}
        vote = vote_of("", seed, **parts, shares=False, columns=COLUMNS, ahead=ahead)
        tokens, steps = at_one_pace(vote, parallel)
        assert played.tokens.tolist() == [sum(tokens)]
        assert played.steps.tolist() == [steps]
        num_saved += int(play_in_order(text, samples).tokens[0]) - sum(tokens)
    assert num_saved > 0


@pytest.mark.parametrize("shares", [True, False])
@pytest.mark.parametrize("model", range(5))
def test_a_live_vote_outweighs_what_the_laboratory_outweighs(model: int, shares: bool) -> None:
    for seed in range(2):
        parts = {"rule": ConsensusShare(0.8, 3), "weigh": by_probability, "outweighed": 0.3}
        vote = vote_of("", seed, **parts, shares=shares, columns=COLUMNS, ahead=0)
        live = run_method(vote, endpoint_of(server_of(model)))
        whole = replace(vote, rule=lambda votes, weights: False, outweighed=0)
        parallel = run_method(whole, endpoint_of(server_of(model)))
        played = play_in_order(
            "share:0.8:3+weights:probability+outweighed:0.3+trie", samples_in(parallel)
        )
        assert played.num_votes.tolist() == [len(live.sequences)]
        assert live.vote is not None
        assert winner(played, parallel) == live.vote.answer


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("model", range(5))
def test_a_live_trie_has_the_tokens_that_the_laboratory_counts(model: int, name: str) -> None:
    for seed in range(2):
        live = run_method(vote_of(name, seed, shares=True, ahead=0), endpoint_of(server_of(model)))
        played = play_in_order(f"{name}+trie", samples_in(live))
        assert played.num_votes.tolist() == [len(live.sequences)]
        assert played.tokens.tolist() == [live.counts.unique]
        assert live.counts.generated == live.counts.unique - live.counts.forced
        assert live.vote is not None
        assert winner(played, live) == live.vote.answer


@pytest.mark.parametrize("text", ["cut:0.5:3:4", "cut:0.8:2:6", "cut:0.2:4:3"])
@pytest.mark.parametrize("model", range(5))
def test_a_live_vote_cuts_where_the_laboratory_cuts(model: int, text: str) -> None:
    keep, window, warmup = text.split(":")[1:]
    cutting = Cutting(window=int(window), keep=float(keep), warmup=int(warmup))
    for seed in range(2):
        vote = vote_of("beta:0.95", seed, shares=False, cutting=cutting, ahead=0)
        live, parallel = run_method(vote, endpoint_of(server_of(model))), full_parallel(model, seed)
        samples, number = samples_in(parallel), len(live.sequences)
        played = play_in_order(f"beta:0.95+{text}", samples)
        assert played.num_votes.tolist() == [number]
        assert played.tokens.tolist() == [sum(len(s.token_ids) for s in live.sequences)]
        below = cut(in_their_order(samples), cutting).is_below[0, :number].sum()
        assert live.vote is not None
        assert live.vote.num_cut == (below if number >= cutting.warmup else 0)
        assert winner(played, parallel) == live.vote.answer


@pytest.mark.parametrize("text", ["weights:probability", "weights:mean", "weights:lowest:3"])
@pytest.mark.parametrize("model", range(5))
def test_live_votes_weigh_what_they_weigh_in_the_laboratory(model: int, text: str) -> None:
    kind, *window = text.split(":")[1:]
    weigh: Any = by_probability
    if kind != "probability":
        weigh = by_confidence(kind, *map(int, window))  # type: ignore[arg-type]

    def count(votes: Sequence[Hashable | None], weights: Sequence[float]) -> bool:
        return BetaRule(0.8)(votes)

    rules = {"beta:0.8": count, "share:0.7:3": ConsensusShare(0.7, 3)}
    for seed, (name, rule) in product(range(2), rules.items()):
        vote = vote_of("", seed, shares=False, rule=rule, weigh=weigh, columns=COLUMNS)
        live, parallel = run_method(vote, endpoint_of(server_of(model))), full_parallel(model, seed)
        played = play_in_order(f"{name}+{text}", samples_in(parallel))
        assert played.num_votes.tolist() == [len(live.sequences)]
        assert live.vote is not None
        assert winner(played, parallel) == live.vote.answer
