"""Samples through the trie on the real runtime, with tokens beyond the K of a step."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy.stats import chi2_contingency

from eager_sgl import FullParallel, Method, PromptResult, SamplingConfig, SearchConfig, TrieParallel
from eager_sgl.engine.frontend.endpoint import TokenEndpoint
from eager_sgl.engine.loop import run
from eager_sgl.engine.protocol import Json, generate_payload, new_request_id
from eager_sgl.tree import Draw, Segment, TokenTree
from evals.tasks.countdown_rules import Problem, instruction, parse_answer
from tests.fakes.endpoint import run_together

pytestmark = pytest.mark.integration

NUM_TREES, NUM_SAMPLES, TOP_K = 12, 16, 4
MESSAGES = [{"role": "user", "content": instruction(Problem((3, 4, 6, 9), 21, level=3))}]
SAMPLING = SamplingConfig(temperature=1.0, top_p=1.0, max_new_tokens=256)


def trees(endpoint: TokenEndpoint, method: Method) -> list[PromptResult]:
    return run_together(method, endpoint, [MESSAGES] * NUM_TREES)


def answers(results: list[PromptResult]) -> Counter[str | None]:
    return Counter(parse_answer(s.text) for result in results for s in result.sequences)


def misfit(first: Counter[str | None], second: Counter[str | None]) -> float:
    """The probability of two samples as different as these, of one distribution."""
    kept = [answer for answer in first | second if first[answer] + second[answer] >= 10]
    table = [[counts[answer] for answer in kept] for counts in (first, second)]
    rest = [counts.total() - sum(row) for counts, row in zip((first, second), table, strict=True)]
    columns = np.column_stack([np.array(table), rest]) if any(rest) else np.array(table)
    return float(chi2_contingency(columns).pvalue)


def scored(endpoint: TokenEndpoint, result: PromptResult, tokens: tuple[int, ...]) -> list[float]:
    """The server's own logprobs of a sequence as an input."""
    ids = [*result.prompt_ids, *tokens]
    body = generate_payload(ids, {"max_new_tokens": 1}, request_id=new_request_id())
    body |= {"return_logprob": True, "logprob_start_len": len(result.prompt_ids) - 1}
    answer: Json = run(
        endpoint.replicas.call(lambda c: c.transport.post("/generate", lambda: body))
    )
    return [row[0] for row in answer["meta_info"]["input_token_logprobs"][-len(tokens) :]]


def test_samples_beyond_the_known_tokens_are_the_servers(
    endpoint: TokenEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    draws, draw = list[Segment](), TokenTree.draw

    def counted(self: TokenTree, parent: Segment, position: int, given: Draw) -> Segment:
        draws.append(draw(self, parent, position, given))
        return draws[-1]

    monkeypatch.setattr(TokenTree, "draw", counted)
    config = SearchConfig(max_sequences=NUM_SAMPLES, top_k=TOP_K, sampling=SAMPLING)
    ours = trees(endpoint, TrieParallel(config))
    theirs = trees(endpoint, FullParallel(SAMPLING, NUM_SAMPLES))
    tokens = [sum(r.counts.generated for r in results) for results in (ours, theirs)]
    p_value, opened = misfit(answers(ours), answers(theirs)), [d for d in draws if d.index > 0]
    print(
        f"p {p_value:.3f}; tokens {tokens[0]} / {tokens[1]} = {tokens[0] / tokens[1]:.2f}; "
        f"{len(draws)} draws, {sum(len(d.draw.excluded) > 1 for d in draws if d.draw)} at stored "
        f"steps, {len(opened)} of new tokens; requests {sum(r.counts.requests for r in ours)}; "
        f"discarded {sum(r.counts.discarded for r in ours)}"
    )
    assert {result.inexact_steps for result in ours} == {0}
    assert p_value > 1e-6
    assert tokens[0] < tokens[1]
    assert opened
    for result in ours[:4]:
        for sequence in result.sequences[-4:]:
            expected = scored(endpoint, result, sequence.token_ids)
            np.testing.assert_allclose(sequence.logprobs, expected, atol=0.02)
