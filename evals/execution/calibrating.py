"""The choice of θ for a model: entropies of single sequences, then EAGer-init at several θ."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from eager_sgl import EagerConfig, EagerError, EagerInit, PromptResult
from evals.config import Calibration, Experiment, Settings
from evals.config.calibration import SCHEMA
from evals.execution.progress.view import View
from evals.records.files import write_whole
from evals.records.identity import weights_digest

if TYPE_CHECKING:
    from eager_sgl import AsyncClient

__all__ = ["EagerRuns", "ThetaSearch", "ThetaTrial", "calibrate", "choose_theta", "write_theta"]

QUANTILES = (0.5, 0.9, 0.95, 0.99, 0.999, 1.0)
NUM_TRIALS = 6
MIN_THETA = 0.001


@dataclass(frozen=True)
class ThetaTrial:
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

    def __str__(self) -> str:
        return (
            f"θ = {self.theta:.3f}: {self.mean_sequences:.2f} sequences per prompt, "
            f"{self.share_single:.0%} with one, {self.share_saturated:.0%} with M"
        )


@dataclass(frozen=True)
class ThetaSearch:
    """A chosen θ in nats and its evidence.

    Attributes:
        target: sequences per prompt.
        quantiles: of the entropies of all steps, in nats, by the quantile's text.
        trials: in the order in which they were run.
    """

    theta: float
    target: float
    quantiles: dict[str, float]
    trials: Sequence[ThetaTrial]


async def choose_theta(
    run: Callable[[float], Awaitable[ThetaTrial]], low: float, high: float, target: float
) -> tuple[float, list[ThetaTrial]]:
    """Halve an interval towards a mean number of sequences; the best θ tried, and all trials.

    Args:
        run: a trial at θ; its number of sequences falls as θ rises.
        low, high: the interval, in nats.
        target: sequences per prompt.
    """
    trials: list[ThetaTrial] = []
    for _ in range(NUM_TRIALS):
        trials.append(await run((low + high) / 2))
        if trials[-1].mean_sequences > target:
            low = trials[-1].theta
        else:
            high = trials[-1].theta
    best = min(trials, key=lambda trial: abs(trial.mean_sequences - target))
    return max(round(best.theta, 3), MIN_THETA), trials


class EagerRuns:
    """EAGer-init on all prompts at once, at any θ."""

    def __init__(self, experiment: Experiment, config: EagerConfig, client: AsyncClient) -> None:
        self._experiment = experiment
        # The gate gives no entropies below θ.
        self._config = replace(config, monitor="chunk")
        self._client = client

    async def entropies(self) -> NDArray[np.float64]:
        """Of every monitored step of one sequence per prompt, in nats."""
        # A second slot keeps the prompt monitored; nothing but a uniform step could take it.
        unbranched = replace(self._config, max_sequences=2, threshold=math.log(self._config.top_k))
        results = await self._run(unbranched)
        steps = np.concatenate([np.array(result.sequences[0].entropies) for result in results])
        return np.asarray(steps[~np.isnan(steps)])

    async def trial(self, theta: float) -> ThetaTrial:
        """The number of sequences at one θ."""
        results = await self._run(replace(self._config, threshold=theta))
        counts = np.array([len(result.sequences) for result in results])
        return ThetaTrial(
            theta=theta,
            mean_sequences=float(counts.mean()),
            share_single=float((counts == 1).mean()),
            share_saturated=float((counts == self._config.max_sequences).mean()),
        )

    async def _run(self, config: EagerConfig) -> list[PromptResult]:
        """The results of all prompts, in the order in which they have finished."""
        prompts = [sample.prompt for sample in self._experiment.samples]
        concurrency = self._experiment.concurrency
        items = self._client.map(prompts, EagerInit(config), concurrency=concurrency)
        async with aclosing(items):
            return [item.result async for item in items]


async def calibrate(runs: EagerRuns, top_k: int, target: float, view: View) -> ThetaSearch:
    """Try θ between the 90th percentile of the entropies and their maximum.

    Raises:
        EagerError: the entropies are too low for any step to branch.
    """
    entropies = await runs.entropies()
    quantiles = {str(q): float(np.quantile(entropies, q)) for q in QUANTILES}
    view.say(f"{entropies.size:,} steps; quantiles of their entropy in nats:")
    view.say("  " + "  ".join(f"{q}: {entropy:.3f}" for q, entropy in quantiles.items()))
    bound = min(quantiles["1.0"], math.log(top_k))
    if bound < MIN_THETA:
        raise EagerError(f"no step has an entropy of {MIN_THETA} nats, so that nothing branches")

    async def run(theta: float) -> ThetaTrial:
        trial = await runs.trial(theta)
        view.say(str(trial))
        return trial

    theta, trials = await choose_theta(run, quantiles["0.9"], bound, target)
    return ThetaSearch(theta, target, quantiles, trials)


def write_theta(
    path: Path, chosen: ThetaSearch, settings: Settings, config: EagerConfig, model: str
) -> None:
    """Write the file that `run.py --theta FILE` reads, with the evidence.

    Raises:
        StoreError: it cannot be written.
    """
    digest = weights_digest(model)
    calibration = Calibration(chosen.theta, config.top_k, config.entropy_temperature, model, digest)
    evidence = {
        "task": settings.task.name,
        "num_prompts": len(settings.experiment.samples),
        "max_sequences": config.max_sequences,
        "target_sequences": chosen.target,
        "entropy_quantiles": chosen.quantiles,
        "trials": [asdict(trial) for trial in chosen.trials],
    }
    write_whole(path, {"schema": SCHEMA} | asdict(calibration) | evidence)
