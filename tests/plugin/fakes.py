"""The parts of SGLang, and of torch.distributed, that the plugin reads."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eager_sgl.plugin import hooks
from eager_sgl.plugin.reports import Report, Row
from eager_sgl.plugin.signals import FLAGS, NUM_VALUES
from eager_sgl.plugin.vocabulary import KEY

__all__ = ["TOP_K", "Group", "Request", "opened", "params", "reading", "report_of"]

TOP_K = 3


class Group:
    """Stands in for `torch.distributed`: a group of two ranks, of which the other is given."""

    ReduceOp = SimpleNamespace(MIN="min")

    def __init__(self, other: Tensor) -> None:
        self.other, self.num_calls = other, 0

    def is_initialized(self) -> bool:
        return True

    def get_world_size(self, group: str) -> int:
        return 2

    def all_reduce(self, values: Tensor, op: str, group: str) -> None:
        assert (op, group) == ("min", "tensor")
        assert values.shape == self.other.shape, "the ranks would wait for each other"
        self.num_calls += 1
        values.copy_(torch.minimum(values, self.other))


def params(**given: Any) -> Any:
    plain = {"top_p": 1.0, "top_k": 1 << 30, "min_p": 0.0, "stream_interval": None}
    none = ("beam_width", "custom_params", "json_schema", "regex", "ebnf", "structural_tag")
    return SimpleNamespace(**plain | dict.fromkeys(none) | given)


class Request:
    """The part of SGLang's `Req` that the plugin reads."""

    def __init__(self, sampling: Any, rid: str = "1") -> None:
        self.sampling_params, self.rid, self.return_sampling_mask = sampling, rid, False
        self.origin_input_ids, self.output_ids = [1, 2], list[int]()
        self.customized_info: Any = None
        self.to_finish: Any = None


def opened(sampling: Any, rid: str = "1") -> Request:
    request = Request(sampling, rid)
    hooks.open_report(None, request)
    return request


def report_of(request: Request) -> Report:
    report = request.customized_info[KEY].report
    assert isinstance(report, Report)
    return report


def reading(value: float, flags: int = 0) -> Row:
    """A token's reading: each of its values, and its K logprobs, are the value."""
    ids = np.full(TOP_K, int(value), np.int32).view(np.float32)
    values = np.full(NUM_VALUES + TOP_K, value, np.float32)
    values[FLAGS] = flags
    return np.concatenate((values, ids))
