"""The custom logit processor: reports the steps of a request whose entropy reaches its θ.

`eager_sgl.engine.gate.pickled` sends the text of this file with every monitored request, and that
of `eager_sgl.plugin.entropy` in place of its import. The server needs no eager_sgl, so both files
import nothing else but torch.
"""

import contextlib
import math
from collections import deque
from typing import Any, ClassVar

import torch
from torch import Tensor

from eager_sgl.plugin.entropy import top_k_entropies

__all__ = ["EntropyGate"]

INFO_KEY = "eager_gate"
"""The field of a request's `meta_info` that holds its reports."""
NEVER = 2**31
"""A `stream_interval` that sends nothing before the request's end; where the request has none."""
MIN_LOGPROB = -1e9
"""Stands for a logprob of −∞, which JSON has no form for."""


class EntropyGate:
    """Monitors the top-K entropy of raw logits, and returns them unchanged.

    All rows are computed at once, and nothing waits for a CUDA device: the results of a step are
    copied asynchronously, and read when the step has finished. A request's `custom_params` are
    `eager_theta` (nats), `eager_k`, `eager_temperature` and `eager_max_reports`; a row without
    them is not monitored. At a step that reaches θ the server sends a streaming request's tokens,
    and its `meta_info` holds under `INFO_KEY` for every such step: its index among the request's
    tokens, the ids [K] of the most likely tokens, and their logprobs [K] at temperature 1.
    """

    # SGLang makes an object for every new batch; all run in the same thread.
    _steps: ClassVar[Any] = deque()

    def __init__(self) -> None:
        self._batch = _Batch([], torch.device("cpu"))

    def __call__(self, logits: Tensor, custom_param_list: list[Any] | None = None) -> Tensor:
        """Logits [rows, vocabulary], unchanged."""
        if not custom_param_list:
            return logits
        batch = self._batch_of(custom_param_list, logits.device)
        raw = logits.float()
        top = raw.topk(min(batch.largest_k, logits.shape[-1]))
        values = top.values
        if batch.counts is not None:
            outside = torch.arange(values.shape[-1], device=values.device) >= batch.counts
            values = values.masked_fill(outside, -math.inf)
        fires = top_k_entropies(values, batch.temperatures) >= batch.thresholds
        logprobs = (values - raw.logsumexp(-1, keepdim=True)).clamp(min=MIN_LOGPROB)
        self._steps.append(_Step(batch, fires, top.indices, logprobs))
        self.record_finished()
        return logits

    def _batch_of(self, params: list[Any], device: torch.device) -> "_Batch":
        """The rows' parameters, rebuilt when the batch changes."""
        known = self._batch.params
        # Identity, not equality: SGLang puts a reference to the request into every dictionary.
        if len(known) != len(params) or any(map(_is_not, known, params)):
            self._batch = _Batch(list(params), device)
        return self._batch

    @classmethod
    def record_finished(cls) -> None:
        """Record the results of the steps that have finished, in their order."""
        while cls._steps and cls._steps[0].has_finished():
            cls._steps.popleft().record()


def _is_not(a: object, b: object) -> bool:
    return a is not b


class _Batch:
    """The parameters of a batch's rows, as columns on the device, and their reports."""

    def __init__(self, params: list[Any], device: torch.device) -> None:
        ours = [p if p and "eager_theta" in p else None for p in params]
        values = [
            (p["eager_k"], p["eager_temperature"], p["eager_theta"]) if p else (2, 1.0, math.inf)
            for p in ours
        ]
        sizes = [k for k, _, _ in values]
        table = torch.tensor(values, dtype=torch.float32, pin_memory=device.type == "cuda")
        table = table.reshape(-1, 3).to(device, non_blocking=True)
        self.params = params
        self.reports = [_Report.of(p) if p else None for p in ours]
        self.largest_k = max(sizes, default=2)
        self.counts = table[:, :1] if len(set(sizes)) > 1 else None
        self.temperatures = table[:, 1:2]
        self.thresholds = table[:, 2]


class _Step:
    """The results of a call: whether rows fire [rows], ids and logprobs [rows, K], and the indices
    of the next tokens [rows]."""

    def __init__(self, batch: _Batch, *results: Tensor) -> None:
        self._reports = batch.reports
        self._indices = [report.next_index() if report else -1 for report in batch.reports]
        self._results = [_copied(tensor) for tensor in results]
        self._event: Any = None
        if results[0].is_cuda:
            self._event = torch.cuda.current_stream(results[0].device).record_event()

    def has_finished(self) -> bool:
        return self._event is None or bool(self._event.query())

    def record(self) -> None:
        fires, token_ids, logprobs = self._results
        for row in fires.nonzero()[:, 0].tolist():
            if report := self._reports[row]:
                report.add(self._indices[row], token_ids[row], logprobs[row])


def _copied(tensor: Tensor) -> Tensor:
    """A copy on the host, complete some time after the call."""
    if not tensor.is_cuda:
        return tensor.cpu()
    copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return copy.copy_(tensor, non_blocking=True)


class _Report:
    """Stands in for a list of values per token in a request's `customized_info`.

    SGLang slices such a list when it sends tokens of a request, after the device has made them.
    """

    def __init__(self, params: Any) -> None:
        self._request, self._k, self._left = (
            params[name] for name in ("__req__", "eager_k", "eager_max_reports")
        )
        self._last = -1
        self._unsent: list[list[Any]] = []
        sampling_params = self._request.sampling_params
        self._interval = sampling_params.stream_interval or NEVER
        sampling_params.stream_interval = self._interval

    @classmethod
    def of(cls, params: Any) -> "_Report | None":
        """The report of a request, made at its first step."""
        if (request := params.get("__req__")) is None:
            return None
        if getattr(request, "customized_info", None) is None:
            request.customized_info = {}
        if INFO_KEY not in request.customized_info:
            request.customized_info[INFO_KEY] = cls(params)
        report: _Report = request.customized_info[INFO_KEY]
        return report

    def next_index(self) -> int:
        """The index of this step's token among the generated ones; negative within the prompt.

        Negative too if another version of the server has no such count: that must not kill the
        server, and a client that connects finds no gate.
        """
        committed = getattr(getattr(self._request, "kv", None), "kv_committed_len", -1)
        return int(committed - len(self._request.origin_input_ids))

    def add(self, index: int, token_ids: Tensor, logprobs: Tensor) -> None:
        """Report a step; the request's tokens are sent as soon as that of the step is known."""
        # A request that the server retracts and resumes runs its last steps again.
        if not self._left or index <= self._last:
            return
        self._left, self._last = self._left - 1, index
        self._unsent.append([index, token_ids[: self._k].tolist(), logprobs[: self._k].tolist()])
        with contextlib.suppress(ReferenceError):  # the request has ended
            self._request.sampling_params.stream_interval = 1

    def __getitem__(self, tokens: slice) -> list[Any]:
        EntropyGate.record_finished()
        ready = [report for report in self._unsent if report[0] < tokens.stop]
        self._unsent = self._unsent[len(ready) :]
        if not self._unsent:
            self._request.sampling_params.stream_interval = self._interval
        return ready
