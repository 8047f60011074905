"""The questions of a task, from the generator's process."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from functools import lru_cache
from importlib.util import find_spec
from json import dumps
from typing import NamedTuple

from evals.tasks.gym.selection import Selection

__all__ = ["Question", "questions", "require_library"]

GENERATOR = "evals.tasks.gym.generator"
LIMIT_SECONDS = 1_800.0


class Question(NamedTuple):
    """A question.

    Attributes:
        number: in the library's data set.
        text: as the library asks it.
        answer: a right answer; None where the library gives none and verifies answers alone.
        item: the library's item, pickled.
    """

    number: int
    text: str
    answer: str | None
    item: bytes


def require_library() -> None:
    """Raises ValueError, with the command to install it, without reasoning-gym."""
    if find_spec("reasoning_gym") is None:
        raise ValueError(
            "tasks reasoning_gym:NAME need a library: pip install -e '.[gym]' in the folder of "
            "eager_sgl, with a C compiler"
        )


def questions(selection: Selection) -> tuple[Question, ...]:
    """The questions of a selection, the same ones in every process and run.

    Raises:
        ValueError: the library does not know the name or a parameter, or has too few questions.
    """
    request = {
        "name": selection.name,
        "parameters": dict(selection.parameters),
        "seed": selection.seed,
        "size": selection.size,
    }
    return _generated(dumps(request, sort_keys=True))


@lru_cache(maxsize=8)
def _generated(request: str) -> tuple[Question, ...]:
    require_library()
    path = os.pathsep.join(map(os.path.abspath, sys.path))
    try:
        process = subprocess.run(
            [sys.executable, "-P", "-m", GENERATOR],
            input=request.encode(),
            capture_output=True,
            env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "0"},
            timeout=LIMIT_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise ValueError(
            f"reasoning-gym has not made {request} after {LIMIT_SECONDS:g} s; give a smaller size"
        ) from error
    if process.returncode:
        lines = process.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise ValueError(f"reasoning-gym failed on {request}: {lines[-1]}")
    found, problem = pickle.loads(process.stdout)
    if problem is not None:
        raise ValueError(problem)
    return tuple(Question(*question) for question in found)
