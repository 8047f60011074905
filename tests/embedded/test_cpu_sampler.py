"""The sampler of the embedded runtime draws in SGLang's distribution."""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from eager_sgl.embedded.cpu_sampler import sample

ROWS = 40_000


def sampled(weights: list[float], *, is_simple: bool = False, **limits: float) -> Tensor:
    """The shares of the tokens [vocabulary] in `ROWS` draws."""
    probs = torch.tensor(weights).div(sum(weights)).expand(ROWS, -1)
    tokens, mask = sample(_never, None, probs, info(**limits), torch.zeros(ROWS), is_simple)
    assert tokens.dtype == torch.int32
    assert tokens.shape == (ROWS,)
    assert mask is None
    return torch.bincount(tokens, minlength=len(weights)) / ROWS


def info(top_p: float = 1.0, top_k: float = 1 << 30, min_p: float = 0.0) -> Any:
    values = {"top_ps": top_p, "top_ks": int(top_k), "min_ps": min_p}
    tensors = {name: torch.full((ROWS,), value) for name, value in values.items()}
    return SimpleNamespace(**tensors, sampling_mask_batch_indices=None, sampling_seed=None)


def _never(*arguments: object) -> tuple[Tensor, Any]:
    raise AssertionError("SGLang's sampler was called")


@pytest.mark.parametrize(
    ("is_simple", "limits", "expected"),
    [
        (True, {}, [0.1, 0.4, 0.2, 0.3]),
        (False, {}, [0.1, 0.4, 0.2, 0.3]),
        (False, {"top_p": 0.65}, [0, 4 / 7, 0, 3 / 7]),
        (False, {"top_k": 1}, [0, 1, 0, 0]),
        (False, {"top_k": 3}, [0, 4 / 9, 2 / 9, 3 / 9]),
        (False, {"min_p": 0.6}, [0, 4 / 7, 0, 3 / 7]),
    ],
)
def test_tokens_have_the_limited_distribution(
    is_simple: bool, limits: dict[str, float], expected: list[float]
) -> None:
    torch.manual_seed(1)
    shares = sampled([1.0, 4.0, 2.0, 3.0], is_simple=is_simple, **limits)
    # Four standard errors.
    assert shares.tolist() == pytest.approx(expected, abs=4 * 0.5 / ROWS**0.5)
    assert (shares == 0).tolist() == [share == 0 for share in expected]


def test_rows_with_and_without_limits_are_drawn_in_one_batch() -> None:
    torch.manual_seed(1)
    batch, probs = info(), torch.tensor([0.1, 0.4, 0.2, 0.3]).expand(ROWS, -1)
    batch.top_ks[::2], batch.top_ps[1::4] = 1, 0.65
    tokens, _ = sample(_never, None, probs, batch, torch.zeros(ROWS), False)
    assert set(tokens[::2].tolist()) == {1}
    assert set(tokens[1::4].tolist()) == {1, 3}
    shares = torch.bincount(tokens[3::4], minlength=4) / len(tokens[3::4])
    assert shares.tolist() == pytest.approx([0.1, 0.4, 0.2, 0.3], abs=4 * 0.5 / (ROWS / 4) ** 0.5)


def test_sglang_draws_where_it_has_seeds_or_is_asked_for_its_mask() -> None:
    calls: list[object] = []

    def original(*arguments: object) -> tuple[Tensor, Any]:
        calls.append(arguments)
        return torch.zeros(1), "mask"

    probs, positions = torch.ones(1, 2) / 2, torch.zeros(1)
    for name in ("sampling_mask_batch_indices", "sampling_seed"):
        batch = info()
        setattr(batch, name, torch.zeros(1))
        assert sample(original, "sampler", probs, batch, positions, False)[1] == "mask"
        assert calls.pop() == ("sampler", probs, batch, positions, False)


def test_sglangs_function_takes_the_arguments_of_the_hook() -> None:
    from sglang.srt.layers.sampler import Sampler

    theirs = list(inspect.signature(Sampler._sample_from_probs).parameters)
    ours = list(inspect.signature(sample).parameters)
    assert ours[2:] == theirs[1:]
