"""The reports of a request, from its steps to the messages that send them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eager_sgl.plugin.blocks import pack_cut, pack_fault, pack_steps, pack_tokens
from eager_sgl.plugin.confidence import RunningConfidence
from eager_sgl.plugin.signals import NUM_VALUES
from eager_sgl.plugin.vocabulary import COLUMNS, Gate

__all__ = ["CONFIDENCE", "Alternatives", "Report", "Values"]

NEVER = 2**31
"""A `stream_interval` that sends nothing before the request's end; where the request has none."""
_ALL_TOKENS = 1 << 30
"""SGLang's top-k of a request without any."""
CONFIDENCE, _FLAGS = COLUMNS.index("confidences"), NUM_VALUES - 1
_REACHES_THRESHOLD = 1

Values = list[float]
"""The leading `NUM_VALUES` of a row of `signals.read_step`."""
Alternatives = NDArray[np.float32]
"""The rest of that row: K logprobs, and the bits of K ids."""
_Kept = tuple[Values, Alternatives | None]
"""Of a token; the alternatives are kept of steps that are reported."""


class Report:
    """Stands in for a list of values per token in a request's `customized_info`.

    SGLang slices such a list when it sends tokens of the request, after their steps have finished.

    Args:
        request: SGLang's, by a weak reference.
        gate: what the request asks for; None if that cannot be read.
        fault: why the gate is off from the start.

    Attributes:
        gate: None after a fault.
        observed: the gate, if it reports anything of the steps; else None. After a fault, which the
            other ranks may not have, its floor stays.
        seed: of the draws; it stays after a fault too.
        is_limited: whether the request has a top-p, a top-k or a min-p.
    """

    def __init__(self, request: Any, gate: Gate | None, fault: str | None = None) -> None:
        self.gate, self._request = gate, request
        self.observed = gate if gate is not None and gate.observes else None
        self.seed = None if gate is None else gate.seed
        self._rows: dict[int, _Kept] = {}
        self._first = 0  # of the tokens that are not sent yet
        self._cut: tuple[int, float] | None = None
        self._is_cut_sent = self._is_ended = False
        self._fault = fault
        self._confidence: RunningConfidence | None = None
        self._is_dense = gate is not None and bool(gate.computed_columns)
        if gate is None:
            return
        self._num_left = NEVER if gate.max_reports is None else gate.max_reports
        if gate.floor is not None:
            self._confidence = RunningConfidence(gate.window, gate.floor, gate.before)
        params = request.sampling_params
        self.is_limited = params.top_p < 1 or params.top_k < _ALL_TOKENS or params.min_p > 0
        self._interval = params.stream_interval
        if gate.threshold is not None and not self._interval:
            params.stream_interval = self._interval = NEVER

    def index_of(self, sequence_length: int) -> int:
        """The index of the token that makes a sequence one longer; −1 if that is known already.

        It is where SGLang computes the start of a long context: of a prompt, which it may also have
        shortened since the request began, or of a retracted request.
        """
        index = sequence_length - len(self._request.origin_input_ids)
        return index if index >= len(self._request.output_ids) else -1

    def needs(self, values: Values) -> bool:
        """Whether a reading has to be added: it is reported, or takes another's place."""
        return self._is_dense or bool(values[_FLAGS]) or bool(self._rows)

    def fail(self, reason: str) -> None:
        """Switch the gate off for the request, but its floor, and report the first reason."""
        if self.gate is None:
            return
        self.observed = None if self.gate.floor is None else _floor_alone(self.gate)
        self.gate, self._fault, self._rows = None, reason, {}
        self._wake()

    def add(self, index: int, values: Values, alternatives: Alternatives) -> None:
        """Keep the reading of a token (`signals.read_step`); `values` are kept, and their
        flag may change.

        A request that the server retracts draws its last tokens again, which were not sent.
        """
        if index < self._first:
            return
        if self._confidence is not None:
            self._confidence.add(index, values[CONFIDENCE])
        if self.gate is None:
            return
        before = self._rows.pop(index, None)
        if before is not None and _reaches_threshold(before[0]):
            self._num_left += 1
        if _reaches_threshold(values):
            if self._num_left:
                self._num_left -= 1
                self._wake()
            else:
                values[_FLAGS] -= _REACHES_THRESHOLD
        if values[_FLAGS]:
            self._rows[index] = values, _first_of(alternatives, self.gate.top_k)
        elif self.gate.columns:
            self._rows[index] = values, None

    def end_below_floor(self, last: int, reason: Callable[[], Any]) -> None:
        """End the request if its running confidence has fallen below the floor.

        Args:
            last: index of the last token that all ranks know; they have to agree on the end.
            reason: makes SGLang's `finished_reason`.
        """
        if self._is_ended:
            return
        if (cut := self._find_cut(last)) and cut[0] <= last:
            self._is_ended = True
            with contextlib.suppress(ReferenceError):
                self._request.to_finish = reason()

    def _find_cut(self, last: int) -> tuple[int, float] | None:
        """The first step, up to `last`, whose running confidence is below the floor, and that."""
        if self._cut is None and self._confidence is not None:
            self._cut = self._confidence.first_below(last)
        return self._cut

    def _wake(self) -> None:
        """Have SGLang send the request's tokens as soon as they are known."""
        with contextlib.suppress(ReferenceError):  # the request has ended
            self._request.sampling_params.stream_interval = 1

    # What SGLang asks of a list

    def take(self, stop: int) -> list[str]:
        """The blocks of the tokens up to `stop` that were not taken before.

        A cut is sent with its token, before the request ends, so that no part of an answer has
        tokens after a cut that it does not report.
        """
        if self.gate is None:
            fault, self._fault = self._fault, None
            return [pack_fault(fault)] if fault else []
        blocks = self._blocks(self.gate, range(self._first, stop))
        self._first = max(self._first, stop)
        if not any(_reaches_threshold(values) for values, _ in self._rows.values()):
            self._request.sampling_params.stream_interval = self._interval
        if (cut := self._find_cut(stop - 1)) and not self._is_cut_sent and cut[0] < stop:
            self._is_cut_sent = True
            blocks.append(pack_cut(*cut))
        return blocks

    def _blocks(self, gate: Gate, indices: range) -> list[str]:
        rows = {i: row for i in indices if (row := self._rows.pop(i, None)) is not None}
        blocks = []
        if gate.columns and rows:
            assert len(rows) == len(indices), f"readings of {len(rows)} of {len(indices)} tokens"
            table = np.array([values for values, _ in rows.values()], np.float32)
            columns = {name: table[:, COLUMNS.index(name)] for name in gate.columns}
            blocks.append(pack_tokens(indices.start, columns))
        if reported := {i: kept for i, (_, kept) in rows.items() if kept is not None}:
            kept = np.array(list(reported.values()))
            top_k = kept.shape[1] // 2
            token_ids = kept[:, top_k:].view(np.int32)
            blocks.append(pack_steps(reported, token_ids, kept[:, :top_k]))
        return blocks


def _reaches_threshold(values: Values) -> bool:
    return bool(int(values[_FLAGS]) & _REACHES_THRESHOLD)


def _floor_alone(gate: Gate) -> Gate:
    return replace(gate, threshold=None, stored_below=None, columns=())


def _first_of(alternatives: Alternatives, top_k: int) -> Alternatives:
    """K of the batch's K logprobs and ids.

    A copy, since a view would keep the readings of the whole batch.
    """
    most = len(alternatives) // 2
    if top_k >= most:
        return alternatives.copy()
    return np.concatenate((alternatives[:top_k], alternatives[most : most + top_k]))
