"""The reports of a request, from its steps to the messages that send them."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eager_sgl.plugin.blocks import pack_cut, pack_fault, pack_steps, pack_tokens
from eager_sgl.plugin.confidence import RunningConfidence
from eager_sgl.plugin.signals import FLAGS, NUM_VALUES
from eager_sgl.plugin.vocabulary import COLUMNS, Gate

__all__ = ["CONFIDENCE", "Report", "Row"]

NEVER = 2**31
"""A `stream_interval` that sends nothing before the request's end; where the request has none."""
_ALL_TOKENS = 1 << 30
"""SGLang's top-k of a request without any."""
CONFIDENCE = COLUMNS.index("confidences")
_REACHES_THRESHOLD = 1

Row = NDArray[np.float32]
"""Of `signals.read_step`."""
Alternatives = NDArray[np.float32]
"""The part of a row after its `NUM_VALUES` values: K logprobs, and the bits of K ids."""
_Reported = tuple[int, Alternatives]
"""A step that is reported: its flag, and what it could have drawn."""


class Report:
    """Stands in for a list of values per token in a request's `customized_info`.

    SGLang slices such a list when it sends tokens of the request, after their steps have finished.

    Args:
        request: SGLang's, by a weak reference.
        gate: what the request asks for; None if that cannot be read.
        fault: why the gate is off from the start.

    Attributes:
        gate: None after a fault.
        needs: of a step; None for nothing. After a fault, which the other ranks may not have, a
            floor and a seed stay.
        seed: of the draws.
        is_limited: whether the request has a top-p, a top-k or a min-p.
        values: bytes of the `NUM_VALUES` values of the tokens that are not sent yet, by index; None
            where no columns are reported.
        newest: the largest index that may have a reported step, or has been sent. A reading without
            a flag beyond it needs only `values[index]`; any other has to be added. Infinite under a
            floor, which every reading counts for.
    """

    def __init__(self, request: Any, gate: Gate | None, fault: str | None = None) -> None:
        self.gate, self._request = gate, request
        self.seed = None if gate is None else gate.seed
        self.needs = None if gate is None else gate.needs
        self.values: dict[int, bytes] | None = {} if gate is not None and gate.columns else None
        self.newest = -1 if gate is None or gate.floor is None else math.inf
        self._steps: dict[int, _Reported] = {}
        self._first = 0  # of the tokens that are not sent yet
        self._cut: tuple[int, float] | None = None
        self._is_cut_sent = self._is_ended = False
        self._fault = fault
        self._confidence: RunningConfidence | None = None
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

    def fail(self, reason: str) -> None:
        """Switch the gate off for the request, but its floor, and report the first reason."""
        if self.gate is None:
            return
        self.needs = replace(self.gate, threshold=None, stored_below=None, columns=()).needs
        self.gate, self._fault, self.values, self._steps = None, reason, None, {}
        self._wake()

    def add(self, index: int, row: Row) -> None:
        """Keep the reading of a token.

        A request that the server retracts draws its last tokens again, which were not sent.
        """
        if index < self._first:
            return
        if self._confidence is not None:
            self._confidence.add(index, float(row[CONFIDENCE]))
        if self.gate is None:
            return
        if self.values is not None:
            self.values[index] = row[:NUM_VALUES].tobytes()
        flags = int(row[FLAGS])
        before, _ = self._steps.pop(index, (0, None))
        if before & _REACHES_THRESHOLD:
            self._num_left += 1
        if flags & _REACHES_THRESHOLD:
            if self._num_left:
                self._num_left -= 1
                self._wake()
            else:
                flags -= _REACHES_THRESHOLD
        if flags:
            self._steps[index] = flags, _first_of(row[NUM_VALUES:], self.gate.top_k)
            self.newest = max(self.newest, index)

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
        self.newest = max(self.newest, self._first - 1)
        if not any(flags & _REACHES_THRESHOLD for flags, _ in self._steps.values()):
            self._request.sampling_params.stream_interval = self._interval
        if (cut := self._find_cut(stop - 1)) and not self._is_cut_sent and cut[0] < stop:
            self._is_cut_sent = True
            blocks.append(pack_cut(*cut))
        return blocks

    def _blocks(self, gate: Gate, indices: range) -> list[str]:
        blocks = []
        known = self.values or {}
        if rows := [known.pop(index) for index in indices if index in known]:
            assert len(rows) == len(indices), f"readings of {len(rows)} of {len(indices)} tokens"
            table = np.frombuffer(b"".join(rows), np.float32).reshape(-1, NUM_VALUES)
            columns = {name: table[:, COLUMNS.index(name)] for name in gate.columns}
            blocks.append(pack_tokens(indices.start, columns))
        if reported := sorted(index for index in self._steps if index < indices.stop):
            kept = np.array([self._steps.pop(index)[1] for index in reported])
            top_k = kept.shape[1] // 2
            token_ids = kept[:, top_k:].view(np.int32)
            blocks.append(pack_steps(reported, token_ids, kept[:, :top_k]))
        return blocks


def _first_of(alternatives: Alternatives, top_k: int) -> Alternatives:
    """K of the batch's K logprobs and ids.

    A copy, since a view would keep the readings of the whole batch.
    """
    most = len(alternatives) // 2
    if top_k >= most:
        return alternatives.copy()
    return np.concatenate((alternatives[:top_k], alternatives[most : most + top_k]))
