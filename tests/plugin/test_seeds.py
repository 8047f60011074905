"""The ranks of a parallel group draw the same tokens by a seed, whatever their kernels round to."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from eager_sgl.plugin import seeds
from eager_sgl.plugin.seeds import SeededRow, draw_again, drawn_by_seeds
from eager_sgl.plugin.signals import Distributions
from tests.plugin.fakes import Group

VOCABULARY, NUM_ROWS = 20, 4
SAMPLER = SimpleNamespace(tp_sync_group="tensor", cp_sync_group=None)
SEEDED = [SeededRow(row, 7, 5 + row, is_limited=bool(row % 2)) for row in (1, 2, 3)]
INFO = SimpleNamespace(
    top_ps=torch.full((NUM_ROWS,), 0.9),
    top_ks=torch.full((NUM_ROWS,), 1 << 30),
    min_ps=torch.zeros(NUM_ROWS),
)


def rows() -> Distributions:
    table = torch.softmax(torch.randn(NUM_ROWS, VOCABULARY, generator=torch.manual_seed(0)), -1)
    return Distributions(table, torch.ones(NUM_ROWS, 1), are_logits=False)


def redrawn(drawn: Tensor) -> tuple[Tensor, Tensor]:
    """The tokens and their logprobs."""
    output = SimpleNamespace(next_token_logprobs=torch.zeros(NUM_ROWS))
    tokens = drawn_by_seeds(SAMPLER, rows(), drawn, SEEDED, output, INFO)
    return tokens, output.next_token_logprobs


def test_ranks_whose_draws_differ_agree_on_one_token(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = torch.arange(NUM_ROWS)
    ours = draw_again(rows(), drawn, SEEDED, INFO)
    theirs = ours.clone()
    theirs[2] = (ours[2] + VOCABULARY // 2) % VOCABULARY
    agreed = torch.minimum(ours, theirs)
    for other in (ours, theirs):
        monkeypatch.setattr(seeds, "dist", Group(other))
        tokens, logprobs = redrawn(drawn.clone())
        assert torch.equal(tokens, torch.minimum(ours, other))
        expected = rows().table.log().gather(-1, tokens[:, None])[1:, 0]
        torch.testing.assert_close(logprobs, torch.cat((torch.zeros(1), expected)))
    assert tokens.tolist() == agreed.tolist()


@pytest.mark.parametrize("failing", ["draw_again", "_keep_logprobs_true"])
def test_a_rank_that_fails_takes_the_tokens_of_the_others(
    failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others would wait for it, or continue with tokens that it does not have."""
    group = Group(torch.zeros(NUM_ROWS, dtype=torch.long))
    monkeypatch.setattr(seeds, "dist", group)
    drawn = torch.arange(NUM_ROWS)

    def fail(*arguments: Any) -> Tensor:
        raise RuntimeError("no memory")

    monkeypatch.setattr(seeds, failing, fail)
    with pytest.raises(RuntimeError, match="no memory"):
        redrawn(drawn)
    assert (group.num_calls, drawn.tolist()) == (1, [0] * NUM_ROWS)
