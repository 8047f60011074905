"""The reports of the gate, from the distributions of a scripted server."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np

from eager_sgl.engine.gate.pickled import INFO_KEY
from eager_sgl.engine.protocol import Json
from eager_sgl.plugin.blocks import pack_cut, pack_steps, pack_tokens
from eager_sgl.plugin.confidence import RunningConfidence
from eager_sgl.plugin.vocabulary import KEY, Column, Gate
from eager_sgl.signals import Floats, retemper, top_k_entropy

__all__ = ["PickledRecorder", "PluginRecorder", "indices_of", "reported_steps"]

STEPS = 1


class PluginRecorder:
    """The blocks that the plugin sends of a request, one token at a time.

    Args:
        gate: of the request; None records nothing.

    Attributes:
        is_ending: whether the request ends with this token: the second one after a cut.
    """

    is_ending = False

    def __init__(self, gate: Gate | None) -> None:
        self._gate = gate
        self._confidence: RunningConfidence | None = None
        self._cut: tuple[int, float] | None = None
        if gate is not None and gate.floor is not None:
            self._confidence = RunningConfidence(gate.window, gate.floor, gate.before)
        self._blocks: list[str] = []
        self._num_reports = 0

    def observe(self, step: int, token: int, probabilities: Floats, whole: Floats) -> None:
        """Record a step.

        Args:
            probabilities: [vocabulary], at temperature 1.
            whole: [vocabulary], at the temperature of the request, before top-p.
        """
        if (gate := self._gate) is None:
            return
        top = np.argsort(-probabilities, kind="stable")[: gate.top_k]
        if self._is_due(probabilities[top], whole[top]):
            ids, logprobs = top.astype(np.int32), np.log(whole[top]).astype(np.float32)
            self._blocks.append(pack_steps([step], ids[None], logprobs[None]))
        if gate.columns:
            values = signals(gate, token, top, probabilities, whole)
            arrays = {name: np.array([values[name]], np.float32) for name in gate.columns}
            self._blocks.append(pack_tokens(step, arrays))
        if self._confidence is not None:
            self._confidence.add(step, float(-np.log(probabilities[top]).mean()))
            self._end_below_floor(self._confidence, step)

    def _end_below_floor(self, confidence: RunningConfidence, step: int) -> None:
        """The server knows of a cut when it has drawn further tokens."""
        self.is_ending = self._cut is not None and step >= self._cut[0] + 2
        if self._cut is None and (cut := confidence.first_below(step)) is not None:
            self._cut = cut
            self._blocks.append(pack_cut(*cut))

    def _is_due(self, probabilities: Floats, whole: Floats) -> bool:
        """Whether a step is reported, by the probabilities [K] of its most likely tokens."""
        gate = self._gate
        assert gate is not None, "nothing is recorded"
        first = probabilities[0] / probabilities.sum() * whole.sum()
        is_stored = gate.stored_below is not None and first < gate.stored_below
        if gate.threshold is None:
            return is_stored
        fires = top_k_entropy(_at(probabilities, gate.temperature)) >= gate.threshold
        if fires and (gate.max_reports is None or self._num_reports < gate.max_reports):
            self._num_reports += 1
            return True
        return is_stored

    def meta(self) -> Json:
        """The blocks as `meta_info` has them."""
        return {} if self._gate is None else {KEY: self._blocks}


def signals(
    gate: Gate, token: int, top: np.ndarray, probabilities: Floats, whole: Floats
) -> dict[Column, float]:
    """The values of a token that was drawn.

    Args:
        top: [K], ids of the most likely tokens.
        probabilities, whole: as of `PluginRecorder.observe`.
    """
    ranks = np.flatnonzero(top == token)
    rank = int(ranks[0]) if len(ranks) else len(top) - 1
    known = probabilities[top]
    return {
        "logprobs": float(np.log(whole[token])),
        "raw_logprobs": float(np.log(known[rank] / known.sum())),
        "entropies": float(top_k_entropy(_at(known, gate.temperature))),
        "confidences": float(-np.log(known).mean()),
    }


def _at(probabilities: Floats, temperature: float) -> Floats:
    return retemper(np.log(probabilities), taken_at=1.0, wanted=temperature)


def indices_of(blocks: Iterable[str]) -> Iterator[tuple[int, bool]]:
    """The first index of each block, and whether it is of steps."""
    return map(_index_of, blocks)


@lru_cache(2**14)
def _index_of(block: str) -> tuple[int, bool]:
    """Of a block, whose first 12 bytes are in 16 characters; every part of a stream asks again."""
    content = base64.b64decode(block[:16])
    return struct.unpack_from("<i", content, 8)[0], content[0] == STEPS


def reported_steps(answer: Json, body: Json) -> list[int] | None:
    """The steps at which a stream sends its tokens; None for one that has an interval instead."""
    params = body["sampling_params"].get("custom_params", {})
    gate, meta = Gate.parse(params), answer["meta_info"]
    if gate is not None and gate.threshold is not None:
        return sorted({step for step, is_step in indices_of(meta.get(KEY, ())) if is_step})
    if "eager_theta" in params:
        return [step for step, *_ in meta.get(INFO_KEY, ())]
    return None


class PickledRecorder:
    """The reports of the processor that a request carries."""

    is_ending = False

    def __init__(self, params: Json) -> None:
        self._params, self._reports = params, list[list[Any]]()

    def observe(self, step: int, token: int, probabilities: Floats, whole: Floats) -> None:
        """Report a step that reaches θ."""
        order = np.argsort(-probabilities, kind="stable")[: int(self._params["eager_k"])]
        top = np.log(probabilities[order])
        weights = retemper(top, taken_at=1.0, wanted=self._params["eager_temperature"])
        fires = top_k_entropy(weights) >= self._params["eager_theta"]
        if fires and len(self._reports) < self._params["eager_max_reports"]:
            self._reports.append([step, order.tolist(), top.tolist()])

    def meta(self) -> Json:
        """The reports as `meta_info` has them."""
        return {INFO_KEY: self._reports} if self._reports else {}
