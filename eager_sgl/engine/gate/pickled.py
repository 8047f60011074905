"""The gate as a pickle: a custom logit processor that is sent with every request.

It serves thresholds alone, and only on a server that was started with
`--enable-custom-logit-processor`, which lets everyone who may send requests run code there.
"""

from __future__ import annotations

import functools
import json
import operator
import pickle
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from eager_sgl.core import Generation, TopLogprobs
from eager_sgl.engine.shapes import ShapeError, shown
from eager_sgl.plugin.vocabulary import Gate

__all__ = ["INFO_KEY", "PickledReports", "can_serve", "pickled_params", "processor_text"]

INFO_KEY = "eager_gate"
"""The field of `meta_info` that holds the processor's reports."""
_UNLIMITED = 2**31
_SHARED_IMPORT = "from eager_sgl.plugin.entropy import top_k_entropies\n"


def can_serve(gate: Gate) -> bool:
    """Whether the processor can report what a gate asks for."""
    only = Gate(
        top_k=gate.top_k,
        threshold=gate.threshold,
        temperature=gate.temperature,
        max_reports=gate.max_reports,
    )
    return gate.threshold is not None and gate == only


def pickled_params(gate: Gate) -> dict[str, float]:
    """The request's `custom_params`."""
    assert gate.threshold is not None, "the processor serves thresholds alone"
    return {
        "eager_theta": gate.threshold,
        "eager_k": gate.top_k,
        "eager_temperature": gate.temperature,
        "eager_max_reports": _UNLIMITED if gate.max_reports is None else gate.max_reports,
    }


class _Shipped:
    """Unpickles to a class that a Python text defines, without the text's file.

    Pickled functions hold bytecode, which another version of Python cannot run; it can run text.
    """

    def __init__(self, text: str, name: str) -> None:
        self._known = {"packed": zlib.compress(text.encode(), 9), "__name__": "eager_gate"}
        self._expression = f"exec(__import__('zlib').decompress(packed), globals()) or {name}"

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return eval, (self._expression, self._known)


@functools.cache
def processor_text() -> str:
    """The `custom_logit_processor` of a request, in the form of SGLang's `to_str()`."""
    shipped = _Shipped(_self_contained_text(), "EntropyGate")
    return json.dumps({"callable": pickle.dumps(shipped, protocol=4).hex()})


def _self_contained_text() -> str:
    """The processor's module, with the text of the function that it shares with the plugin."""
    here = Path(__file__)
    text = here.with_name("processor.py").read_text(encoding="utf-8")
    shared = (here.parents[2] / "plugin" / "entropy.py").read_text(encoding="utf-8")
    before, found, after = text.partition(_SHARED_IMPORT)
    assert found, f"processor.py lacks the line {_SHARED_IMPORT!r}"
    return before + shared + after


class PickledReports:
    """Reads the processor's reports of a request, which are at temperature 1.

    Args:
        top_k: K of the request's gate.
    """

    def __init__(self, top_k: int) -> None:
        self._top_k = top_k

    def add_to(self, generation: Generation, meta: Mapping[str, object]) -> Generation:
        """An answer, complete or so far, with the steps that are reported in its `meta_info`.

        Raises:
            ShapeError: the reports are malformed.
        """
        field = meta.get(INFO_KEY) or ()
        token_ids = np.empty((0, self._top_k), np.int32)
        logprobs = token_ids.astype(np.float32)
        steps: tuple[int, ...] = ()
        try:
            # SGLang pads the reports of a batch's requests with None.
            if reports := [report for report in field if report]:  # type: ignore[attr-defined]
                indices, ids, values = zip(*reports, strict=True)
                token_ids, logprobs = np.array(ids, np.int32), np.array(values, np.float32)
                steps = tuple(operator.index(index) for index in indices)
        except (OverflowError, TypeError, ValueError) as error:
            raise ShapeError(f"its {INFO_KEY!r} is {shown(field)}") from error
        if token_ids.ndim != 2 or token_ids.shape != logprobs.shape:
            raise ShapeError(f"the gate reports {token_ids.shape} ids, {logprobs.shape} logprobs")
        num_tokens = len(generation.token_ids)
        if steps and not 0 <= steps[0] <= steps[-1] < num_tokens:
            raise ShapeError(f"the gate reports steps {shown(steps)} of {num_tokens} tokens")
        return replace(generation, reported=steps, top=TopLogprobs(token_ids, logprobs, 1.0))
