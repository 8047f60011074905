"""Rules as text: parts with + between them, each a name with values.

    beta:0.95+cut:0.9:32:8+weights:probability+trie

A value may be several with / between them, and the text then stands for as many rules.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, get_args

from eager_sgl import BetaRule, ConsensusShare, Cutting, ModeTest
from eager_sgl.voting.deciding import AHEAD, require_ahead
from eager_sgl.voting.weighing import ConfidenceKind
from evals.laboratory.rules import Filter, Rule, SharedBudget
from evals.laboratory.starting import Number, Waves
from evals.laboratory.weighing import Weights

__all__ = ["PARTS", "read_rules"]

CALIBRATED = "calibrated"
Fields = Mapping[str, Any]


@dataclass(frozen=True)
class Part:
    """A part of rules.

    Attributes:
        usage: its name and values, the optional ones in brackets.
        help: what it does.
        read: its values -> fields of `Rule`.
    """

    usage: str
    help: str
    read: Callable[..., Fields]


def _parallel(number: str = "") -> Fields:
    return {"start": Number(_whole("the number of sequences", number) if number else None)}


def _beta(confidence: str = "0.95") -> Fields:
    return {"start": BetaRule(_number("confidence", confidence))}


def _mode(error: str = "0.05") -> Fields:
    return {"start": ModeTest(_number("error", error))}


def _share(share: str = "0.95", at_least: str = "8") -> Fields:
    return {"start": ConsensusShare(_number("share", share), _whole("at_least", at_least))}


def _waves(size: str, growth: str = "1") -> Fields:
    return {"waves": Waves(_whole("the size", size), _whole("the growth", growth))}


def _ahead(number: str = str(AHEAD)) -> Fields:
    ahead = float(number)
    require_ahead("ahead", ahead)
    return {"ahead": ahead}


def _cut(keep: str, window: str, warmup: str = "") -> Fields:
    fields = {"keep": _number("keep", keep), "window": _whole("window", window)}
    if warmup == CALIBRATED:
        return {"cutting": Cutting(**fields), "is_calibrated": True}  # type: ignore[arg-type]
    if warmup:
        fields["warmup"] = _whole("warmup", warmup)
    return {"cutting": Cutting(**fields)}  # type: ignore[arg-type]


def _filter(keep: str, window: str) -> Fields:
    checked = Cutting(keep=_number("keep", keep), window=_whole("window", window))
    return {"filter": Filter(checked.keep, checked.window)}


def _weights(kind: str, window: str = "") -> Fields:
    kinds = ("probability", *get_args(ConfidenceKind))
    if kind not in kinds:
        raise ValueError(f"weights are by {', '.join(kinds)}, not {kind!r}")
    if bool(window) != (kind in ("tail", "lowest")):
        raise ValueError(f"{kind} has {'a' if not window else 'no'} window")
    return {"weights": Weights(kind, _whole("window", window)) if window else Weights(kind)}  # type: ignore[arg-type]


def _outweighed(share: str) -> Fields:
    value = _number("the share", share)
    if value >= 1:
        raise ValueError(f"the share is {share!r}; it must be below 1")
    return {"outweighed": value}


def _trie() -> Fields:
    return {"shares": True}


def _shared(tokens: str, width: str = "8") -> Fields:
    return {
        "budget": SharedBudget(tokens=_number("the share", tokens), width=_whole("width", width))
    }


def _price(price: str, width: str = "8") -> Fields:
    return {"budget": SharedBudget(price=_number("the price", price), width=_whole("width", width))}


PARTS = {
    "parallel": Part("parallel[:m]", "m sequences; all M without a number", _parallel),
    "beta": Part("beta[:confidence]", "the Beta rule of Adaptive-Consistency", _beta),
    "mode": Part("mode[:error]", "the sequential test of the mode", _mode),
    "share": Part("share[:share[:at_least]]", "a share of the votes' weights decides", _share),
    "waves": Part("waves:size[:growth]", "ask the rule at the ends of waves only", _waves),
    "ahead": Part(
        "ahead[:number]",
        "samples run ahead of the decision: that many times as many as decide it if answers keep "
        "their shares",
        _ahead,
    ),
    "cut": Part(
        "cut:keep:window[:warmup]",
        "DeepConf's group confidence; warmup is a number of samples, or calibrated on other "
        "prompts",
        _cut,
    ),
    "filter": Part("filter:keep:window", "the same of finished samples", _filter),
    "weights": Part(
        "weights:probability, weights:mean, weights:tail:window, weights:lowest:window",
        "what a vote weighs",
        _weights,
    ),
    "outweighed": Part(
        "outweighed:share",
        "a sample ends once its vote by probability would weigh less than that share of the "
        "strongest one before it; with share and weights:probability",
        _outweighed,
    ),
    "trie": Part("trie", "samples share their prefixes", _trie),
    "shared": Part(
        "shared:share[:width]",
        "prompts share tokens, a share of Full Parallel's, by the uncertainty of their votes",
        _shared,
    ),
    "price": Part(
        "price:value[:width]",
        "a prompt continues while the uncertainty of its vote per sequence and 1,000 tokens is "
        "worth it",
        _price,
    ),
}
"""By name."""
EXCLUSIVE = (
    ("parallel", "beta", "mode", "share"),
    ("shared", "price"),
    ("waves", "ahead"),
    ("shared", "waves"),
    ("price", "waves"),
    ("shared", "ahead"),
    ("price", "ahead"),
    ("cut", "filter"),
    ("outweighed", "cut"),
    ("outweighed", "filter"),
    ("outweighed", "shared"),
    ("outweighed", "price"),
)
"""Parts of which a rule has at most one."""
NEED_DECISION = ("waves", "ahead")


def read_rules(text: str) -> list[Rule]:
    """The rules of a text, with commas between them; each once.

    Raises:
        ValueError: a part does not exist, has other values, or does not fit the others.
    """
    expanded = [rule for part in text.split(",") for rule in _expanded(part.strip())]
    return [_rule(rule) for rule in dict.fromkeys(expanded)]


def _expanded(text: str) -> Iterator[str]:
    """One text for each combination of values."""
    pieces = [part.split(":") for part in text.split("+")]
    choices = [[value.split("/") for value in piece] for piece in pieces]
    flat = product(*(values for piece in choices for values in piece))
    for combination in flat:
        values = iter(combination)
        yield "+".join(":".join(next(values) for _ in piece) for piece in choices)


def _rule(text: str) -> Rule:
    parts = [part.split(":") for part in text.split("+")]
    names = [name for name, *_ in parts]
    for name in names:
        if name not in PARTS:
            raise ValueError(f"unknown part {name!r} of rule {text!r}; choose from {_known()}")
        if names.count(name) > 1:
            raise ValueError(f"rule {text!r} has {name} twice")
    fields = [_read(":".join(part), PARTS[part[0]], part[1:]) for part in parts]
    _require_fitting(text, names)
    rule = Rule(text, **{name: value for part in fields for name, value in part.items()})
    if rule.outweighed and not ("share" in names and rule.needs_logprobs):
        raise ValueError(f"rule {text!r} has outweighed without share and weights:probability")
    return rule


def _known() -> str:
    return "; ".join(part.usage for part in PARTS.values())


def _read(text: str, part: Part, values: Sequence[str]) -> Fields:
    try:
        return part.read(*values)
    except TypeError:
        raise ValueError(f"{text!r} has other values than {part.usage}") from None
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}; {part.usage}") from error


def _require_fitting(text: str, names: Sequence[str]) -> None:
    for group in EXCLUSIVE:
        both = [name for name in names if name in group]
        if len(both) > 1:
            raise ValueError(f"rule {text!r} has {' and '.join(both)}; give one of them")
    for name in NEED_DECISION:
        if name in names and not {"beta", "mode", "share"} & {*names}:
            raise ValueError(f"rule {text!r} has {name} without beta, mode or share")


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ValueError(f"{name} is {text!r}; it must be a number above 0")
    return value


def _whole(name: str, text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise ValueError(f"{name} is {text!r}; it must be a whole number of at least 1")
    return int(text)
