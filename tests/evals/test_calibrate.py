"""The search for θ, on counts that are known."""

import asyncio
import math

import pytest

from evals.calibrate import main, with_last_prompts
from evals.config import parse_settings
from evals.execution.calibrating import ThetaTrial, choose_theta


async def falling(theta: float) -> ThetaTrial:
    """16 sequences at θ = 0, 1 at θ = 2 and above."""
    return ThetaTrial(theta, max(1.0, 16 - 7.5 * theta), 0.0, 0.0)


@pytest.mark.parametrize("target", [2.0, 8.0, 15.0])
def test_the_chosen_theta_gives_nearly_the_target(target: float) -> None:
    theta, trials = asyncio.run(choose_theta(falling, 0.0, 2.0, target))
    assert asyncio.run(falling(theta)).mean_sequences == pytest.approx(target, abs=0.3)
    assert len(trials) == 6


def test_a_target_out_of_reach_gives_the_nearest_end() -> None:
    theta, _ = asyncio.run(choose_theta(falling, 1.0, 1.5, 16))
    assert theta == pytest.approx(1.0, abs=0.01)
    theta, _ = asyncio.run(choose_theta(falling, 1.0, 1.5, 1))
    assert theta == pytest.approx(1.5, abs=0.01)


def test_the_best_trial_counts_not_the_last() -> None:
    outcomes = iter([8.0, 3.0, 3.0, 3.0, 3.0, 3.0])

    async def run(theta: float) -> ThetaTrial:
        return ThetaTrial(theta, next(outcomes), 0, 0)

    theta, trials = asyncio.run(choose_theta(run, 0.0, 1.0, 7.9))
    assert theta == trials[0].theta == 0.5
    assert not math.isnan(theta)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--theta", "1"], "--theta has no meaning in a calibration"),
        (["--regrade"], "--regrade has no meaning in a calibration"),
        (["--replay"], "--replay has no meaning in a calibration"),
        (
            ["--seeds=0,1", "--output", "x"],
            "--seeds is 0,1; give one seed, which chooses the prompts",
        ),
        (["--target", "99"], "--target is 99; it must be in [1, M = 16]"),
        (["--target", "0"], "--target is 0; it must be in [1, M = 16]"),
        (["--limit", "0"], "--limit is 0"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_starts(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["--output", "theta.json", *arguments])
    assert exit_.value.code == 2
    assert said in capsys.readouterr().err


def test_a_run_with_a_limit_evaluates_other_prompts() -> None:
    chosen = with_last_prompts(parse_settings(["--limit", "10"], ["eager_init"]))
    evaluated = parse_settings(["--limit", "100"], ["eager_init"])
    assert len(chosen.experiment.samples) == 10
    assert {sample.level for sample in chosen.experiment.samples} == {1, 2, 3, 4}
    assert not {sample.id for sample in chosen.experiment.samples} & {
        s.id for s in evaluated.experiment.samples
    }
