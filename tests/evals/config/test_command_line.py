"""The table of options: each sets a field that exists, with the default of the library."""

import argparse
from dataclasses import fields, replace

import pytest

from eager_sgl import RULES, EagerConfig, Probing, SearchConfig
from evals.config import parse_settings
from evals.config.command_line import EAGER, OPTIONS, PROBING, SEARCH
from evals.config.parser import build_parser, configured, field_names, in_options


def test_an_option_of_a_configuration_sets_one_of_its_fields() -> None:
    targets = [option for option in OPTIONS if option.of is not None]
    assert {type(option.of) for option in targets} == {
        EagerConfig,
        SearchConfig,
        Probing,
        type(RULES["eager"]),
    }
    for option in targets:
        assert option.of is not None
        assert option.target in {field.name for field in fields(option.of)}, option.name


def test_a_default_is_that_of_the_library() -> None:
    options = build_parser(["eager_init"]).parse_args([])
    assert configured(SEARCH, options) == SearchConfig()
    assert configured(EAGER, options) == EAGER
    assert configured(PROBING, options) == PROBING
    assert configured(RULES["eager"], options) == RULES["eager"]


def test_a_value_replaces_the_field_of_its_name() -> None:
    options = build_parser(["best_first"]).parse_args(["--width", "3", "--max-tokens", "900"])
    assert configured(SEARCH, options) == replace(SEARCH, width=3, max_tokens=900)
    assert configured(SEARCH, options, top_k=5).top_k == 5
    assert set(field_names(SEARCH)) == {"width", "max_tokens"}
    tries = build_parser(["eager"]).parse_args(["--stage-two-tries", "4"])
    assert configured(RULES["eager"], tries).max_tries == 4


def test_options_have_different_names() -> None:
    assert len({option.name for option in OPTIONS}) == len(OPTIONS)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("max_tries is 0; it must be at least 1", "--stage-two-tries is 0; it must be at least 1"),
        ("threshold is 4.0; it must be", "--theta is 4.0; it must be"),
        ("the model is a; θ was calibrated for b", "the model is a; θ was calibrated for b"),
        ("task own.jsonl has no prompts", "task own.jsonl has no prompts"),
    ],
)
def test_a_message_names_the_option_of_a_field(message: str, expected: str) -> None:
    assert in_options(message) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--limit", "many"], "--limit is 'many'; it must be a whole number"),
        (["--width", "2.5"], "--width is '2.5'; it must be a whole number"),
        (["--top-p", "most"], "--top-p is 'most'; it must be a number"),
        (["--monitor", "eye"], "argument --monitor: invalid choice: 'eye'"),
    ],
)
def test_a_value_of_another_type_gets_one_sentence(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        parse_settings(arguments, ["eager_init"])
    assert exit_.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1


def test_switches_take_no_value() -> None:
    options = build_parser(["eager_init"]).parse_args(["--report-only"])
    assert isinstance(options, argparse.Namespace)
    assert (options.report_only, options.regrade) == (True, False)


@pytest.mark.parametrize(
    ("task", "expected"), [("countdown", "</think>"), ("aime_2024", "</think>\n\n\\boxed{")]
)
def test_a_probe_of_a_vote_begins_as_the_answers_of_the_task(task: str, expected: str) -> None:
    arguments = ["--report-only", "--task", task, "--methods", "vote", "--theta", "1"]
    probed = [*arguments, "--vote-probe", "auto", "--vote-probe-interval", "32"]
    assert parse_settings(arguments, ["vote"]).experiment.probing is None
    settings = parse_settings(probed, ["vote"])
    assert settings.experiment.probing == replace(PROBING, text=expected, interval=32)
    assert settings.stored().search.options["probe_text"] == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--methods", "parallel"], "--vote-probe is of vote; add it to --methods"),
        (["--reasoning-end", "none"], "--vote-probe is empty: countdown says nothing"),
        (["--vote-probe-tokens", "0"], "--vote-probe-tokens is 0"),
    ],
)
def test_a_probe_that_means_nothing_is_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse_settings(
            ["--methods", "vote", "--vote-probe", "auto", *arguments], ["vote", "parallel"]
        )
    assert f"error: {message}" in capsys.readouterr().err
