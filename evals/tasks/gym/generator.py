"""The program that makes the questions of a task; `evals.tasks.gym.source` starts it.

Some generators follow the order of Python's sets, which is the same in every process only under a
fixed `PYTHONHASHSEED`, so that they need a separate process. It reads a request from standard input
and writes a pickle: (questions, None), or (None, a sentence on what was wrong).
"""

from __future__ import annotations

import hashlib
import os
import pickle
import sys
from collections.abc import Iterator
from itertools import islice
from json import load
from typing import Any

__all__ = ["main", "questions_of"]

MAX_LOOKED_AT = 20
"""Generated questions per question wanted; half of them are of the other seeds."""

SPARE = 200


def main() -> None:
    """Answer the request."""
    answer = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # the library prints
    request = load(sys.stdin)
    with answer:
        try:
            pickle.dump((questions_of(**request), None), answer)
        except ValueError as error:
            pickle.dump((None, str(error)), answer)


def questions_of(
    name: str, parameters: dict[str, str], seed: int, size: int
) -> list[tuple[int, str, str | None, bytes]]:
    """Number, text, answer and pickled item of each question.

    Raises:
        ValueError: the library does not know the name or a parameter, or has too few questions.
    """
    from evals.tasks.gym.library import build

    dataset = build(name, parameters, seed, MAX_LOOKED_AT * size + SPARE)
    found = [
        (number, item["question"], item["answer"], pickle.dumps(item))
        for number, item in islice(_distinct(dataset, seed), size)
    ]
    if len(found) < size:
        raise ValueError(
            f"{name} of reasoning-gym has hardly more than {len(found)} different questions of "
            f"this seed at these parameters; give size={len(found)} or less, or other parameters"
        )
    return found


def _distinct(dataset: Any, seed: int) -> Iterator[tuple[int, Any]]:
    """Questions of a seed's half, each once: even and odd seeds share none."""
    seen: set[str] = set()
    for number in range(len(dataset)):
        item = dataset[number]
        question = item["question"]
        if question not in seen and _half(question) == seed % 2:
            seen.add(question)
            yield number, item


def _half(question: str) -> int:
    return hashlib.sha256(question.encode("utf-8", "surrogatepass")).digest()[0] % 2


if __name__ == "__main__":
    main()
