"""Probes of a scripted model: which sequences end early, with which answers, and at what cost."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any

import pytest
from scipy.stats import chi2_contingency

from eager_sgl import BranchPoint, Probing, PromptResult, SamplingConfig, SearchConfig, Vote
from eager_sgl import Sequence as Generated
from eager_sgl.core import Generation, TokenCounts
from eager_sgl.engine.protocol import Json
from eager_sgl.generate.executor import builder
from eager_sgl.schedule import Decision
from eager_sgl.search.probing import Probes, without_lost_parents
from eager_sgl.tree import TokenTree
from tests.fakes.decoding import DecodingServer
from tests.fakes.endpoint import endpoint_of, run_method
from tests.fakes.scripted import CLOSE, EOS, VOCABULARY, Distribution, ScriptedServer

INTERVAL, LENGTH = 4, 30
PROBING = Probing(text="</think>", interval=INTERVAL, stable=2, max_answer_tokens=3)
SAMPLING = SamplingConfig(temperature=1.0, top_p=1.0, max_new_tokens=60)
RARE = 1e-9
FIRST = (RARE, RARE, 0.5, 0.3, 0.2 - 2 * RARE)
ERROR_PROBABILITY = 1e-5


def certain(token: int) -> tuple[float, ...]:
    rest = 1 - (VOCABULARY - 1) * RARE
    return tuple(rest if token == other else RARE for other in range(VOCABULARY))


def reasoning(path: tuple[int, ...]) -> tuple[float, ...]:
    """`LENGTH` tokens of reasoning, then its first token as the answer."""
    if CLOSE in path:
        return certain(EOS if path[-1] != CLOSE else path[0])
    if len(path) == LENGTH:
        return certain(CLOSE)
    return FIRST if len(path) % 3 == 0 else certain(2)


def wavering(path: tuple[int, ...]) -> tuple[float, ...]:
    """As `reasoning`, but the answer changes with every probe."""
    if path and path[-1] == CLOSE:
        return certain(2 + (len(path) - 1) // INTERVAL % 3)
    return reasoning(path)


def answers(sequences: Sequence[Generated]) -> list[Hashable | None]:
    return [answer(sequence.token_ids) for sequence in sequences]


def answer(tokens: Sequence[int]) -> int | None:
    """The token after the end of the reasoning."""
    return tokens[list(tokens).index(CLOSE) + 1] if CLOSE in tokens[:-1] else None


def vote_of(**fields: Any) -> Vote:
    config = SearchConfig(max_sequences=12, sampling=SAMPLING, top_k=VOCABULARY)
    given: dict[str, Any] = {"answers": answers, "seed": 0, "probing": PROBING}
    return Vote(config, **given | fields)


@pytest.fixture(autouse=True)
def frequent_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens arrive before a sequence has ended."""
    monkeypatch.setattr(builder, "AWAITED_INTERVAL", 2)


class ThinkingServer(DecodingServer):
    """Decodes at one pace, and stops what is aborted."""

    def __init__(self, distribution: Distribution, **options: Any) -> None:
        super().__init__(**options)
        self.distribution = distribution


def run(
    distribution: Distribution, *, allows_gate: bool = True, **fields: Any
) -> tuple[ThinkingServer, PromptResult]:
    server = ThinkingServer(distribution, allows_gate=allows_gate)
    backend = endpoint_of(server)
    server.num_decoded = 0
    return server, run_method(vote_of(**fields), backend)


def is_probe(request: Json) -> bool:
    return bool(request["input_ids"][-1] == CLOSE)


@pytest.mark.parametrize("shares", [True, False])
def test_sequences_whose_probes_agree_vote_early(shares: bool) -> None:
    server, result = run(reasoning, shares=shares)
    assert not server.running
    assert all(sequence.finish_reason == "probed" for sequence in result.sequences)
    for sequence in result.sequences:
        end = sequence.token_ids.index(CLOSE)
        assert end % INTERVAL == 0
        assert INTERVAL * PROBING.stable <= end < LENGTH
        assert sequence.token_ids[end:] == (CLOSE, sequence.token_ids[0])
        assert sequence.final_text == str(sequence.token_ids[0])
        assert len(sequence.logprobs) == len(sequence.entropies) == len(sequence.token_ids)
    assert result.vote is not None
    assert result.vote.votes == Counter(answers(result.sequences))


@pytest.mark.parametrize("shares", [True, False])
def test_the_tokens_of_probes_are_counted(shares: bool) -> None:
    server, result = run(reasoning, shares=shares)
    counts, probes = result.counts, [r for r in server.requests if is_probe(r)]
    paths = [s.token_ids for s in result.sequences]
    assert counts.generated == server.num_decoded
    assert counts.naive == sum(map(len, paths))
    nodes = {path[:end] for path in paths for end in range(1, 1 + len(path))}
    assert counts.unique == (len(nodes) if shares else counts.naive)
    num_probed = len({*paths} if shares else paths)
    assert 0 <= counts.forced - num_probed <= sum(s.branch is not None for s in result.sequences)
    assert counts.discarded == counts.generated - counts.unique + counts.forced > 0
    assert result.vote is not None
    assert result.vote.num_probes >= len(probes) > 0
    assert 0 < result.vote.num_probe_tokens <= sum(len(r["output_ids"]) for r in probes)
    assert 0 <= result.vote.num_left_tokens <= counts.discarded


@pytest.mark.parametrize("shares", [True, False])
def test_probes_change_no_draw(shares: bool) -> None:
    """Sequences whose answers waver are those of a vote without probes."""
    results = []
    for probing in (PROBING, None):
        server = ThinkingServer(wavering, allows_gate=True)
        server.honours_seed = True
        vote = vote_of(probing=probing, shares=shares)
        results.append(run_method(vote, endpoint_of(server)))
    probed, alone = results
    assert probed.vote is not None
    assert probed.vote.num_probes > 0
    assert probed.sequences == alone.sequences
    assert all(sequence.finish_reason == "stop" for sequence in probed.sequences)
    assert tokens_of_tree(probed.counts) == tokens_of_tree(alone.counts)


def tokens_of_tree(counts: TokenCounts) -> tuple[int, int, int]:
    return counts.unique, counts.naive, counts.forced


def test_a_closed_reasoning_is_not_probed() -> None:
    server, result = run(wavering)
    assert all(sequence.finish_reason == "stop" for sequence in result.sequences)
    for request in filter(is_probe, server.requests):
        assert request["input_ids"].count(CLOSE) == 1
        assert (len(request["input_ids"]) - 2) % INTERVAL == 0


def test_an_end_of_the_reasoning_may_arrive_in_parts() -> None:
    tree = TokenTree((9,), max_new_tokens=60, probe_ids=(CLOSE,), probe_end=(3, 4))
    probes, segment = Probes(tree, PROBING, lambda leaves: []), tree.open_root()
    awaited = []
    for part in ((2, 2, 2), (2, 3), (4, 2, 2, 2)):
        tokens = Generation(part, None, 1, 0, interrupted="its stream ended")
        tree.append(segment, tokens, len(part))
        decision = probes.add_to(Decision((), (), (segment,)))
        awaited.append((segment in decision.awaited, len(decision.probes)))
    assert awaited == [(True, 0), (True, 1), (False, 0)]


def test_probes_are_greedy_and_name_their_running_parent() -> None:
    server, _ = run(reasoning, shares=False)
    probes = [r for r in server.requests if is_probe(r)]
    ids = {r["rid"] for r in server.requests if not is_probe(r)}
    assert {r["sampling_params"]["temperature"] for r in probes} == {0.0}
    assert {r["sampling_params"]["max_new_tokens"] for r in probes} == {PROBING.max_answer_tokens}
    assert {r["sampling_params"]["custom_params"]["eager"]["parent"] for r in probes} <= ids


@pytest.mark.parametrize("allows_gate", [True, False])
def test_a_branch_lies_on_its_parent(allows_gate: bool) -> None:
    for seed in range(5):
        _, result = run(reasoning, allows_gate=allows_gate, seed=seed)
        for sequence in result.sequences:
            if sequence.parent is not None and sequence.branch is not None:
                shared = result.sequences[sequence.parent].token_ids[: sequence.branch.position]
                assert shared == sequence.token_ids[: sequence.branch.position]


def test_a_sequence_whose_parent_ended_before_the_branch_has_no_parent() -> None:
    point = BranchPoint(3, 0.5, (2, 3), (0.5, 0.5), (-0.7, -0.7), 2)
    whole = Generated((2, 2, 2, 3, EOS), (0.0,) * 5, "stop", parent=0, branch=point)
    for parent_tokens, is_kept in (((2, 2, 2, CLOSE, 2), True), ((2, 2, CLOSE, 2), False)):
        parent = Generated(parent_tokens, (0.0,) * len(parent_tokens), "probed")
        _, child = without_lost_parents((parent, whole))
        assert (child.parent, child.branch) == ((0, point) if is_kept else (None, None))


def never(votes: Sequence[Hashable | None]) -> bool:
    return False


@pytest.mark.parametrize("shares", [True, False])
def test_votes_of_probed_sequences_are_independent(shares: bool) -> None:
    """The number of samples that agree with the first is that of independent draws."""
    rng, number, num_runs = random.Random(0), 4, 100

    def agreeing(votes: Sequence[Hashable | None]) -> int:
        return sum(vote == votes[0] for vote in votes)

    expected = Counter(
        agreeing(rng.choices(range(VOCABULARY), FIRST, k=number)) for _ in range(8 * num_runs)
    )
    seen: Counter[int] = Counter()
    server = ScriptedServer(reasoning, allows_gate=True)
    endpoint = endpoint_of(server)
    for seed in range(num_runs):
        server.restart(seed)
        config = SearchConfig(max_sequences=number, sampling=SAMPLING, top_k=VOCABULARY)
        vote = Vote(config, answers=answers, rule=never, seed=seed, shares=shares, probing=PROBING)
        result = run_method(vote, endpoint)
        seen[agreeing(answers(result.sequences))] += 1
    table = [[counts[key] for key in sorted(expected)] for counts in (seen, expected)]
    assert chi2_contingency(table).pvalue > ERROR_PROBABILITY


@pytest.mark.parametrize("field", ["text", "interval", "stable", "max_answer_tokens"])
def test_a_limit_out_of_range_is_refused(field: str) -> None:
    fields: dict[str, Any] = {"text": "a", field: "" if field == "text" else 0}
    with pytest.raises(ValueError, match=field):
        Probing(**fields)
