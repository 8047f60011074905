"""`--theta auto`: read, handed on, stored with every prompt, reported, and restored."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from eager_sgl import EagerInit
from eager_sgl.adaptive_threshold import AdaptiveThreshold, EntropyHistogram
from eager_sgl.core import PromptResult
from eager_sgl.errors import AuthenticationError
from evals import run
from evals.config.parse import parse_settings
from evals.execution.calls import Call
from evals.execution.methods import METHODS
from tests.evals.fakes.build import result
from tests.evals.fakes.scripted_run import Scripted, lines

AUTO = ("--methods", "eager_init", "--theta", "auto", "--limit", "9", "--max-sequences", "4")


class Showing:
    """Prompts that show entropies by their name, at whatever θ they are given."""

    def __init__(self, stops_at: int | None = None) -> None:
        self.stops_at, self.num_begun = stops_at, 0
        self.quantiles: set[float] = set()

    def __call__(self, call: Call) -> PromptResult:
        self.num_begun += 1
        if self.stops_at is not None and self.num_begun >= self.stops_at:
            raise AuthenticationError("stopped")
        call.account.commit(1)
        generated = result(["no answer"])
        assert isinstance(call.method, EagerInit)
        adaptive_threshold = call.method.adaptive_threshold
        if adaptive_threshold is None:
            return generated
        self.quantiles.add(adaptive_threshold.quantile(4))
        digest = sum(call.sample.id.encode())
        counts = adaptive_threshold.observe([digest % 7 / 5, digest % 3 / 2, *[0.0] * 20])
        adaptive_threshold.observe_length(20 + digest % 5)
        threshold = adaptive_threshold.threshold(4)
        histogram = EntropyHistogram(
            threshold, 20 + digest % 5, tuple(sorted(Counter(counts).items()))
        )
        return replace(generated, entropy_histogram=histogram)


def test_a_run_reports_its_theta_and_continues_with_it(tmp_path: Path, scripted: Scripted) -> None:
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    scripted(Showing())
    assert run.main([*AUTO, "--concurrency", "1", "--output-dir", str(whole)]) == 0
    scripted(Showing(stops_at=5))
    assert run.main([*AUTO, "--concurrency", "1", "--output-dir", str(pieces)]) == 1
    scripted(Showing())
    assert run.main([*AUTO, "--concurrency", "1", "--output-dir", str(pieces)]) == 0
    histograms, histograms_of_pieces = (
        {li["sample_id"]: li["entropy_histogram"] for li in lines(f)} for f in (whole, pieces)
    )
    assert histograms == histograms_of_pieces
    assert len(histograms) == 9
    finals = []
    for folder in (whole, pieces):
        summary = json.loads((folder / "summary.json").read_text())
        (row,) = summary["rows"]
        adaptive = row["adaptive_theta"]
        assert row["theta"] == "auto"
        finals.append((adaptive["final"], adaptive["quantile"]))
        assert adaptive["num_steps"] == 9 * 22
        assert 0.9 < adaptive["quantile"][0] < 1
        assert adaptive["lowest"] <= adaptive["median"] <= adaptive["highest"]
        assert summary["config"]["plan"]["thresholds"] == [None]
        assert summary["config"]["adaptive_quantile"] is None
    known = AdaptiveThreshold()
    counts = [pair for histogram in histograms.values() for pair in histogram["counts"]]
    known.observe([index * 0.005 + 1e-6 for index, number in counts for _ in range(number)])
    known.observe_length(sum(li["entropy_histogram"]["length"] for li in lines(whole)) / 9)
    assert finals[0] == finals[1] == ([known.threshold(4)], [pytest.approx(known.quantile(4))])


def test_it_is_said_under_the_table_beside_a_fixed_theta(
    tmp_path: Path, scripted: Scripted, capsys: pytest.CaptureFixture[str]
) -> None:
    showing = Showing()
    scripted(showing)
    both = [*AUTO[:2], "--theta", "quantile:0.95,0.7", *AUTO[4:]]
    assert run.main([*both, "--output-dir", str(tmp_path)]) == 0
    assert showing.quantiles == {0.95}
    said = " ".join(capsys.readouterr().out.split())
    assert "eager_init M=4 θ=auto τ=0.6: θ is the adaptive quantile, at the end" in said
    assert "(q = 0.9500) after 198 monitored steps" in said
    assert {line["threshold"] for line in lines(tmp_path)} == {None, 0.7}
    assert {line["entropy_histogram"] is None for line in lines(tmp_path) if line["threshold"]} == {
        True
    }


def test_settings_hold_the_quantile() -> None:
    settings = parse_settings(["--theta", "0.9,quantile:0.99", *AUTO[:2]], METHODS)
    assert settings.plan.thresholds == (0.9, None)
    assert settings.experiment.quantile == 0.99
    fixed, adaptive_threshold = settings.plan.cells
    assert settings.experiment.config(fixed).threshold == 0.9
    assert (fixed.theta, adaptive_threshold.theta) == ("0.9", "auto")
    assert parse_settings(["--theta", "0.9"], METHODS).stored().adaptive_quantile is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--theta", "auto"], "eager_adapt needs one that is the same for all prompts"),
        (["--theta", "auto", "--methods", "parallel"], "which is of eager_init; add it"),
        (["--theta", "auto,quantile:0.9"], "one adaptive quantile may be given"),
        (["--theta", "quantile:1.5", *AUTO[:2]], "it must be in (0, 1)"),
        (["--theta", "quantile:high", *AUTO[:2]], "--theta quantile is 'high'"),
    ],
)
def test_what_cannot_run_along_is_refused_in_one_sentence(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse_settings(arguments, METHODS)
    assert said in capsys.readouterr().err
