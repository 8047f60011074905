"""The parts of votes: those of `vote` are options, those of other projects' rules are fixed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar, get_args

from eager_sgl import BetaRule, ConsensusShare, Cutting, ModeTest, VoteRule
from eager_sgl.config import require
from eager_sgl.plugin.vocabulary import Column
from eager_sgl.voting.deciding import AHEAD, ByCounts, Undecided, WeightedRule, require_ahead
from eager_sgl.voting.outweighing import require_outweighing
from eager_sgl.voting.weighing import ConfidenceKind, Weigh, by_confidence, by_probability
from evals.records.plan import ADAPTIVE_CONSISTENCY, DEEPCONF_HIGH, DEEPCONF_LOW, EARLY_EXIT

__all__ = ["VoteOptions", "parts_of_peer"]

_T = TypeVar("_T")

BETA, MODE, SHARE, ALL = "beta", "mode", "share", "all"
RULES_OF_VOTES: dict[str, Callable[..., VoteRule]] = {
    BETA: BetaRule,
    MODE: ModeTest,
    SHARE: ConsensusShare,
}
"""By name; each takes numbers."""
_MAX_NUMBERS = {BETA: 1, MODE: 1, SHARE: 2}
_MAX_WINDOW, _NUM_WINDOWS = 2048, 32
PROBABILITY = "probability"
WEIGHTS = (PROBABILITY, *get_args(ConfidenceKind))
WHOLE = (PROBABILITY, "mean")
"""Weights without a window."""
FIXED = "floor"


@dataclass(frozen=True)
class VoteOptions:
    """The parts of a vote, as texts of a command line; they are read when built.

    Attributes:
        rule: NAME, with numbers after colons; None for "beta", and for "share" with weights.
        weights: "probability", or a kind of confidence, which may have a window: KIND:WINDOW; None
            for a vote of counts.
        cut: KEEP:WINDOW:WARMUP, or floor:NATS:WINDOW; None for no cutting.
        shares: whether samples share prefixes.
        probes: whether running samples are asked for their answers.
        ahead: how far samples run ahead of the decision (`Vote`).
        outweighed: share of the strongest vote below which samples end (`Vote`).

    Raises:
        ValueError: a text is none of these, or a number is out of its range or has other parts.
    """

    rule: str | None = None
    weights: str | None = None
    cut: str | None = None
    shares: bool = True
    probes: bool = False
    ahead: float = AHEAD
    outweighed: float = 0.0

    def __post_init__(self) -> None:
        require_ahead("--vote-ahead", self.ahead)
        share, rule, weigh = self.outweighed, self.vote_rule(), self.weigh()
        ends_otherwise = self.cutting() is not None or self.probes
        require(0 <= share < 1, "--vote-outweighed", share, "a share in [0, 1)")
        try:
            require_outweighing(share, weigh, rule, ends_otherwise=ends_otherwise)
        except ValueError as error:
            raise ValueError(
                f"--vote-outweighed is {share}; it needs --vote-weights {PROBABILITY} and "
                f"--vote-rule {SHARE} or {ALL}, without --vote-cut and --vote-probe"
            ) from error

    @property
    def rule_name(self) -> str:
        """The name of the rule."""
        return (self.rule or (BETA if self.weights is None else SHARE)).partition(":")[0]

    def vote_rule(self) -> VoteRule | WeightedRule:
        """The rule that decides."""
        numbers = (self.rule or "").split(":")[1:]
        if self.rule == ALL:
            return Undecided()
        if self.rule_name not in RULES_OF_VOTES:
            names = ", ".join((*RULES_OF_VOTES, ALL))
            raise ValueError(f"--vote-rule is {self.rule!r}; choose from {names}")
        make = RULES_OF_VOTES[self.rule_name]
        if len(numbers) > (most := _MAX_NUMBERS[self.rule_name]):
            raise ValueError(
                f"--vote-rule is {self.rule!r}; {self.rule_name} takes up to {most} number(s)"
            )
        rule = _made("--vote-rule", self.rule, lambda: make(*map(_number, numbers)))
        return rule if self.weights is None or self.rule_name == SHARE else ByCounts(rule)

    def weigh(self) -> Weigh | None:
        """The weights of votes; None for counts."""
        if self.weights is None:
            return None
        name, _, window = self.weights.partition(":")
        if name not in WEIGHTS or (window and name in WHOLE):
            names = ", ".join(WEIGHTS)
            raise ValueError(f"--vote-weights is {self.weights!r}; choose from {names}")
        if name == PROBABILITY:
            return by_probability
        sizes = [window] if window else []

        def made() -> Weigh:
            return by_confidence(name, *map(int, sizes))  # type: ignore[arg-type]

        return _made("--vote-weights", self.weights, made)

    def cutting(self) -> Cutting | None:
        """When samples are cut; None for never."""
        if self.cut is None:
            return None
        parts = self.cut.split(":")
        if len(parts) != 3:
            raise ValueError(
                f"--vote-cut is {self.cut!r}; it must be KEEP:WINDOW:WARMUP or {FIXED}:NATS:WINDOW"
            )
        first, second, third = parts
        if first == FIXED:
            return _made("--vote-cut", self.cut, lambda: Cutting(int(third), fixed=float(second)))
        return _made("--vote-cut", self.cut, lambda: Cutting(int(second), float(first), int(third)))

    def require_room(self, max_sequences: int) -> None:
        """Require that some of the vote's samples may be cut, if any is to be."""
        if (cutting := self.cutting()) is not None:
            _made("--vote-cut", self.cut, lambda: cutting.require_room(max_sequences))

    @property
    def columns(self) -> tuple[Column, ...]:
        """The values of tokens that the weights need, where the tree has none of them."""
        if self.weights is None:
            return ()
        if self.weights == PROBABILITY:
            return () if self.shares else ("raw_logprobs",)
        return ("confidences",)

    def stored(self) -> dict[str, str | bool | float]:
        """The parts that are not the defaults, by name."""
        texts = {"vote_rule": self.rule, "vote_weights": self.weights, "vote_cut": self.cut}
        given = {name: text for name, text in texts.items() if text is not None}
        others = {
            "vote_shares": (self.shares, True),
            "vote_probes": (self.probes, False),
            "vote_ahead": (self.ahead, AHEAD),
            "vote_outweighed": (self.outweighed, 0.0),
        }
        return given | {name: value for name, (value, usual) in others.items() if value != usual}

    @classmethod
    def restored(cls, options: Mapping[str, object]) -> VoteOptions:
        """The parts of `stored`, among other options."""
        texts = {name: options.get(f"vote_{name}") for name in ("rule", "weights", "cut")}
        read = {name: None if text is None else str(text) for name, text in texts.items()}
        return cls(
            **read,
            shares=bool(options.get("vote_shares", True)),
            probes=bool(options.get("vote_probes", False)),
            ahead=float(str(options.get("vote_ahead", AHEAD))),
            outweighed=float(str(options.get("vote_outweighed", 0.0))),
        )


def parts_of_peer(method: str, max_sequences: int, max_new_tokens: int) -> VoteOptions:
    """The vote of another project's rule.

    DeepConf (arXiv 2508.15260) has groups of 2,048 tokens and 16 warm-up sequences, for chains of
    up to 64,000 tokens and budgets of 512: here a 32nd of the length limit, and a quarter of M. No
    sample runs ahead of a decision.

    Args:
        method: one of `evals.records.plan.VOTES` but `vote`.
        max_sequences: M.
        max_new_tokens: length limit of a sequence.
    """
    if method == ADAPTIVE_CONSISTENCY:
        return VoteOptions(BETA, shares=False, ahead=0)
    if method == EARLY_EXIT:
        return VoteOptions(ALL, shares=False, probes=True, ahead=0)
    window = min(_MAX_WINDOW, max(1, max_new_tokens // _NUM_WINDOWS))
    keep = {DEEPCONF_LOW: 0.1, DEEPCONF_HIGH: 0.9}[method]
    cut = f"{keep}:{window}:{max(1, max_sequences // 4)}"
    return VoteOptions(f"{SHARE}:0.95", "mean", cut, shares=False, ahead=0)


def _number(text: str) -> int | float:
    return int(text) if text.isdecimal() else float(text)


def _made(option: str, text: str | None, make: Callable[[], _T]) -> _T:
    try:
        return make()
    except ValueError as error:
        raise ValueError(f"{option} is {text!r}: {error}") from error
