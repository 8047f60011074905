"""The parts of a vote on a command line."""

from __future__ import annotations

from dataclasses import replace

import pytest

from eager_sgl import BetaRule, ConsensusShare, Cutting, ModeTest
from eager_sgl.voting.weighing import by_probability
from evals.config import VoteOptions, parse_settings

VOTE = ("--report-only", "--task", "countdown", "--theta", "1", "--methods", "vote")


def parts_of(*arguments: str) -> VoteOptions:
    return parse_settings([*VOTE, *arguments], ["vote", "parallel"]).experiment.voting


def test_parts_are_read() -> None:
    parts = parts_of()
    assert (parts.vote_rule(), parts.weigh(), parts.cutting(), parts.shares) == (
        *(BetaRule(), None, None),
        True,
    )
    assert parts_of("--vote-rule", "mode:0.01").vote_rule() == ModeTest(0.01)
    parts = parts_of("--vote-weights", "probability", "--vote-unshared")
    assert (parts.vote_rule(), parts.weigh()) == (ConsensusShare(), by_probability)
    assert (parts.shares, parts.columns) == (False, ("raw_logprobs",))
    parts = parts_of("--vote-weights", "tail:64", "--vote-cut", "0.1:32:8")
    assert parts.columns == ("confidences",)
    assert parts.cutting() == Cutting(window=32, keep=0.1, warmup=8)
    assert parts_of("--vote-cut", "floor:2.5:32").cutting() == Cutting(window=32, fixed=2.5)


def test_parts_are_stored_and_restored() -> None:
    arguments = ("--vote-weights", "lowest:8", "--vote-cut", "0.5:8:4", "--vote-unshared")
    settings = parse_settings([*VOTE, *arguments], ["vote"])
    options = settings.stored().search.options
    assert options["vote_cut"] == "0.5:8:4"
    assert VoteOptions.restored(options) == settings.experiment.voting
    assert VoteOptions.restored({}) == VoteOptions() == replace(VoteOptions(), rule=None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--methods", "parallel", "--vote-rule", "mode"], "the options --vote-… are of vote"),
        (["--vote-rule", "plurality"], "--vote-rule is 'plurality'; choose from beta, mode, share"),
        (["--vote-rule", "beta:2"], "--vote-rule is 'beta:2': confidence is 2.0; it must be"),
        (["--vote-rule", "beta", "--vote-weights", "mean"], "--vote-rule is beta, a test on count"),
        (["--vote-weights", "median"], "--vote-weights is 'median'; choose from probability, mean"),
        (["--vote-weights", "tail:0"], "--vote-weights is 'tail:0': window is 0"),
        (["--vote-cut", "0.5:32"], "--vote-cut is '0.5:32'; it must be KEEP:WINDOW:WARMUP"),
        (["--vote-cut", "0.5:32:x"], "--vote-cut is '0.5:32:x': invalid literal"),
        (["--vote-cut", "0.5:8:32"], "--vote-cut is 0.5:8:32, of which the first 32 sequences"),
    ],
)
def test_parts_that_mean_nothing_are_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse_settings([*VOTE, *arguments], ["vote", "parallel"])
    assert f"error: {message}" in capsys.readouterr().err
