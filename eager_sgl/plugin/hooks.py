"""The hooks on SGLang's functions, and the steps whose readings are on their way to the host."""

from __future__ import annotations

import logging
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from eager_sgl.plugin.carried import carried_params, checked_interval, is_carrying
from eager_sgl.plugin.floors import agree_on_confidences, unread_step
from eager_sgl.plugin.parents import publish_parent
from eager_sgl.plugin.reports import Report
from eager_sgl.plugin.rows import Rows, attach
from eager_sgl.plugin.seeds import drawn_by_seeds, seeded_rows
from eager_sgl.plugin.signals import FLAGS, NUM_VALUES, Distributions, GateTable, read_step
from eager_sgl.plugin.vocabulary import BELOW_FLOOR, KEY, Gate

__all__ = ["HOOKS"]

logger = logging.getLogger(__name__)

_live: weakref.WeakSet[Report] = weakref.WeakSet()
"""The reports of the requests that run: without any, every hook returns at once."""
_steps: deque[_Step] = deque()
_ATTRIBUTE = "eager_rows"


def check_params(result: None, params: Any, *args: object, **kwargs: object) -> None:
    """After `SamplingParams.verify`, in the process that answers requests.

    Raises:
        ValueError: the request asks the gate for something that it does not have; SGLang answers
            with status 400.
    """
    if params.custom_params and (gate := Gate.parse(params.custom_params)) is not None:
        _require_sampled(params, gate)


def _require_sampled(params: Any, gate: Gate) -> None:
    """Raises ValueError where the gate cannot read, or draw, the tokens of a request."""
    grammars = (params.json_schema, params.regex, params.ebnf, params.structural_tag)
    if gate.seed is not None and any(grammars):
        # SGLang has then sent what it drew to all ranks.
        raise ValueError("a gate's seed and a grammar exclude each other")
    if algorithm := _speculative_algorithm():
        raise ValueError(
            f"the gate does not read tokens that are drawn speculatively ({algorithm})"
        )
    if (params.beam_width or 1) > 1:
        raise ValueError(
            f"beam_width is {params.beam_width}; the gate and beams exclude each other"
        )


def _speculative_algorithm() -> str | None:
    from sglang.srt.runtime_context import get_spec

    algorithm: str | None = get_spec().speculative_algorithm
    return algorithm


def open_report(result: None, request: Any, *args: object, **kwargs: object) -> None:
    """After `Req.__init__`: a request that asks for the gate has a report."""
    sampling = request.sampling_params
    is_asked = isinstance(sampling.custom_params, dict) and KEY in sampling.custom_params
    if not is_asked and not is_carrying(request.rid):
        return
    try:
        carried = carried_params(request.rid)
        if "stream_interval" in carried:
            sampling.stream_interval = checked_interval(carried["stream_interval"])
        gate = Gate.parse(sampling.custom_params if is_asked else carried.get("custom_params"))
        if gate is None:
            return
        _require_sampled(sampling, gate)
        if gate.seed is not None and request.return_sampling_mask:
            raise ValueError("a gate's seed and return_sampling_mask exclude each other")
        report = Report(weakref.proxy(request), gate)
    except Exception as error:
        logger.warning("The gate of request %.80r stays off: %.200s", request.rid, error)
        report = Report(weakref.proxy(request), None, fault=str(error))
    request.customized_info = {KEY: _Sent(report)}
    attach(request, report)
    _live.add(report)


class _Sent:
    """The report of a request as the list that SGLang slices."""

    def __init__(self, report: Report) -> None:
        self.report = report

    def __getitem__(self, tokens: slice) -> list[str]:
        try:
            record_steps()
            return self.report.take(tokens.stop)
        except Exception as error:
            _switch_off([self.report], error)
            return self.report.take(tokens.stop)


def leave_padding_out(
    original: Callable[..., None], meta: Any, state: Any, key: str, values: Sequence[object]
) -> None:
    """Around `TokenizerManager._accumulate_request_meta_info`: no report where none was asked for.

    SGLang pads the answers that it sends in the same message as reports with None.
    """
    if key != KEY or not values or any(value is not None for value in values):
        original(meta, state, key, values)


def attach_reports(forward: Any, cls: type, batch: Any, *args: object, **kwargs: object) -> None:
    """After `ForwardBatch.init_new`: the reports of the batch's rows travel with it."""
    try:
        # Also if recording fails: the other ranks may wait for this one.
        if _live and (rows := Rows.of(batch.reqs)) is not None:
            setattr(forward, _ATTRIBUTE, rows)
        record_steps()  # a step of requests that have ended would keep their reports alive
    except Exception as error:
        _switch_off(_live, error)


def _switch_off(reports: Iterable[Report | None], error: Exception) -> None:
    """Called while the error is handled."""
    running = [report for report in reports if report and report.gate is not None]
    if running:
        logger.exception("The gate of the running requests is switched off")
    for report in running:
        report.fail(repr(error))


def observe(original: Callable[..., Tensor], runner: Any, output: Any, batch: Any) -> Tensor:
    """Around `ModelRunner.sample`: the tokens that SGLang draws, and the reading of their step."""
    drawn = original(runner, output, batch)
    rows = getattr(batch, _ATTRIBUTE, None)
    if rows is None:
        return drawn
    try:
        return _observe(runner.sampler, output, batch, drawn, rows)
    except Exception as error:
        _switch_off(rows.reports, error)
        return drawn


def _observe(sampler: Any, output: Any, batch: Any, drawn: Tensor, rows: Rows) -> Tensor:
    info, number, needs = batch.sampling_info, len(rows.reports), rows.needs
    lengths, kinds = batch.seq_lens_cpu.tolist()[:number], {kind for kind in needs if kind}
    distributions = Distributions(
        table=output.next_token_logits[:number],
        temperatures=info.temperatures[:number],
        are_logits=_are_logits(sampler, info),
    )
    has_floor = any(kind.has_floor for kind in kinds)
    # Logits are left where all rows are greedy, or draw by a mode of SGLang's own.
    is_seeded = any(kind.has_seed for kind in kinds) and not distributions.are_logits
    try:
        if is_seeded:
            seeded = seeded_rows(rows.reports, lengths)
            drawn = drawn_by_seeds(sampler, distributions, drawn, seeded, output, info)
        if not any(kind.is_read for kind in kinds):
            return drawn
        table = GateTable.of(needs, drawn.device)
        reading, observed_rows = read_step(distributions, drawn[:number], table), table.rows
    except Exception as error:
        if not has_floor:
            raise
        _switch_off(rows.reports, error)
        reading, observed_rows = unread_step(needs, drawn.device)
    if has_floor:
        agree_on_confidences(sampler, reading, observed_rows, number)
    record_steps(keep=1)
    observed = rows.observed(needs, lengths)
    for report, index in observed if has_floor else ():
        report.end_below_floor(index - 2, _below_floor)
    _steps.append(_Step(observed, reading))
    return drawn


def _are_logits(sampler: Any, info: Any) -> bool:
    """Whether the sampler leaves logits in its input, or probabilities in their place.

    Read in `Sampler.forward` of SGLang 0.5.23.

    Raises:
        ValueError: it may leave something else.
    """
    if type(sampler).__name__ != "Sampler" or sampler.use_ascend_backend:
        raise ValueError(f"the gate does not know the sampler {type(sampler).__name__}")
    is_plain = not (
        info.need_top_p_sampling or info.need_top_k_sampling or info.need_min_p_sampling
    )
    draws_from_logprobs = sampler.use_log_softmax_logprob and sampler.enable_deterministic
    return bool(info.is_all_greedy or (draws_from_logprobs and is_plain))


def _below_floor() -> Any:
    from sglang.srt.managers.schedule_batch import FINISH_MATCHED_STR

    return FINISH_MATCHED_STR(matched=BELOW_FLOOR)


class _Step:
    """The reading of a step while it is copied to the host.

    Args:
        observed: the reports of its rows, and the indices of the tokens that were drawn.
        reading: as of `signals.read_step`.
    """

    def __init__(self, observed: list[tuple[Report, int]], reading: Tensor) -> None:
        self._observed, self._event = observed, None
        if not reading.is_cuda:
            self._table = reading.cpu()
            return
        self._table = torch.empty(reading.shape, dtype=reading.dtype, pin_memory=True)
        self._table.copy_(reading, non_blocking=True)
        self._event = torch.cuda.current_stream(reading.device).record_event()

    def has_finished(self) -> bool:
        return self._event is None or bool(self._event.query())

    def record(self) -> None:
        """Wait for the step, and add those of its rows that reports need."""
        if self._event is not None:
            self._event.synchronize()
        table = self._table.numpy()
        values, size = table[:, :NUM_VALUES].tobytes(), NUM_VALUES * table.itemsize
        for row, flags in enumerate(table[:, FLAGS].tolist()):
            report, index = self._observed[row]
            if flags or index <= report.newest:
                try:
                    report.add(index, table[row])
                except Exception as error:
                    _switch_off([report], error)
            elif report.values is not None:
                report.values[index] = values[row * size : (row + 1) * size]


def record_steps(keep: int | None = None) -> None:
    """Record the steps that have finished; or all but the last ones, waiting for them."""
    while _steps and (_steps[0].has_finished() if keep is None else len(_steps) > keep):
        _steps.popleft().record()


_ACCUMULATE = "sglang.srt.managers.tokenizer_manager.TokenizerManager._accumulate_request_meta_info"
HOOKS: list[tuple[str, Callable[..., Any], str]] = [
    (_ACCUMULATE, leave_padding_out, "AROUND"),
    ("sglang.srt.sampling.sampling_params.SamplingParams.verify", check_params, "AFTER"),
    ("sglang.srt.managers.schedule_batch.Req.__init__", open_report, "AFTER"),
    ("sglang.srt.managers.scheduler.Scheduler.handle_generate_request", publish_parent, "BEFORE"),
    ("sglang.srt.model_executor.forward_batch_info.ForwardBatch.init_new", attach_reports, "AFTER"),
    ("sglang.srt.model_executor.model_runner.ModelRunner.sample", observe, "AROUND"),
]
"""SGLang 0.5.23's functions, and where the hooks stand."""
