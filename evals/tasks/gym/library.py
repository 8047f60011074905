"""Data sets of reasoning-gym, built from parameters: the only module that imports the library.

Other processes than the run's import it: the import takes four seconds, and some generators and
scorers print.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import fields
from functools import lru_cache
from json import dumps, loads
from typing import Any, get_origin

# NumPy's threads would take address space, which is limited in a worker.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of modules that it imports
    import reasoning_gym  # noqa: F401  # registers the data sets
    from reasoning_gym.factory import DATASETS, create_dataset

__all__ = ["STRIDE", "build", "names"]

STRIDE = 1_000_000
"""Distance of the library's seeds for two seeds of a task: its question i has the seed s + i, so
that neighbouring seeds would share all questions but one."""

OWN = ("seed", "size")
EXCLUDED = ("composite",)
"""Data sets that are made of others."""

SCALARS: dict[type, tuple[tuple[type, ...], str]] = {
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    bool: ((bool,), "true or false"),
}
"""The types that a value may have for a field of a type, and their name."""

Parameters = Mapping[str, str]


def names() -> list[str]:
    """The data sets that can be a task."""
    return sorted(set(DATASETS) - set(EXCLUDED))


def build(name: str, parameters: Parameters, seed: int = 0, size: int = 1) -> Any:
    """A data set; its question i is `dataset[i]`, its score from 0 to 1 `score_answer`.

    Args:
        name: of the data set.
        parameters: of its configuration, as texts.
        seed: of the task.
        size: number of questions; some data sets make all of them at once.

    Raises:
        ValueError: the library does not know the name or a parameter, or refuses a value.
    """
    return _built(name, dumps(dict(parameters), sort_keys=True), seed, size)


@lru_cache(maxsize=8)
def _built(name: str, parameters: str, seed: int, size: int) -> Any:
    if name not in names():
        known = ", ".join(names())
        raise ValueError(f"reasoning-gym has no data set {name!r}; choose from {known}")
    values = _values(name, loads(parameters))
    try:
        return create_dataset(name, seed=seed * STRIDE, size=size, **values)
    except (AssertionError, TypeError, ValueError, KeyError) as error:
        reason = str(error) or type(error).__name__
        raise ValueError(f"reasoning-gym refuses {values} for {name}: {reason}") from error


def _values(name: str, parameters: Parameters) -> dict[str, object]:
    known = {field.name: field.type for field in fields(DATASETS[name][1]) if field.name not in OWN}
    if unknown := [key for key in parameters if key not in known]:
        raise ValueError(
            f"{name} of reasoning-gym has no parameter {unknown[0]!r}; choose from "
            f"{', '.join(('size', 'seed', *known))}"
        )
    return {key: _value(name, key, text, known[key]) for key, text in parameters.items()}


def _value(name: str, key: str, text: str, kind: Any) -> object:
    """The value that a text means for a field of a type."""
    if kind is str:
        return text
    value = _json(text)
    collection = get_origin(kind) or kind
    if collection in (list, tuple, set):
        parts = value if isinstance(value, list) else [_json(part) for part in text.split(",")]
        return collection(parts)
    if kind in SCALARS:
        types, expected = SCALARS[kind]
        if not isinstance(value, types) or isinstance(value, bool) != (kind is bool):
            raise ValueError(f"{key} of {name} is {text!r}; it must be {expected}")
    return value


def _json(text: str) -> object:
    try:
        value: object = loads(text)
    except ValueError:
        return text
    return value
