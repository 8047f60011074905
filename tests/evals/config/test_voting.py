"""The parts of a vote on a command line."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import pytest

from eager_sgl import BetaRule, ConsensusShare, Cutting, ModeTest
from eager_sgl.voting.deciding import AHEAD, ByCounts, Undecided
from eager_sgl.voting.weighing import by_probability
from evals.config import Experiment, VoteOptions, parse_settings
from evals.records.plan import VOTES

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
    assert (parts.ahead, parts_of("--vote-ahead", "0").ahead) == (AHEAD, 0)
    assert parts_of("--vote-cut", "floor:2.5:32").cutting() == Cutting(window=32, fixed=2.5)


def test_parts_are_stored_and_restored() -> None:
    arguments = ("--vote-weights", "lowest:8", "--vote-cut", "0.5:8:4", "--vote-unshared")
    settings = parse_settings([*VOTE, *arguments, "--vote-ahead", "2"], ["vote"])
    options = settings.stored().search.options
    assert (options["vote_cut"], options["vote_ahead"]) == ("0.5:8:4", 2.0)
    assert VoteOptions.restored(options) == settings.experiment.voting
    assert VoteOptions.restored({}) == VoteOptions() == replace(VoteOptions(), rule=None)


def experiment(*arguments: str) -> Experiment:
    options = ["--report-only", "--task", "countdown", "--max-sequences", "16", "--theta", "1"]
    return parse_settings([*options, *arguments], [*VOTES, "parallel"]).experiment


def test_the_rules_of_others_are_fixed_and_share_nothing() -> None:
    methods = ",".join(VOTES)
    found = experiment("--methods", methods, "--max-new-tokens", "640", "--vote-rule", "mode")
    parts = {cell.method: found.voting_in(cell) for cell in found.plan.cells}
    assert {name: part.shares for name, part in parts.items()} == dict.fromkeys(VOTES, False) | {
        "vote": True
    }
    assert {name: part.ahead for name, part in parts.items()} == dict.fromkeys(VOTES, 0) | {
        "vote": AHEAD
    }
    assert parts["vote"].vote_rule() == ModeTest()
    assert parts["adaptive_consistency"].vote_rule() == BetaRule()
    assert parts["deepconf_low"].cutting() == Cutting(window=20, keep=0.1, warmup=4)
    assert parts["deepconf_high"].cutting() == Cutting(window=20, keep=0.9, warmup=4)
    assert parts["early_exit"].vote_rule() == Undecided()
    assert [name for name, part in parts.items() if part.probes] == ["early_exit"]
    assert found.probing is not None
    assert found.probing.text.startswith("</think>")


def test_probes_of_a_vote_are_asked_for() -> None:
    assert experiment("--methods", "vote").probing is None
    found = experiment("--methods", "vote", "--vote-probe", "so: ")
    assert found.voting.probes
    assert found.probing is not None
    assert found.probing.text == "so: "


def test_a_rule_of_counts_ends_a_vote_of_weights() -> None:
    rule = parts_of("--vote-rule", "beta:0.8", "--vote-weights", "probability").vote_rule()
    assert rule == ByCounts(BetaRule(0.8))
    assert ByCounts(BetaRule(0.8))(["a", "a", "b", "a"], [0.0, 0.0, 1.0, 0.0])
    assert parts_of("--vote-rule", "share:0.9:3").vote_rule() == ConsensusShare(0.9, 3)


@pytest.mark.parametrize(
    ("more", "is_refused"),
    [
        ([], False),
        (["--vote-rule", "all"], False),
        (["--vote-rule", "beta"], True),
        (["--vote-cut", "0.5:8:4"], True),
        (["--vote-probe", "so: "], True),
    ],
)
def test_outweighed_samples_end_where_votes_may(more: list[str], is_refused: bool) -> None:
    given = ("--vote-weights", "probability", "--vote-outweighed", "0.3", *more)
    with pytest.raises(SystemExit) if is_refused else nullcontext():
        assert parts_of(*given).outweighed == 0.3


def test_a_vote_that_is_never_decided() -> None:
    assert parts_of("--vote-rule", "all", "--vote-weights", "mean").vote_rule() == Undecided()
    assert not Undecided()(["a"] * 99)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--methods", "parallel", "--vote-rule", "mode"], "the options --vote-… are of vote"),
        (["--vote-ahead", "-1"], "--vote-ahead is -1.0; it must be a number from 0 to 1000"),
        (["--vote-rule", "plurality"], "--vote-rule is 'plurality'; choose from beta, mode, share"),
        (["--vote-rule", "beta:2"], "--vote-rule is 'beta:2': confidence is 2; it must be"),
        (["--vote-probe-interval", "8"], "--vote-probe-… are limits of probes; give --vote-probe"),
        (["--vote-rule", "share:0.9:x"], "--vote-rule is 'share:0.9:x': could not convert"),
        (["--vote-rule", "beta:0.9:3"], "--vote-rule is 'beta:0.9:3'; beta takes up to 1 number"),
        (["--vote-weights", "median"], "--vote-weights is 'median'; choose from probability, mean"),
        (["--vote-weights", "tail:0"], "--vote-weights is 'tail:0': window is 0"),
        (["--vote-cut", "0.5:32"], "--vote-cut is '0.5:32'; it must be KEEP:WINDOW:WARMUP"),
        (["--vote-cut", "0.5:32:x"], "--vote-cut is '0.5:32:x': invalid literal"),
        (
            ["--vote-outweighed", "0.3"],
            "--vote-outweighed is 0.3; it needs --vote-weights probability and --vote-rule share",
        ),
        (["--vote-outweighed", "1"], "--vote-outweighed is 1.0; it must be a share in [0, 1)"),
        (["--vote-cut", "0.5:8:32"], "--vote-cut is '0.5:8:32': cutting.warmup is 32; it must be"),
    ],
)
def test_parts_that_mean_nothing_are_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse_settings([*VOTE, *arguments], ["vote", "parallel"])
    assert f"error: {message}" in capsys.readouterr().err
