"""The rows of a batch: whose reports they are, and which tokens their step draws."""

from __future__ import annotations

from typing import Any

from eager_sgl.plugin.blocks import unpack
from eager_sgl.plugin.rows import Rows
from eager_sgl.plugin.seeds import seeded_rows
from eager_sgl.plugin.vocabulary import Gate
from tests.plugin.fakes import TOP_K, Request, opened, params, reading, report_of

ASKED = Gate(top_k=TOP_K, columns=("logprobs",)).custom_params()


def index_of(request: Request, length: int) -> int:
    """Of the token that makes the request's sequence one longer."""
    rows = Rows.of([request])
    assert rows is not None
    ((_, index),) = rows.observed(rows.needs, [length])
    return index


def test_the_index_counts_tokens_after_the_prompt() -> None:
    request = opened(params(custom_params=ASKED))
    assert [index_of(request, length) for length in (1, 2, 5)] == [-1, 0, 3]


def test_a_prompt_may_be_shortened_after_the_request_began() -> None:
    """SGLang does so under --allow-auto-truncate, and replaces the prompts of images."""
    request = opened(params(custom_params=ASKED))
    request.origin_input_ids = [1]
    assert index_of(request, 1) == 0


def test_chunks_of_a_retracted_request_s_context_draw_nothing() -> None:
    """SGLang computes the context again in chunks, and discards what it draws after each."""
    request = opened(params(custom_params=ASKED))
    report = report_of(request)
    for index in range(4):
        report.add(index_of(request, 2 + index), reading(index))
        request.output_ids.append(index)
    for length, value in ((3, 90), (5, 91), (6, 4)):  # two chunks, and the next token
        report.add(index_of(request, length), reading(value))
    assert unpack(report.take(5), TOP_K).columns["logprobs"].tolist() == [0, 1, 2, 3, 4]


def test_only_rows_that_are_read_are_observed() -> None:
    of_branch = Gate(parent="0").custom_params()
    asked: list[Any] = [None, ASKED, Gate(seed=1).custom_params(), ASKED, of_branch]
    requests = [opened(params(custom_params=custom), str(n)) for n, custom in enumerate(asked)]
    rows = Rows.of(requests)
    assert rows is not None
    assert rows.reports == [None, *map(report_of, requests[1:4]), None]
    is_read = [bool(needs and needs.is_read) for needs in rows.needs]
    assert is_read == [False, True, False, True, False]
    observed = rows.observed(rows.needs, [2, 2, 2, 3, 2])
    assert observed == [(rows.reports[1], 0), (rows.reports[3], 1)]
    assert Rows.of([requests[0], requests[4]]) is None


def test_a_seed_stays_in_the_batch_after_a_fault() -> None:
    """The other ranks, which may not have had it, draw with the seed."""
    gate = Gate(seed=1, columns=("logprobs",))
    requests = [opened(params(custom_params=g.custom_params())) for g in (gate, Gate(top_k=TOP_K))]
    report = report_of(requests[0])
    report.fail("no memory")
    rows = Rows.of(requests)
    assert rows is not None
    assert rows.reports == [report, None]
    assert rows.observed(rows.needs, [2, 2]) == []
    assert [row.seed for row in seeded_rows(rows.reports, [2, 2])] == [1]
