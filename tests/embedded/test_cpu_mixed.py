"""Mixed steps without loops over their rows give what SGLang's give."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import pytest
import torch

from eager_sgl.embedded.cpu_mixed import HOOKS, positions_of, with_set_of_decoding


@pytest.mark.parametrize(
    ("known", "added"),
    [([0], [1]), ([0, 5, 0], [3, 1, 7]), ([9, 120, 0, 33], [1, 1, 1, 1]), ([4, 0], [0, 2])],
)
def test_positions_are_those_of_sglang(known: list[int], added: list[int]) -> None:
    with warnings.catch_warnings(action="ignore"):  # of quantisation for other devices
        from sglang.srt.model_executor.forward_batch_info import compute_position_torch

    lengths = [torch.tensor(numbers, dtype=torch.int32) for numbers in (known, added)]
    for ours, theirs in zip(positions_of(*lengths), compute_position_torch(*lengths), strict=True):
        assert ours.tolist() == theirs.tolist()
        assert ours.dtype == theirs.dtype


def test_the_requests_that_decode_stay_the_same() -> None:
    requests = [object() for _ in range(3)]
    batch = SimpleNamespace(reqs=requests, decoding_reqs=requests[1:])
    with_set_of_decoding(None, batch, None)
    assert [request in batch.decoding_reqs for request in requests] == [False, True, True]


@pytest.mark.parametrize("decoding", [None, []])
def test_a_step_without_any_is_left_alone(decoding: list[object] | None) -> None:
    batch = SimpleNamespace(decoding_reqs=decoding)
    with_set_of_decoding(None, batch, None)
    assert batch.decoding_reqs is decoding


def test_sglang_has_the_functions() -> None:
    import pkgutil

    with warnings.catch_warnings(action="ignore"):
        for target, _, _ in HOOKS:
            owner, name = target.rsplit(".", 1)
            assert callable(getattr(pkgutil.resolve_name(owner), name))
