"""Readers of the texts of options: each takes one kind of value, or refuses it with the option."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from eager_sgl import RULES
from eager_sgl.callbacks import PlugIn
from eager_sgl.engine.addresses import read_urls
from eager_sgl.search import usable_priority
from evals.config.calibration import Calibration
from evals.records.plan import AUTO
from evals.tasks import Sample

__all__ = [
    "TextVerifier",
    "read_caps",
    "read_names",
    "read_object",
    "read_priority",
    "read_quantile",
    "read_servers",
    "read_thresholds",
    "read_values",
    "read_verifier",
]

TextVerifier = Callable[[Sample, str], bool]
"""Whether the text of a sequence answers a sample correctly."""

QUANTILE = "quantile"
TRIAL_TEXT = "So the answer is \\boxed{1}."
Value = TypeVar("Value", int, float, str)


def read_values(option: str, text: str, kind: Callable[[str], Value]) -> tuple[Value, ...]:
    """Different values with commas between them."""
    try:
        values = tuple(kind(part.strip()) for part in text.split(","))
    except ValueError as error:
        numbers = "whole numbers" if kind is int else "numbers"
        raise ValueError(f"{option} is {text!r}; it must be {numbers} with commas") from error
    if len(set(values)) < len(values):
        raise ValueError(f"{option} is {text}; each value may be given once")
    return values


def read_servers(text: str | None) -> tuple[str, ...]:
    """Base URLs of different servers, with commas between them; none if the option is not given."""
    return () if text is None else read_urls("--server", text)


def read_names(option: str, noun: str, text: str, known: Sequence[str]) -> tuple[str, ...]:
    """Different names with commas between them, all of them known; the noun says of what."""
    names = read_values(option, text, str)
    for name in names:
        if name not in known:
            raise ValueError(f"unknown {noun} {name!r}; choose from {', '.join(known)}")
    return names


def read_thresholds(
    text: str | None, default: float
) -> tuple[tuple[float | None, ...], Calibration | None]:
    """θ of a sweep, None for the adaptive quantile; and its calibration if it is a file."""
    if text is None:
        return (default,), None
    if Path(text).is_file():
        calibration = Calibration.read(Path(text))
        return (calibration.theta,), calibration
    if text.endswith(".json"):
        raise ValueError(f"--theta: there is no file {text}")
    parts = [part.strip() for part in text.split(",")]
    fixed = ",".join(part for part in parts if not is_adaptive(part))
    num_adaptive = sum(map(is_adaptive, parts))
    if num_adaptive > 1:
        raise ValueError(f"--theta is {text}; one adaptive quantile may be given")
    values = read_values("--theta", fixed, float) if num_adaptive < len(parts) else ()
    return (*values, *[None] * num_adaptive), None


def is_adaptive(part: str) -> bool:
    """Whether a θ of a sweep is a quantile that adapts to the model."""
    return part == AUTO or part.partition(":")[0] == QUANTILE


def read_quantile(text: str | None) -> float | None:
    """The q of `quantile:q` among the θ of a sweep; None for `auto` or `quantile`, and without."""
    for part in (text or "").split(","):
        name, _, value = part.strip().partition(":")
        if name == QUANTILE and value:
            (quantile,) = read_values("--theta quantile", value, float)
            if not 0 < quantile < 1:
                raise ValueError(f"--theta quantile is {value}; it must be in (0, 1)")
            return quantile
    return None


def read_caps(text: str) -> dict[str, float]:
    """`max_extra_factor` by rule, from a number for all rules or from name=number with commas."""
    try:
        if "=" not in text:
            return dict.fromkeys(RULES, float(text))
        pairs = [part.split("=") for part in text.split(",")]
        caps = {name.strip(): float(value) for name, value in pairs}
    except ValueError as error:
        raise ValueError(
            f"--extra-cap is {text!r}; it must be a number, or eager=1,eager_adapt=3"
        ) from error
    names = ",".join(name for name, _ in pairs)
    read_names("--extra-cap", "method of two stages", names, tuple(RULES))
    return caps


def read_object(option: str, text: str) -> Mapping[str, object]:
    """A JSON object."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{option} is {text!r}, which is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{option} is {text!r}; it must be an object in braces")
    return value


def read_priority(name: str) -> str:
    """The name of a usable priority; its module may lie in the working directory."""
    _import_from_working_directory()
    usable_priority(name)
    return name


def _import_from_working_directory() -> None:
    if os.getcwd() not in sys.path:  # a script has its own folder there instead
        sys.path.insert(0, os.getcwd())


def read_verifier(name: str, samples: Sequence[Sample]) -> TextVerifier:
    """The function `module:function`; the module may lie in the working directory.

    Args:
        name: as on the command line.
        samples: of the run; the function is tried on the first.

    Raises:
        ValueError: there is no such function, or it does not return True or False.
    """
    module, _, function = name.partition(":")
    _import_from_working_directory()
    try:
        verifier: TextVerifier = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"--verifier is {name!r}; it must be module:function that can be imported ({error})"
        ) from error
    if not callable(verifier):
        raise ValueError(
            f"--verifier is {name!r}, a {type(verifier).__name__}; it must be a function"
        )
    plug_in = PlugIn("verifier", verifier, ("sample", "text"), name)

    def verify(sample: Sample, text: str) -> bool:
        with plug_in.blamed():
            return plug_in.boolean(sample, text)

    for sample in samples[:1]:
        verify(sample, TRIAL_TEXT)
    return verify
