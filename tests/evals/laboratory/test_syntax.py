"""Rules as text."""

from __future__ import annotations

import pytest

from eager_sgl import BetaRule, ModeTest
from eager_sgl.voting.cutting import Cutting
from evals.laboratory.defaults import DEFAULT_RULES
from evals.laboratory.rules import Filter, SharedBudget
from evals.laboratory.starting import Number, Waves
from evals.laboratory.syntax import PARTS, read_rules
from evals.laboratory.weighing import Weights


def test_parts_set_their_fields() -> None:
    (rule,) = read_rules("beta:0.9+cut:0.8:32:4+weights:tail:16+trie+ahead:2")
    assert rule.start == BetaRule(0.9)
    assert rule.cutting == Cutting(keep=0.8, window=32, warmup=4)
    assert rule.weights == Weights("tail", 16)
    assert (rule.shares, rule.ahead, rule.budget) == (True, 2, None)
    (rule,) = read_rules("mode:0.2+waves:4:2+filter:0.5:8")
    assert (rule.start, rule.waves) == (ModeTest(0.2), Waves(4, 2))
    assert rule.filter == Filter(0.5, 8)
    (rule,) = read_rules("parallel:7+cut:0.9:16:calibrated+price:0.5:1")
    assert rule.start == Number(7)
    assert rule.is_calibrated
    assert rule.budget == SharedBudget(price=0.5, width=1)


def test_values_with_slashes_are_as_many_rules() -> None:
    rules = read_rules("beta:0.8/0.9+cut:0.9:8/16/32:4, parallel, beta:0.8+cut:0.9:8:4")
    texts = [rule.text for rule in rules]
    assert len(texts) == len(set(texts)) == 7
    assert texts[:2] == ["beta:0.8+cut:0.9:8:4", "beta:0.8+cut:0.9:16:4"]
    assert {rule.kind for rule in rules} == {("beta", "cut"), ("parallel",)}


def test_the_default_rules_are_rules_of_every_part() -> None:
    rules = read_rules(DEFAULT_RULES)
    names = {name.partition(":")[0] for rule in rules for name in rule.kind}
    assert names == {*PARTS} - {"waves", "price"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bet:0.9", r"unknown part 'bet' of rule 'bet:0.9'; choose from parallel\[:m\]; beta"),
        ("", "unknown part ''"),
        ("beta:1.5", r"'beta:1.5': confidence is 1.5; it must be a number in \[0.5, 1\)"),
        ("beta:x", r"'beta:x': confidence is 'x'; it must be a number above 0; beta\[:conf"),
        ("beta:0.9:3", r"'beta:0.9:3' has other values than beta\[:confidence\]"),
        ("cut:0.9", r"'cut:0.9' has other values than cut:keep:window\[:warmup\]"),
        ("cut:1.9:8", r"'cut:1.9:8': keep is 1.9; it must be a share in \(0, 1\]"),
        ("cut:0.9:0", "window is '0'; it must be a whole number of at least 1"),
        ("weights:love", "weights are by probability, mean, tail, lowest, not 'love'"),
        ("weights:mean:3", "mean has no window"),
        ("weights:tail", "tail has a window"),
        ("beta+ahead:-1", r"ahead is -1.0; it must be a number from 0 to 1000; ahead\[:num"),
        ("beta+waves:4+ahead", "rule 'beta[+]waves:4[+]ahead' has waves and ahead; give one"),
        ("beta+mode", "rule 'beta[+]mode' has beta and mode; give one of them"),
        ("trie+trie", "has trie twice"),
        ("waves:4", "rule 'waves:4' has waves without beta, mode or share"),
        ("beta+shared:0.1+waves:4", "has shared and waves; give one of them"),
    ],
)
def test_other_texts_are_refused_with_the_reason(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_rules(text)
