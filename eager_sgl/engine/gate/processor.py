"""What runs inside the server: tells of the steps of a request whose entropy reaches its θ.

`eager_sgl.engine.gate.parameters` sends the text of this file with every watched request, as
SGLang's custom logit processors are sent; the server needs no eager_sgl.
So it imports nothing but torch.
"""

import contextlib
import math
from collections import deque
from typing import Any, ClassVar

import torch
from torch import Tensor

__all__ = ["EntropyGate"]

REPORT = "eager_gate"
SILENT = 2**31
IMPOSSIBLE = -1e9
"""Stands for a logprob of −∞, which JSON has no word for."""


class EntropyGate:
    """Watches the top-K entropy of raw logits, and leaves them as they are.

    All rows are computed at once, and nothing waits for a CUDA device: what a step brought is
    copied beside it, and looked at when it is known to be over. A request's `custom_params` are
    `eager_theta` (nats), `eager_k`, `eager_temperature` and `eager_max_reports`; a row without
    them is not monitored. At a step that reaches θ a streaming request
    is sent what it has, and its `meta_info` says under `REPORT` of every such step: its place among
    the request's tokens, the ids [K] of the most likely tokens, and their logprobs [K] at
    temperature 1.
    """

    # SGLang makes an object for every new batch; they run one after another, in one thread.
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
        shares = torch.softmax(values / batch.temperatures, -1)
        fires = torch.special.entr(shares).sum(-1) >= batch.thresholds
        logprobs = (values - raw.logsumexp(-1, keepdim=True)).clamp(min=IMPOSSIBLE)
        self._steps.append(_Step(batch, fires, top.indices, logprobs))
        self.look()
        return logits

    def _batch_of(self, params: list[Any], device: torch.device) -> "_Batch":
        """The rows' parameters, made anew when the batch changes."""
        known = self._batch.params
        # Identity, not equality: SGLang puts a reference to the request into every dictionary.
        if len(known) != len(params) or any(map(_is_not, known, params)):
            self._batch = _Batch(list(params), device)
        return self._batch

    @classmethod
    def look(cls) -> None:
        """Note what the steps brought that are over, in the order in which they ran."""
        while cls._steps and cls._steps[0].is_over():
            cls._steps.popleft().note()


def _is_not(one: object, other: object) -> bool:
    return one is not other


class _Batch:
    """The parameters of the rows of one batch, as columns on the device, and their reports."""

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
    """One call: what fires [rows], ids and logprobs [rows, K], and which tokens are next [rows]."""

    def __init__(self, batch: _Batch, *brought: Tensor) -> None:
        self._reports = batch.reports
        self._places = [report.next_place() if report else -1 for report in batch.reports]
        self._brought = [_copied(tensor) for tensor in brought]
        self._event: Any = None
        if brought[0].is_cuda:
            self._event = torch.cuda.current_stream(brought[0].device).record_event()

    def is_over(self) -> bool:
        return self._event is None or bool(self._event.query())

    def note(self) -> None:
        fires, token_ids, logprobs = self._brought
        for row in fires.nonzero()[:, 0].tolist():
            if report := self._reports[row]:
                report.add(self._places[row], token_ids[row], logprobs[row])


def _copied(tensor: Tensor) -> Tensor:
    """On the host, some time after the call."""
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
        self._noted: list[list[Any]] = []
        self._request.sampling_params.stream_interval = SILENT

    @classmethod
    def of(cls, params: Any) -> "_Report | None":
        """The one of a request, made when it is first seen."""
        if (request := params.get("__req__")) is None:
            return None
        if getattr(request, "customized_info", None) is None:
            request.customized_info = {}
        if REPORT not in request.customized_info:
            request.customized_info[REPORT] = cls(params)
        report: _Report = request.customized_info[REPORT]
        return report

    def next_place(self) -> int:
        """Which of the request's new tokens this step makes; negative within its prompt.

        Negative too where a server keeps its count elsewhere: that must not end the server, and
        whoever connects finds that it tells nothing.
        """
        committed = getattr(getattr(self._request, "kv", None), "kv_committed_len", -1)
        return int(committed - len(self._request.origin_input_ids))

    def add(self, place: int, token_ids: Tensor, logprobs: Tensor) -> None:
        """A step that has fired; the request is to be sent as soon as its token is known."""
        # A request that the server has put off, and taken up again, runs its last steps once more.
        if not self._left or place <= self._last:
            return
        self._left, self._last = self._left - 1, place
        self._noted.append([place, token_ids[: self._k].tolist(), logprobs[: self._k].tolist()])
        with contextlib.suppress(ReferenceError):  # it has ended
            self._request.sampling_params.stream_interval = 1

    def __getitem__(self, tokens: slice) -> list[Any]:
        EntropyGate.look()
        ready = [noted for noted in self._noted if noted[0] < tokens.stop]
        self._noted = self._noted[len(ready) :]
        if not self._noted:
            self._request.sampling_params.stream_interval = SILENT
        return ready
