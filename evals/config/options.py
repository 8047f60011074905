"""What the texts of `evals/run.py`'s options say: each function reads one kind, or refuses it."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from eager_sgl.budget.reallocation import RULES, Reallocation
from eager_sgl.callbacks import PlugIn
from eager_sgl.search.priorities import usable_priority
from evals.config.calibration import Calibration
from evals.records.plan import AUTO
from evals.tasks import Sample

__all__ = [
    "TextVerifier",
    "read_names",
    "read_priority",
    "read_quantile",
    "read_rules",
    "read_thresholds",
    "read_values",
    "read_verifier",
]

TextVerifier = Callable[[Sample, str], bool]
"""Whether the text of a sequence answers a sample correctly."""

QUANTILE = "quantile"
TRIAL_TEXT = "So the answer is \\boxed{1}."
Value = TypeVar("Value", int, float, str)


def read_values(name: str, text: str, kind: Callable[[str], Value]) -> tuple[Value, ...]:
    """Different values with commas between them."""
    try:
        values = tuple(kind(part.strip()) for part in text.split(","))
    except ValueError as error:
        numbers = "whole numbers" if kind is int else "numbers"
        raise ValueError(f"{name} is {text!r}; it must be {numbers} with commas") from error
    if len(set(values)) < len(values):
        raise ValueError(f"{name} is {text}; each may be named once")
    return values


def read_names(kind: str, text: str, known: Sequence[str]) -> tuple[str, ...]:
    """Different names with commas between them, all of them known."""
    names = read_values(kind, text, str)
    for name in names:
        if name not in known:
            raise ValueError(f"unknown {kind} {name!r}; there is {', '.join(known)}")
    return names


def read_thresholds(
    text: str | None, own: float
) -> tuple[tuple[float | None, ...], Calibration | None]:
    """θ of a sweep, and its calibration if it is a file; `own` where nothing is given.

    None stands for the adaptive quantile.
    """
    if text is None:
        return (own,), None
    if not Path(text).is_file():
        if text.endswith(".json"):
            raise ValueError(f"theta: there is no file {text}")
        parts = [part.strip() for part in text.split(",")]
        fixed = [part for part in parts if not _is_adaptive(part)]
        values: tuple[float | None, ...] = (
            read_values("theta", ",".join(fixed), float) if fixed else ()
        )
        if len(parts) > len(fixed) + 1:
            raise ValueError(f"theta is {text}; one adaptive quantile may be named")
        return values + (None,) * (len(parts) - len(fixed)), None
    calibration = Calibration.read(Path(text))
    return (calibration.theta,), calibration


def _is_adaptive(part: str) -> bool:
    return part == AUTO or part.partition(":")[0] == QUANTILE


def read_quantile(text: str | None) -> float | None:
    """The q of `quantile:q` among the θ of a sweep; None for `auto` or `quantile`, and without."""
    for part in (text or "").split(","):
        name, _, value = part.strip().partition(":")
        if name == QUANTILE and value:
            (quantile,) = read_values("quantile of theta", value, float)
            if not 0 < quantile < 1:
                raise ValueError(f"quantile of theta is {value}; it must be in (0, 1)")
            return quantile
    return None


def read_rules(options: argparse.Namespace) -> dict[str, Reallocation]:
    """The rules of the paper with the parameters of a command line."""
    caps = _caps(options.extra_cap)
    return {
        name: replace(
            rule,
            max_extra_factor=caps.get(name, rule.max_extra_factor),
            threshold_factor=options.threshold_factor,
            max_tries=options.stage_two_tries,
            late_factor=options.late_factor,
        )
        for name, rule in RULES.items()
    }


def _caps(text: str) -> dict[str, float]:
    """A number for all rules, or name=number with commas."""
    try:
        if "=" not in text:
            return dict.fromkeys(RULES, float(text))
        pairs = [part.split("=") for part in text.split(",")]
        caps = {name.strip(): float(value) for name, value in pairs}
    except ValueError as error:
        raise ValueError(
            f"extra_cap is {text!r}; it must be a number, or eager=1,eager_adapt=3"
        ) from error
    read_names("method of two stages", ",".join(name for name, _ in pairs), tuple(RULES))
    return caps


def read_priority(name: str) -> str:
    """The name of a priority that does its work; its module may lie in the working directory."""
    _admit_own_modules()
    usable_priority(name)
    return name


def _admit_own_modules() -> None:
    if os.getcwd() not in sys.path:  # a script has its own folder there instead
        sys.path.insert(0, os.getcwd())


def read_verifier(name: str, samples: Sequence[Sample]) -> TextVerifier:
    """What `module:function` names; the module may lie in the working directory.

    Args:
        name: as on the command line.
        samples: of the run; the first is tried.

    Raises:
        ValueError: there is no such function, or it does not say True or False.
    """
    module, _, function = name.partition(":")
    _admit_own_modules()
    try:
        found: TextVerifier = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"verifier is {name!r}; it must be module:function that can be imported ({error})"
        ) from error
    if not callable(found):
        raise ValueError(f"verifier is {name!r}, a {type(found).__name__}; it must be a function")
    plug_in = PlugIn("verifier", found, ("sample", "text"), name)

    def verify(sample: Sample, text: str) -> bool:
        with plug_in.blamed():
            return plug_in.boolean(sample, text)

    for sample in samples[:1]:
        verify(sample, TRIAL_TEXT)
    return verify
