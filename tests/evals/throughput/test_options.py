"""The command line of a benchmark: profiles, and the options that change them."""

import pytest

from evals.throughput.options import parser, profile_of
from evals.throughput.profiles import PROFILES, Profile


def profile(*arguments: str) -> Profile:
    return profile_of(parser("").parse_args(arguments))


def test_options_change_the_profile_that_is_named() -> None:
    quick = profile("--profile", "quick", "--shapes", "2x3,4x5", "--monitors", "gate,step")
    assert quick.shapes == ((2, 3), (4, 5))
    assert quick.monitors == ("gate", "step")
    assert quick.repeats == PROFILES["quick"].repeats


def test_a_large_vocabulary_has_a_profile() -> None:
    assert profile() == PROFILES["standard"]
    assert profile("--vocabulary", "152000") == PROFILES["vocabulary"]
    assert profile("--vocabulary", "99", "--profile", "quick").repeats == 2


def test_best_first_may_have_several_widths() -> None:
    assert profile("--width", "8,16").widths == (8, 16)
    assert profile().widths == ()


def test_an_empty_list_leaves_a_part_out() -> None:
    assert profile("--searches", "").searches == ()


@pytest.mark.parametrize(
    ("option", "value"),
    [("--monitors", "gates"), ("--searches", "parallel"), ("--modes", "slow"), ("--shapes", "8")],
)
def test_unknown_names_are_refused(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        profile(option, value)
    assert value in capsys.readouterr().err
