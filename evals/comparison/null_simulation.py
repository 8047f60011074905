"""How often an interval errs: `python evals/comparison/null_simulation.py`, or `make null`.

Both sides are drawn from the same distribution: a method that samples M independent sequences for a
prompt, and Full Parallel with 24, compared by the code of reports and of `compare.py`. So every
"better" and every "worse" is an error: at most 2.5 % of either are expected from a 95 % interval,
5 % from one of 90 %. A method that truly passes more shows the power. "Plain" is the percentile
bootstrap over prompts, with a binomial bound only where a method passes all prompts or none.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from itertools import product
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from eager_sgl.signals import Floats
from evals.analysis.intervals import Resamples, resamples
from evals.analysis.matching import matched_interval
from evals.analysis.metrics import pass_curve
from evals.analysis.prompt_curves import PromptCurves
from evals.comparison.needed import ratio_interval
from evals.records.plan import BEST_FIRST, PARALLEL, Cell
from evals.report.table import ruled

__all__ = ["WORLDS", "Case", "Errors", "main", "matched_errors", "ratio_errors"]

NUM_SEQUENCES = 24
"""Of Full Parallel, as in `make run`."""
NUM_PROMPTS = (10, 20, 30, 60, 100, 300)
MAX_SEQUENCES = (1, 2, 4, 16)
TARGET = 8

CURVES = np.array(
    [pass_curve([True] * c + [False] * (NUM_SEQUENCES - c)) for c in range(NUM_SEQUENCES + 1)]
)


def _levels(rng: np.random.Generator, num: int) -> Floats:
    """Pass rates as the bundled reasoner's at its four levels."""
    drawn = [np.ones(num), rng.beta(9, 0.8, num), rng.beta(1, 0.77, num), rng.beta(0.9, 1.27, num)]
    return np.choose(np.arange(num) % 4, drawn)


def _two_kinds(rng: np.random.Generator, num: int) -> Floats:
    return np.where(rng.random(num) < 0.5, rng.beta(0.3, 8, num), rng.beta(8, 0.3, num))


WORLDS: dict[str, Callable[[np.random.Generator, int], Floats]] = {
    "near 0": lambda rng, num: rng.beta(0.4, 6, num),
    "near 1": lambda rng, num: rng.beta(2.5, 0.25, num),
    "all at .9": lambda _, num: np.full(num, 0.9),
    "levels": _levels,
    "two kinds": _two_kinds,
    "uniform": lambda rng, num: rng.random(num),
}
"""Pass rates of prompts, by name."""


class Case(NamedTuple):
    """A simulated run.

    Attributes:
        gain: true difference of the method's pass, mean over prompts; 0 under the null.
    """

    world: str
    max_sequences: int
    num_prompts: int
    num_seeds: int = 1
    gain: float = 0.0


class Errors(NamedTuple):
    """Shares of the repeats in which an interval called the method better, or worse."""

    plain_better: float
    plain_worse: float
    better: float
    worse: float


class _Side(NamedTuple):
    """Sequences of one side: arrays [S, P, k]."""

    correct: NDArray[np.bool_]
    lengths: Floats


def _both(case: Case, rng: np.random.Generator) -> tuple[_Side, _Side]:
    """The method and Full Parallel; prompts differ in length, and wrong sequences are longer."""
    chances = WORLDS[case.world](rng, case.num_prompts)
    scales = rng.lognormal(4.4, 0.5, case.num_prompts)

    def side(number: int) -> _Side:
        shape = (case.num_seeds, case.num_prompts, number)
        correct = rng.random(shape) < chances[:, None]
        spread = rng.lognormal(0, 0.4, shape)
        return _Side(correct, scales[:, None] * np.where(correct, 1, 1.3) * spread)

    return side(case.max_sequences), side(NUM_SEQUENCES)


@cache
def _unsolved(world: str, max_sequences: int) -> float:
    """Share of prompts without a correct one among M sequences."""
    chances = WORLDS[world](np.random.default_rng(0), 200_000)
    return float(np.mean((1 - chances) ** max_sequences))


def _plain(num_prompts: int, number: int) -> Resamples:
    draws = np.random.default_rng(0).multinomial(
        num_prompts, np.full(num_prompts, 1 / num_prompts), number
    )
    return Resamples(draws / num_prompts, np.zeros(number))


def _errors(intervals: Sequence[Sequence[tuple[float, float]]], null: float) -> Errors:
    ends = np.array(intervals)  # [repeats, plain and present, low and high]
    better, worse = (ends[:, :, 0] > null).mean(axis=0), (ends[:, :, 1] < null).mean(axis=0)
    return Errors(better[0], worse[0], better[1], worse[1])


def matched_errors(case: Case, repeats: int, num_resamples: int) -> Errors:
    """Of the 95 % interval of the difference at equal tokens."""
    rng = np.random.default_rng(1)
    drawn = (
        _plain(case.num_prompts, num_resamples),
        resamples(case.num_prompts, case.num_seeds, num_resamples),
    )
    rescue = case.gain / _unsolved(case.world, case.max_sequences) if case.gain else 0.0
    intervals = []
    for _ in range(repeats):
        method, parallel = _both(case, rng)
        solved = method.correct.any(axis=2)
        solved |= rng.random(solved.shape) < rescue
        arguments = (
            solved.mean(axis=0),
            method.lengths.sum(axis=2).mean(axis=0),
            CURVES[parallel.correct.sum(axis=2)].mean(axis=0),
            parallel.lengths.sum(axis=2).mean(axis=0),
        )
        plain, present = (matched_interval(weights, *arguments) for weights in drawn)
        intervals.append([_bounded(plain, arguments[0]), present])
    return _errors(intervals, 0.0)


def _bounded(interval: tuple[float, float], values: Floats) -> tuple[float, float]:
    """With the binomial bound on the unseen outcome in so many prompts."""
    low, high = interval
    bound = 1 - 0.025 ** (1 / len(values))
    return low - bound * (values.min() == 1), high + bound * (values.max() == 0)


def ratio_errors(case: Case, repeats: int, num_resamples: int) -> Errors:
    """Of the 90 % interval of the tokens that a search needs for Full Parallel's pass@8.

    Fewer tokens are "better", and M is that of the search.
    """
    rng = np.random.default_rng(1)
    drawn = (
        _plain(case.num_prompts, num_resamples),
        resamples(case.num_prompts, case.num_seeds, num_resamples),
    )
    intervals = []
    for _ in range(repeats):
        method, parallel = _both(case, rng)
        search = _curves(
            BEST_FIRST,
            np.cumsum(method.lengths, axis=2),
            np.maximum.accumulate(method.correct, axis=2),
        )
        shares = np.arange(1, NUM_SEQUENCES + 1) / NUM_SEQUENCES
        sampled = _curves(
            PARALLEL,
            parallel.lengths.sum(axis=2)[:, :, None] * shares,
            CURVES[parallel.correct.sum(axis=2)][:, :, 1:],
        )
        ends = [ratio_interval(weights, search, sampled, sampled, TARGET) for weights in drawn]
        intervals.append([(-high, -low) for low, high in ends])
    return _errors(intervals, -1.0)


def _curves(method: str, tokens: Floats, passes: Floats) -> PromptCurves:
    """From arrays [S, P, n] for 1 … n sequences."""
    cell = Cell(method, tokens.shape[2], None, 1.0, 0)
    levels = (None,) * tokens.shape[1]
    start = ((0, 0), (1, 0))
    return PromptCurves(
        cell,
        levels,
        np.pad(tokens.mean(axis=0), start),
        np.pad(passes.mean(axis=0), start),
        num_seeds=len(tokens),
    )


class Simulation(Protocol):
    """The errors of an interval in repeated runs of a case."""

    def __call__(self, case: Case, *, repeats: int, num_resamples: int) -> Errors: ...


def _table(title: str, cases: Sequence[Case], errors: dict[Case, Errors], is_plain: bool) -> str:
    names = dict.fromkeys((c.world, c.max_sequences, c.num_seeds, c.gain) for c in cases)
    numbers = sorted({case.num_prompts for case in cases})
    lines = [["pass rates", "M", "seeds", "gain", *map(str, numbers)]]
    for world, cap, seeds, gain in names:
        row = [errors[Case(world, cap, number, seeds, gain)] for number in numbers]
        shares = [shares[:2] if is_plain else shares[2:] for shares in row]
        cells = [" ".join(f"{share:.3f}"[1:] if share < 1 else "1" for share in s) for s in shares]
        lines.append([world, str(cap), str(seeds), f"{gain:+.2f}" if gain else "0", *cells])
    return f"{title}, {'plain' if is_plain else 'with an unseen run'}\n{ruled(lines)}"


def _cases() -> dict[str, tuple[list[Case], Simulation, int]]:
    """Cases, simulation, and by how much its repeats are divided, by the title of the table."""
    null = [Case(*setting) for setting in product(WORLDS, MAX_SEQUENCES, NUM_PROMPTS)]
    null += [Case("levels", cap, number, 3) for cap, number in product((4, 16), NUM_PROMPTS)]
    power = [
        Case(world, 4, number, seeds, gain)
        for world, seeds, gain, number in product(
            ("levels", "uniform"), (1, 3), (0.05, 0.1), NUM_PROMPTS
        )
    ]
    ratio = [Case(world, 16, number) for world, number in product(WORLDS, NUM_PROMPTS)]
    return {
        "difference at equal tokens, 95 %": (null, matched_errors, 1),
        "the same where the method is better": (power, matched_errors, 1),
        "tokens to pass@8, 90 %, a third of the repeats": (ratio, ratio_errors, 3),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; the exit code."""
    parser = argparse.ArgumentParser(
        prog="evals/comparison/null_simulation.py", description=__doc__
    )
    parser.add_argument("--repeats", type=int, default=1000, help="runs per case")
    parser.add_argument("--resamples", type=int, default=2000, help="per interval")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args(arguments)
    if options.repeats < 3:
        parser.error(f"--repeats is {options.repeats}; it must be at least 3")
    error = 1.96 * (0.025 * 0.975 / options.repeats) ** 0.5
    print(f"better and worse, by number of prompts; .025 has ± {error:.3f}")
    with ProcessPoolExecutor(options.processes) as pool:
        for title, (cases, simulate, divisor) in _cases().items():
            repeats = options.repeats // divisor
            run = partial(simulate, repeats=repeats, num_resamples=options.resamples)
            errors = dict(zip(cases, pool.map(run, cases), strict=True))
            for is_plain in (True, False):
                print(f"\n{_table(title, cases, errors, is_plain)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
