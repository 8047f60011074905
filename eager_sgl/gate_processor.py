"""What runs inside the server: ends a request at the step whose entropy reaches its θ.

`eager_sgl.gate` sends the text of this file with every gated request, as SGLang's custom logit
processors are sent; the server needs no eager_sgl. So it imports nothing but torch.
"""

import math
from collections import deque
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

__all__ = ["EntropyGate"]

REPORT = "eager_gate"
IMPOSSIBLE = -1e9
"""Stands for a logprob of −∞, which JSON has no word for."""
NUM_RECENT = 16
"""Calls that are remembered: a request's last two are among them, whatever runs beside it."""


class EntropyGate:
    """Forces a request's stop token where the top-K entropy of its raw logits reaches θ.

    Everywhere else that token cannot be drawn, so that it means one thing only. All rows are
    computed at once, and nothing waits for the device. A request's `custom_params` are
    `eager_theta` (nats), `eager_k`, `eager_temperature` and `eager_token`; a row without them is
    left as it is. What a stopped request's `meta_info` says under `REPORT` is the step that it
    stopped before: the ids of the K most likely tokens, and their logprobs at temperature 1.
    """

    # SGLang makes an object for every new batch; they run one after another, in one thread.
    _recent: ClassVar[Any] = deque(maxlen=NUM_RECENT)

    def __init__(self) -> None:
        self._batch = _Batch([], torch.device("cpu"))

    def __call__(self, logits: Tensor, custom_param_list: list[Any] | None = None) -> Tensor:
        """Logits [rows, vocabulary], a copy that is ours to change, to logits of that shape."""
        if not custom_param_list:
            return logits
        batch = self._batch_of(custom_param_list, logits.device)
        raw = logits.float()
        top = raw.topk(min(batch.largest_k, logits.shape[-1]))
        values = top.values
        if batch.counts is not None:
            outside = torch.arange(values.shape[-1], device=values.device) >= batch.counts
            values = values.masked_fill(outside, -math.inf)
        shares = torch.softmax(values / batch.temperatures, -1)
        fires = torch.special.entr(shares).sum(-1, keepdim=True) >= batch.thresholds
        logprobs = (values - raw.logsumexp(-1, keepdim=True)).clamp(min=IMPOSSIBLE)
        self._recent.append(_Step(batch, fires, top.indices, logprobs))
        shut = torch.where(batch.is_gated, -math.inf, logits.gather(-1, batch.tokens))
        forced = torch.where(fires, 0.0, shut)
        logits.masked_fill_(fires, -math.inf)
        return logits.scatter_(-1, batch.tokens, forced.to(logits.dtype))

    def _batch_of(self, params: list[Any], device: torch.device) -> "_Batch":
        """The rows' parameters, made anew when the batch changes."""
        known = self._batch.params
        # Identity, not equality: SGLang puts a reference to the request into every dictionary.
        if len(known) != len(params) or any(map(_is_not, known, params)):
            self._batch = _Batch(list(params), device)
            for own in params:
                if _is_ours(own) and (request := own.get("__req__")) is not None:
                    if request.customized_info is None:
                        request.customized_info = {}
                    request.customized_info.setdefault(REPORT, _Report(own))
        return self._batch

    @classmethod
    def report(cls, own: Any) -> list[list[Any]]:
        """Of a request that was just ended: ids [K] and logprobs [K] of the step it ended before.

        The server may have begun one step more before it knew of the end; of the two, it is the
        first that fires.
        """
        last = [step for step in cls._recent if id(own) in step.batch.rows][-2:]
        for step in last:
            row, k = step.batch.rows[id(own)], own["eager_k"]
            if step is last[-1] or bool(step.fires[row]):
                return [step.token_ids[row, :k].tolist(), step.logprobs[row, :k].tolist()]
        return []


def _is_not(one: object, other: object) -> bool:
    return one is not other


def _is_ours(params: Any) -> bool:
    return bool(params) and "eager_theta" in params


class _Batch:
    """The parameters of the rows of one batch, as columns on the device."""

    def __init__(self, params: list[Any], device: torch.device) -> None:
        values = [
            (p["eager_k"], p["eager_temperature"], p["eager_theta"], p["eager_token"])
            if _is_ours(p)
            else (2, 1.0, math.inf, -1)
            for p in params
        ]
        sizes = [k for k, _, _, _ in values]
        table = torch.tensor(values, dtype=torch.float64, pin_memory=device.type == "cuda")
        table = table.reshape(-1, 4).to(device, non_blocking=True)
        tokens = table[:, 3:].long()
        self.params = params
        self.rows = {id(p): row for row, p in enumerate(params)}
        self.largest_k = max(sizes, default=2)
        self.counts = table[:, :1].long() if len(set(sizes)) > 1 else None
        self.temperatures = table[:, 1:2].float()
        self.thresholds = table[:, 2:3].float()
        self.is_gated = tokens >= 0
        self.tokens = tokens.clamp(min=0)


class _Step(NamedTuple):
    """One call: fires [rows, 1], token_ids and logprobs [rows, K]."""

    batch: _Batch
    fires: Tensor
    token_ids: Tensor
    logprobs: Tensor


class _Report:
    """Stands in for a list of values per token in a request's `customized_info`.

    SGLang slices such a list when it sends a request's tokens, after the device has made them.
    """

    def __init__(self, params: Any) -> None:
        self._params = params

    def __getitem__(self, tokens: slice) -> list[Any]:
        reason = self._params["__req__"].finished_reason
        if getattr(reason, "matched", None) != self._params["eager_token"]:
            return []
        return EntropyGate.report(self._params)
