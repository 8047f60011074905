"""A rule of the laboratory and the options that it is run with describe the same vote."""

from __future__ import annotations

import shlex

import pytest

from eager_sgl.voting.deciding import ByCounts, Undecided
from eager_sgl.voting.weighing import by_probability
from evals.config import parse_settings
from evals.laboratory.defaults import DEFAULT_RULES
from evals.laboratory.rules import Rule, live_options, why_no_options
from evals.laboratory.starting import Number
from evals.laboratory.syntax import read_rules

RULES = {rule: live_options(rule) for rule in read_rules(DEFAULT_RULES)}
RUN = ("--report-only", "--task", "countdown", "--theta", "1", "--max-sequences", "32")


@pytest.mark.parametrize("rule", [rule for rule, given in RULES.items() if given], ids=str)
def test_the_options_of_a_rule_are_its_parts(rule: Rule) -> None:
    options = RULES[rule]
    assert options is not None
    experiment = parse_settings([*RUN, "--methods", "vote", *options], ["vote"]).experiment
    live, start = experiment.voting, live_rule(experiment.voting.vote_rule())
    if isinstance(rule.start, Number):
        assert start == Undecided()
        assert experiment.plan.max_sequences == (rule.start.value or 32,)
    else:
        assert start == rule.start
    assert live.cutting() == rule.cutting
    assert (live.shares, live.ahead) == (rule.shares, rule.ahead)
    assert live.outweighed == rule.outweighed
    assert (live.weigh() is by_probability) == rule.needs_logprobs
    assert (live.weights is None) == (rule.weights is None)


def live_rule(rule: object) -> object:
    """Of counts, where it decides a vote of weights."""
    return rule.rule if isinstance(rule, ByCounts) else rule


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("beta+waves:4", "not in waves"),
        ("filter:0.5:8", "filters no finished ones"),
        ("shared:0.2", "no option shares tokens between votes"),
        ("shared:0.2+weights:probability+trie", "no option shares tokens between votes"),
        ("price:0.5", "no option sets a price"),
        ("cut:0.5:8:calibrated", "--vote-cut floor:NATS:WINDOW"),
    ],
)
def test_rules_that_are_played_only_have_a_reason_and_no_options(text: str, reason: str) -> None:
    (rule,) = read_rules(text)
    assert live_options(rule) is None
    assert reason in (why_no_options(rule) or "")


def test_the_parts_of_a_rule_have_the_texts_of_its_options() -> None:
    (rule,) = read_rules("share:0.8:3+weights:tail:16+cut:0.5:16:4+ahead:0.5+trie")
    assert shlex.join(live_options(rule) or ()) == (
        "--vote-rule share:0.8:3 --vote-weights tail:16 --vote-cut 0.5:16:4 --vote-ahead 0.5"
    )
