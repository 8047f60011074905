"""The plugin's reports of a request, read from its answer or from the events of its stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from eager_sgl.core import Generation, TopLogprobs
from eager_sgl.engine.shapes import ShapeError, shown
from eager_sgl.errors import ServerError
from eager_sgl.plugin.blocks import Reports, unpack
from eager_sgl.plugin.vocabulary import KEY, Column, Gate

__all__ = ["PluginReports", "ReportReader"]


class ReportReader(Protocol):
    """Adds a gate's reports to the answers of one request."""

    def add_to(self, generation: Generation, meta: Mapping[str, object]) -> Generation:
        """An answer, complete or so far, with the reports in its `meta_info`."""


class PluginReports:
    """Reads the plugin's reports of one try of a request: each block once, since every event of a
    stream repeats the earlier ones.

    Args:
        gate: of the request.
        temperature: τ of the request; 0 is greedy.
    """

    def __init__(self, gate: Gate, temperature: float) -> None:
        self._gate = gate
        self._temperature = temperature or 1.0
        self._observes_steps = gate.threshold is not None or gate.stored_below is not None
        self._reports = unpack((), gate.top_k)
        self._num_blocks = 0

    def add_to(self, generation: Generation, meta: Mapping[str, object]) -> Generation:
        """An answer, complete or so far, with the reports in its `meta_info`.

        Raises:
            ServerError: the server has switched the gate off for the request, or has no plugin.
            ShapeError: the reports are malformed, or not of the answer's tokens.
        """
        # The plugin sends a list for every part, but for the abort of a request that waits.
        if KEY not in meta and generation.interrupted is None:
            raise ServerError(
                "the server that answered has no plugin; install eager_sgl beside every replica"
            )
        reports = self._read(meta.get(KEY) or ())
        if reports.fault is not None:
            raise ServerError(f"the server switched the gate off for a request: {reports.fault}")
        num_tokens = self._num_covered(generation, reports)
        if reports.cut is not None:
            num_tokens = min(num_tokens, reports.cut[0] + 1)
        return self._with_columns(_ended(generation, reports, num_tokens), reports)

    def _read(self, blocks: object) -> Reports:
        """All reports so far; an answer to an abort may lack them."""
        try:
            if not isinstance(blocks, list | tuple):
                raise ValueError(f"a list of blocks is due, not {shown(blocks)}")
            new = blocks[self._num_blocks :]
            if new:
                self._reports = unpack(new, self._gate.top_k, self._reports)
                self._num_blocks = len(blocks)
        except ValueError as error:
            raise ShapeError(f"its {KEY!r} cannot be read: {error}") from error
        return self._reports

    def _num_covered(self, generation: Generation, reports: Reports) -> int:
        """The number of tokens that have all columns; only an abort can leave some without."""
        num_tokens = len(generation.token_ids)
        lengths = {len(reports.columns.get(name, ())) for name in self._gate.columns}
        lengths.add(int(reports.indices[-1]) + 1 if len(reports.indices) else 0)
        if max(lengths) > num_tokens:
            raise ShapeError(f"the gate reports {max(lengths)} steps of {num_tokens} tokens")
        if not self._gate.columns:
            return num_tokens
        covered = min(len(reports.columns.get(name, ())) for name in self._gate.columns)
        if covered < num_tokens and generation.interrupted is None and reports.cut is None:
            raise ShapeError(f"the gate has values of {covered} tokens out of {num_tokens}")
        return covered

    def _with_columns(self, generation: Generation, reports: Reports) -> Generation:
        num_tokens = len(generation.token_ids)

        def column(name: Column) -> NDArray[np.float32] | None:
            return reports.columns[name][:num_tokens] if name in reports.columns else None

        if self._observes_steps:
            num_steps = int(np.searchsorted(reports.indices, num_tokens))
            ids, logprobs = reports.token_ids[:num_steps], reports.logprobs[:num_steps]
            generation = replace(
                generation,
                reported=tuple(reports.indices[:num_steps].tolist()),
                top=TopLogprobs(ids, logprobs, self._temperature),
            )
        logprobs_of_tokens = column("logprobs")
        return replace(
            generation,
            logprobs=generation.logprobs if logprobs_of_tokens is None else logprobs_of_tokens,
            raw_logprobs=column("raw_logprobs"),
            entropies=column("entropies"),
            confidences=column("confidences"),
        )


def _ended(generation: Generation, reports: Reports, num_tokens: int) -> Generation:
    """With its first tokens alone, and with the end that the gate has made.

    A stop token at the cut ends the sequence by itself: the gate ends a request later.
    """
    dropped = len(generation.token_ids) - num_tokens
    has_stopped = generation.finish_reason == "stop" and not dropped
    is_cut = reports.cut is not None and num_tokens == reports.cut[0] + 1 and not has_stopped
    generation = replace(
        generation,
        token_ids=generation.token_ids[:num_tokens],
        num_dropped=dropped,
        is_cut=is_cut,
    )
    if not (is_cut and generation.is_over):
        return generation
    return replace(generation, finish_reason="cut", interrupted=None)
