"""Measures how many answers and programs this machine judges per second.

python -m evals.grading.bench
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from evals.grading import integers, mathematics, programs

__all__ = ["main"]

NUM_THREADS = 32
TEST = "def check(candidate):\n    assert candidate(2) == 4\n"
PROBLEM = programs.CodeProblem("def double(x):\n", "double", TEST, "    return 2 * x\n")


def main() -> None:
    """Print a line per judge; the first judgements, which start its workers, do not count."""
    _measure("integers", 20_000, lambda n: integers.score(rf"\boxed{{{n % 999}}}", "5"))
    _measure("mathematics", 500, lambda n: mathematics.judge(rf"\frac{{{n}}}{{3}}", r"\frac{1}{3}"))
    _measure("programs", 50, lambda n: programs.score(f"```\ndouble = lambda x: {n}\n```", PROBLEM))


def _measure(name: str, count: int, judge: Callable[[int], object]) -> None:
    with ThreadPoolExecutor(NUM_THREADS) as threads:
        list(threads.map(judge, range(NUM_THREADS)))
        start = time.perf_counter()
        list(threads.map(judge, range(NUM_THREADS, NUM_THREADS + count)))
    print(f"{name}: {count / (time.perf_counter() - start):,.0f} per second")


if __name__ == "__main__":
    main()
