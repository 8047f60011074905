"""What a request may ask of the gate: plain numbers in `sampling_params.custom_params["eager"]`.

The client writes them, and the server checks them before the request reaches the scheduler.
"""

from __future__ import annotations

import base64
import binascii
import math
import sys
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Literal, get_args

__all__ = [
    "BELOW_FLOOR",
    "COLUMNS",
    "KEY",
    "MAX_ID_LENGTH",
    "MAX_TOP_K",
    "Column",
    "Gate",
    "StepNeeds",
]

KEY = "eager"
"""Of `custom_params`, and of the reports in `meta_info`."""
BELOW_FLOOR = "eager: confidence below the floor"
"""What SGLang reports to have matched where a request has ended below its floor."""
MAX_TOP_K = 128
MAX_ID_LENGTH = 200

Column = Literal["logprobs", "raw_logprobs", "entropies", "confidences"]
COLUMNS: tuple[Column, ...] = get_args(Column)
"""A value per drawn token, in the order of their bits in a report.

`logprobs`: of the token in the whole distribution at the request's temperature, before top-p.
`raw_logprobs`: of the token at temperature 1, renormalised over the K; a token outside the K has
that of the K-th. `entropies`: top-K entropy at the gate's temperature, in nats. `confidences`: the
mean of −ln p of the K tokens in the whole distribution at temperature 1, in nats (DeepConf, arXiv
2508.15260, section 2).
"""


@dataclass(frozen=True, eq=False)
class StepNeeds:
    """What a gate needs of a step; the rows of a batch have few different ones.

    Attributes:
        top_k, temperature: as of `Gate`.
        threshold: infinite where no steps are reported for their entropy.
        stored_below: 0 where no steps are stored.
        columns: those that are reported, and the confidences where a floor needs them.
        is_read: whether a threshold, a store, a column or a floor is asked for.
        has_floor, has_seed: whether the gate has one.
    """

    top_k: int
    temperature: float
    threshold: float
    stored_below: float
    columns: tuple[Column, ...]
    is_read: bool
    has_floor: bool
    has_seed: bool


_needs = lru_cache(maxsize=1024)(StepNeeds)
"""Equal needs are one object as long as it is among the last 1,024, since objects are compared: two
for the same needs cost a batch a longer table, and nothing else."""


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
        before: confidences of the steps before the request, at most W − 1, which count among the W
            of its first steps; as float32 on the server.
        seed: of the draws, in [0, 2^63); None for the server's.
        parent: the id of the running request that this one branches off, whose tokens are then put
            into the radix tree first; None for no such request.

    Raises:
        ValueError: a value is outside its range.
    """

    top_k: int = 20
    threshold: float | None = None
    temperature: float = 1.0
    max_reports: int | None = None
    stored_below: float | None = None
    columns: tuple[Column, ...] = ()
    window: int = 2048
    floor: float | None = None
    before: tuple[float, ...] = ()
    seed: int | None = None
    parent: str | None = None

    def __post_init__(self) -> None:
        for name, (kind, low, high) in _RANGES.items():
            value = getattr(self, name)
            if value is not None or name in _REQUIRED:
                _require(name, value, kind, low, high)
        if len(self.before) >= self.window:
            raise ValueError(
                f"the gate has {len(self.before)} confidences before the request; a window of "
                f"{self.window} steps takes at most {self.window - 1}"
            )
        if wrong := [number for number in self.before if not 0 <= number < math.inf]:
            raise ValueError(
                f"the gate's before has {wrong[0]}; confidences are finite, at least 0"
            )
        if unknown := [name for name in self.columns if name not in COLUMNS]:
            raise ValueError(f"columns are {', '.join(COLUMNS)}, not {unknown[0]!r:.50}")
        is_id = isinstance(self.parent, str) and len(self.parent) <= MAX_ID_LENGTH
        if self.parent is not None and not is_id:
            raise ValueError(f"the gate's parent is {self.parent!r:.50}; it has to be a request id")

    @property
    def needs(self) -> StepNeeds | None:
        """What it needs of every step; None for nothing."""
        has_floor, columns = self.floor is not None, self.columns
        if has_floor and "confidences" not in columns:
            columns = (*columns, "confidences")
        is_read = bool(columns) or self.threshold is not None or self.stored_below is not None
        if not is_read and self.seed is None:
            return None
        return _needs(
            self.top_k,
            self.temperature,
            math.inf if self.threshold is None else self.threshold,
            self.stored_below or 0.0,
            columns,
            is_read,
            has_floor,
            self.seed is not None,
        )

    def custom_params(self) -> dict[str, dict[str, float | str]]:
        """The request's `custom_params`."""
        numbers = {name: getattr(self, name) for name in _VALUES}
        ours = {name: value for name, value in numbers.items() if value != _DEFAULTS[name]}
        if self.before:
            ours[_BEFORE] = _packed(self.before)
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
        names = (*_VALUES, _BEFORE, *COLUMNS)
        if unknown := [name for name in given if name not in names]:
            known = ", ".join(names)
            raise ValueError(f"custom_params[{KEY!r}] has {unknown[0]!r:.50}; it may have {known}")
        for name in COLUMNS:
            if given.get(name, 0) not in (0, 1):
                raise ValueError(f"custom_params[{KEY!r}][{name!r}] has to be 0 or 1")
        columns = tuple(name for name in COLUMNS if given.get(name))
        values = {name: given[name] for name in _VALUES if name in given}
        return cls(columns=columns, before=_unpacked(given.get(_BEFORE, "")), **values)


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
_VALUES = (*_RANGES, "parent")
_BEFORE = "before"
_DEFAULTS: dict[str, object] = {field.name: field.default for field in fields(Gate)}
_REQUIRED = {name for name in _RANGES if _DEFAULTS[name] is not None}


def _require(name: str, value: object, kind: type, low: float, high: float) -> None:
    is_number = isinstance(value, int if kind is int else int | float)
    if (
        is_number and not isinstance(value, bool) and low <= value <= high  # type: ignore[operator]
    ):
        return
    noun = "a whole number" if kind is int else "a number"
    raise ValueError(f"the gate's {name} is {value!r:.50}; it has to be {noun} in [{low}, {high}]")


def _packed(values: tuple[float, ...]) -> str:
    """Float32 numbers, little-endian, in base64."""
    return base64.b64encode(_little_endian(array("f", values)).tobytes()).decode()


def _unpacked(text: object) -> tuple[float, ...]:
    """The numbers of `_packed`.

    Raises:
        ValueError: the text has none.
    """
    try:
        values = array("f", base64.b64decode(str(text), validate=True))
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"the gate's before is {text!r:.50}; float32 in base64 is due") from error
    return tuple(_little_endian(values))


def _little_endian(values: array[float]) -> array[float]:
    if sys.byteorder == "big":
        values.byteswap()
    return values
