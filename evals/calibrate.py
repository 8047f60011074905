"""Chooses θ for a model: `python evals/calibrate.py --output theta.json [options of run.py]`.

First one sequence per prompt shows how the model's step entropies are distributed. Then EAGer-init
is run at several θ between their 90th percentile and their maximum, halving the interval each
time, and the θ whose mean number of sequences per prompt comes closest to the target is written.
`run.py --theta FILE` reads it, and refuses it for another model, K or temperature of the entropy.
The prompts are the last ones of the task's order (that of `--seeds`), so that a run with a limit
evaluates others, as long as the task has enough.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from eager_sgl import EagerConfig, EagerError, EagerInit, PromptResult
from evals.config.calibration import SCHEMA
from evals.config.parse import parse_settings
from evals.config.settings import Settings
from evals.execution.connection import connected
from evals.execution.endings import interruption, terminable
from evals.execution.progress import open_view
from evals.records.files import StoreError, reported, write_whole
from evals.records.identity import weights_digest

if TYPE_CHECKING:
    from eager_sgl import TokenEndpoint

__all__ = ["Trial", "choose_theta", "main", "with_last_prompts"]

QUANTILES = (0.5, 0.9, 0.95, 0.99, 0.999, 1.0)
NUM_TRIALS = 6
SMALLEST_THETA = 0.001
CHOSEN_HERE = ("--theta", "--methods", "--report-only", "--regrade", "--stage-two")
DEFAULTS = ("--methods", "eager_init", "--limit", "10", "--output-dir", "runs/calibration")


@dataclass(frozen=True)
class Trial:
    """EAGer-init on the prompts at one θ.

    Attributes:
        theta: in nats.
        mean_sequences: per prompt.
        share_single: of the prompts, those that ended with one sequence.
        share_saturated: of the prompts, those that reached M.
    """

    theta: float
    mean_sequences: float
    share_single: float
    share_saturated: float


def choose_theta(
    run: Callable[[float], Trial], low: float, high: float, target: float
) -> tuple[float, list[Trial]]:
    """Halve an interval towards a mean number of sequences; the best θ tried, and all trials.

    Args:
        run: a trial at θ; its number of sequences falls as θ rises.
        low, high: the interval, in nats.
        target: sequences per prompt.
    """
    trials: list[Trial] = []
    for _ in range(NUM_TRIALS):
        trials.append(run((low + high) / 2))
        if trials[-1].mean_sequences > target:
            low = trials[-1].theta
        else:
            high = trials[-1].theta
    best = min(trials, key=lambda trial: abs(trial.mean_sequences - target))
    return max(round(best.theta, 3), SMALLEST_THETA), trials


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; the exit code."""
    parser = _parser()
    options, others = parser.parse_known_args(arguments)
    for name in CHOSEN_HERE:
        if any(other.split("=")[0] == name for other in others):
            parser.error(f"{name} means nothing here")
    settings = with_last_prompts(parse_settings([*DEFAULTS, *others], ["eager_init"]))
    if len(settings.plan.seeds) > 1:
        parser.error(f"seeds is {settings.plan.seeds}; one seed chooses the prompts")
    config = settings.config(settings.plan.cells[0])
    target = options.target or config.max_sequences / 2
    if not 1 <= target <= config.max_sequences:
        parser.error(f"target is {target:g}; it must be in [1, M = {config.max_sequences}]")
    try:
        with reported(options.output):
            options.output.parent.mkdir(parents=True, exist_ok=True)
        with (
            terminable(),
            open_view(sys.stdout) as view,
            connected(settings, 0, view) as server,
        ):
            endpoint = server.endpoint
            runner = _Runner(settings, config, endpoint)
            entropies = runner.entropies()
            levels = {str(q): float(np.quantile(entropies, q)) for q in QUANTILES}
            view.say(f"{entropies.size:,} steps; quantiles of their entropy in nats:")
            view.say("  " + "  ".join(f"{q}: {h:.3f}" for q, h in levels.items()))

            def run(theta: float) -> Trial:
                trial = runner.trial(theta)
                view.say(
                    f"θ = {theta:.3f}: {trial.mean_sequences:.2f} sequences per prompt, "
                    f"{trial.share_single:.0%} with one, {trial.share_saturated:.0%} with M"
                )
                return trial

            bound = min(levels["1.0"], math.log(config.top_k))
            if bound < SMALLEST_THETA:
                raise EagerError(
                    f"no step has an entropy of {SMALLEST_THETA} nats; nothing branches"
                )
            theta, trials = choose_theta(run, levels["0.9"], bound, target)
            write_whole(
                options.output,
                {
                    "schema": SCHEMA,
                    "theta": theta,
                    "top_k": config.top_k,
                    "entropy_temperature": config.entropy_temperature,
                    "model": endpoint.profile.model_path,
                    "model_digest": weights_digest(endpoint.profile.model_path),
                    "task": settings.task.name,
                    "num_prompts": len(settings.samples),
                    "max_sequences": config.max_sequences,
                    "target_sequences": target,
                    "entropy_quantiles": levels,
                    "trials": [vars(trial) for trial in trials],
                },
            )
            view.say(
                f"θ = {theta} comes closest to {target:g} sequences; it is in {options.output}"
            )
    except (EagerError, StoreError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as error:
        word, code = interruption(error)
        print(f"error: {word}; nothing was written", file=sys.stderr)
        return code
    return 0


def with_last_prompts(settings: Settings) -> Settings:
    """With prompts from the end of the task's order: a run with a limit takes those in front."""
    everything = settings.task.load(None, settings.levels, settings.plan.seeds[0])
    return replace(settings, samples=tuple(everything[-len(settings.samples) :]))


class _Runner:
    """EAGer-init on all prompts at once, at any θ."""

    def __init__(self, settings: Settings, config: EagerConfig, endpoint: TokenEndpoint) -> None:
        self._settings = settings
        # The gate gives no entropies below θ.
        self._config = replace(config, monitor="chunk")
        self._endpoint = endpoint

    def entropies(self) -> NDArray[np.float64]:
        """Of every monitored step of one sequence per prompt."""
        # A second slot keeps the prompt monitored; nothing but a uniform step could take it.
        unbranched = replace(self._config, max_sequences=2, threshold=math.log(self._config.top_k))
        steps = np.concatenate(
            [np.array(result.sequences[0].entropies) for result in self._run(unbranched)]
        )
        return np.asarray(steps[~np.isnan(steps)])

    def trial(self, theta: float) -> Trial:
        """The number of sequences at one θ."""
        results = self._run(replace(self._config, threshold=theta))
        counts = np.array([len(result.sequences) for result in results])
        return Trial(
            theta=theta,
            mean_sequences=float(counts.mean()),
            share_single=float((counts == 1).mean()),
            share_saturated=float((counts == self._config.max_sequences).mean()),
        )

    def _run(self, config: EagerConfig) -> list[PromptResult]:
        from eager_sgl import generate_all

        prompts = [sample.prompt for sample in self._settings.samples]
        methods = repeat(EagerInit(config))
        return generate_all(prompts, methods, self._endpoint, self._settings.concurrency)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="evals/calibrate.py",
        allow_abbrev=False,
        description="Choose θ for a model; all other options are those of run.py.",
    )
    parser.add_argument("--output", type=Path, required=True, help="the JSON file to write")
    parser.add_argument(
        "--target",
        type=float,
        help="mean number of sequences per prompt to aim at (default: half of --max-sequences)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
