"""What a request may ask of the gate: plain numbers in `sampling_params.custom_params["eager"]`.

The client writes them, and the server checks them before the request reaches the scheduler.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal, get_args

__all__ = ["COLUMNS", "KEY", "MAX_TOP_K", "Column", "Gate"]

KEY = "eager"
"""Of `custom_params`, and of the reports in `meta_info`."""
MAX_TOP_K = 128

Column = Literal["logprobs", "raw_logprobs", "entropies", "confidences"]
COLUMNS: tuple[Column, ...] = get_args(Column)
"""A value per drawn token, in the order of their bits in a report.

`logprobs`: of the token in the whole distribution at the request's temperature, before top-p.
`raw_logprobs`: of the token at temperature 1, renormalised over the K; a token outside the K has
that of the K-th. `entropies`: top-K entropy at the gate's temperature, in nats. `confidences`: the
mean of −ln p of the K tokens in the whole distribution at temperature 1, in nats (DeepConf, arXiv
2508.15260, section 2).
"""


@dataclass(frozen=True, kw_only=True)
class Gate:
    """The steps and values that the server reports of a request.

    Attributes:
        top_k: K, the number of tokens that a step is observed by; in [2, 128], and capped at the
            size of the vocabulary.
        threshold: θ in nats; a step whose entropy reaches it is reported at once, since it may
            branch. None for no such steps.
        temperature: of the distribution whose entropy is taken.
        max_reports: the maximum of steps that are reported for their entropy; None for all.
        stored_below: a step whose most likely token has a smaller probability is reported with the
            next part of the answer: that of the token renormalised over the K at temperature 1,
            times the mass of the K at the request's temperature. Above 1 every step is. None for
            no such steps.
        columns: the values that are reported of every token.
        window: W, the number of steps that the running confidence is the mean of.
        floor: the request ends at the first step from the W-th on whose running confidence is
            smaller, in nats; None for no such floor.
        seed: of the draws, in [0, 2^63); None for the server's.

    Raises:
        ValueError: a number is outside its range.
    """

    top_k: int = 20
    threshold: float | None = None
    temperature: float = 1.0
    max_reports: int | None = None
    stored_below: float | None = None
    columns: tuple[Column, ...] = ()
    window: int = 2048
    floor: float | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        for name, (kind, low, high) in _RANGES.items():
            value = getattr(self, name)
            if value is not None or name in _REQUIRED:
                _require(name, value, kind, low, high)
        if unknown := [name for name in self.columns if name not in COLUMNS]:
            raise ValueError(f"columns are {', '.join(COLUMNS)}, not {unknown[0]!r:.50}")

    @property
    def computed_columns(self) -> tuple[Column, ...]:
        """The columns, with the confidences where a floor needs them."""
        if self.floor is None or "confidences" in self.columns:
            return self.columns
        return (*self.columns, "confidences")

    def custom_params(self) -> dict[str, dict[str, float]]:
        """The request's `custom_params`."""
        numbers = {name: getattr(self, name) for name in _RANGES}
        ours = {name: value for name, value in numbers.items() if value != _DEFAULTS[name]}
        return {KEY: ours | dict.fromkeys(self.columns, 1)}

    @classmethod
    def parse(cls, custom_params: object) -> Gate | None:
        """The gate that a request's `custom_params` ask for; None if they ask for none.

        Raises:
            ValueError: they are no such numbers.
        """
        if not isinstance(custom_params, Mapping) or KEY not in custom_params:
            return None
        given = custom_params[KEY]
        if not isinstance(given, Mapping):
            raise ValueError(f"custom_params[{KEY!r}] is {given!r:.50}; it has to be an object")
        if unknown := [name for name in given if name not in _RANGES and name not in COLUMNS]:
            known = ", ".join((*_RANGES, *COLUMNS))
            raise ValueError(f"custom_params[{KEY!r}] has {unknown[0]!r:.50}; it may have {known}")
        for name in COLUMNS:
            if given.get(name, 0) not in (0, 1):
                raise ValueError(f"custom_params[{KEY!r}][{name!r}] has to be 0 or 1")
        columns = tuple(name for name in COLUMNS if given.get(name))
        return cls(columns=columns, **{name: given[name] for name in _RANGES if name in given})


_RANGES: dict[str, tuple[type, float, float]] = {
    "top_k": (int, 2, MAX_TOP_K),
    "threshold": (float, 0, 100),
    "temperature": (float, 1e-3, 1e3),
    "max_reports": (int, 0, 2**31),
    "stored_below": (float, 0, 2),
    "window": (int, 1, 2**20),
    "floor": (float, 0, 1e9),
    "seed": (int, 0, 2**63 - 1),
}
_DEFAULTS: dict[str, object] = {field.name: field.default for field in fields(Gate)}
_REQUIRED = {name for name in _RANGES if _DEFAULTS[name] is not None}


def _require(name: str, value: object, kind: type, low: float, high: float) -> None:
    is_number = isinstance(value, int if kind is int else int | float)
    if (
        is_number
        and not isinstance(value, bool)
        and math.isfinite(value)  # type: ignore[arg-type]
        and low <= value <= high  # type: ignore[operator]
    ):
        return
    noun = "a whole number" if kind is int else "a number"
    raise ValueError(f"the gate's {name} is {value!r:.50}; it has to be {noun} in [{low}, {high}]")
