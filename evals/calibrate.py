"""Chooses θ for a model: `python evals/calibrate.py --output theta.json [options of run.py]`.

First one sequence per prompt shows how the model's step entropies are distributed. Then EAGer-init
is run at several θ between their 90th percentile and their maximum, halving the interval each
time, and the θ whose mean number of sequences per prompt is closest to the target is written.
`run.py --theta FILE` reads it, and refuses it for another model, K or temperature of the entropy.
The prompts are the last ones of the task's order (that of `--seeds`), so that a run with a limit
evaluates others, as long as the task has enough.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from eager_sgl import EagerConfig, EagerError
from evals.config import Settings, parse_settings
from evals.config.checks import require_left_out
from evals.execution.calibrating import EagerRuns, ThetaSearch, calibrate, write_theta
from evals.execution.connection import Host, hosted
from evals.execution.endings import (
    BROKEN_OFF,
    fail,
    interruption,
    run_interruptible,
    terminable,
)
from evals.execution.progress.view import View, open_view
from evals.records.files import StoreError, reported

__all__ = ["main", "with_last_prompts"]

CHOSEN_HERE = ("--theta", "--methods", "--report-only", "--regrade", "--replay", "--stage-two")
DEFAULTS = ("--methods", "eager_init", "--limit", "10", "--output-dir", "runs/calibration")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; the exit code."""
    output, target, settings = _parse(arguments)
    config = settings.experiment.config(settings.plan.cells[0])
    try:
        with reported(output):
            output.parent.mkdir(parents=True, exist_ok=True)
        with terminable(), open_view(sys.stdout) as view:
            _calibrate(output, target, settings, config, view)
    except (EagerError, StoreError) as error:
        return fail(str(error), BROKEN_OFF)
    except KeyboardInterrupt as error:
        word, code = interruption(error)
        return fail(f"{word}; nothing was written", code)
    return 0


def _parse(arguments: Sequence[str] | None) -> tuple[Path, float, Settings]:
    """The file to write, the target in sequences per prompt, and the settings of the runs."""
    parser = _parser()
    options, others = parser.parse_known_args(arguments)
    try:
        require_left_out(others, CHOSEN_HERE, "a calibration")
    except ValueError as error:
        parser.error(str(error))
    settings = with_last_prompts(parse_settings([*DEFAULTS, *others], ["eager_init"]))
    if len(settings.plan.seeds) > 1:
        seeds = ",".join(map(str, settings.plan.seeds))
        parser.error(f"--seeds is {seeds}; give one seed, which chooses the prompts")
    max_sequences = settings.plan.max_sequences[0]
    target = max_sequences / 2 if options.target is None else options.target
    if not 1 <= target <= max_sequences:
        parser.error(f"--target is {target:g}; it must be in [1, M = {max_sequences}]")
    return options.output, target, settings


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


def with_last_prompts(settings: Settings) -> Settings:
    """With prompts from the end of the task's order: a run with a limit takes those in front."""
    experiment = settings.experiment
    ordered = experiment.task.load(None, settings.levels, experiment.plan.seeds[0])
    last = tuple(ordered[-len(experiment.samples) :])
    return replace(settings, experiment=replace(experiment, samples=last))


def _calibrate(
    output: Path, target: float, settings: Settings, config: EagerConfig, view: View
) -> None:
    log_path, seed = settings.output_dir / "runtime.log", settings.plan.seeds[0]
    with hosted(settings.server, seed, 0, log_path, view) as host:
        chosen, model = run_interruptible(_calibrate_on(host, target, settings, config, view))
    write_theta(output, chosen, settings, config, model)
    view.say(f"θ = {chosen.theta} is closest to {target:g} sequences per prompt; see {output}")


async def _calibrate_on(
    host: Host, target: float, settings: Settings, config: EagerConfig, view: View
) -> tuple[ThetaSearch, str]:
    """The chosen θ, and the model as the server names it."""
    async with host.connected() as server:
        runs = EagerRuns(settings.experiment, config, server.client)
        chosen = await calibrate(runs, config.top_k, target, view)
        return chosen, server.client.profile.model_path


if __name__ == "__main__":
    sys.exit(main())
