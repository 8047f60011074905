"""The parts of the method `vote`: `--vote-rule`, `--vote-weights`, `--vote-cut`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar, get_args

from eager_sgl import BetaRule, ConsensusShare, Cutting, ModeTest, VoteRule
from eager_sgl.plugin.vocabulary import Column
from eager_sgl.voting.deciding import WeightedRule
from eager_sgl.voting.weighing import ConfidenceKind, Weigh, by_confidence, by_probability

__all__ = ["RULES_OF_VOTES", "WEIGHTS", "VoteOptions"]

_T = TypeVar("_T")

BETA, MODE, SHARE = "beta", "mode", "share"
RULES_OF_VOTES: dict[str, Callable[..., VoteRule]] = {
    BETA: BetaRule,
    MODE: ModeTest,
    SHARE: ConsensusShare,
}
"""By name; each takes a number."""
PROBABILITY = "probability"
WEIGHTS = (PROBABILITY, *get_args(ConfidenceKind))
FIXED = "floor"


@dataclass(frozen=True)
class VoteOptions:
    """The parts of a vote, as texts of a command line; they are read when built.

    Attributes:
        rule: NAME or NAME:NUMBER; None for "beta", and for "share" with weights.
        weights: "probability", or a kind of confidence, which may have a window: KIND:WINDOW; None
            for a vote of counts.
        cut: KEEP:WINDOW:WARMUP, or floor:NATS:WINDOW; None for no cutting.
        shares: whether samples share prefixes.

    Raises:
        ValueError: a text is none of these, or the rule does not take weights.
    """

    rule: str | None = None
    weights: str | None = None
    cut: str | None = None
    shares: bool = True

    def __post_init__(self) -> None:
        if self.weights is not None and self.rule_name != SHARE:
            raise ValueError(
                f"--vote-rule is {self.rule}, a test on counts; give {SHARE} with --vote-weights"
            )
        self.vote_rule()
        self.weigh()
        self.cutting()

    @property
    def rule_name(self) -> str:
        """The name of the rule."""
        return (self.rule or (BETA if self.weights is None else SHARE)).partition(":")[0]

    def vote_rule(self) -> VoteRule | WeightedRule:
        """The rule that decides."""
        number = (self.rule or "").partition(":")[2]
        if self.rule_name not in RULES_OF_VOTES:
            names = ", ".join(RULES_OF_VOTES)
            raise ValueError(f"--vote-rule is {self.rule!r}; choose from {names}")
        rule = RULES_OF_VOTES[self.rule_name]
        return _made("--vote-rule", self.rule, lambda: rule(float(number)) if number else rule())

    def weigh(self) -> Weigh | None:
        """The weights of votes; None for counts."""
        if self.weights is None:
            return None
        name, _, window = self.weights.partition(":")
        if name not in WEIGHTS or (window and name == PROBABILITY):
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

    @property
    def columns(self) -> tuple[Column, ...]:
        """The values of tokens that the weights need, where the tree has none of them."""
        if self.weights is None:
            return ()
        if self.weights == PROBABILITY:
            return () if self.shares else ("raw_logprobs",)
        return ("confidences",)

    def stored(self) -> dict[str, str | bool]:
        """The parts that are not the defaults, by name."""
        texts = {"vote_rule": self.rule, "vote_weights": self.weights, "vote_cut": self.cut}
        given: dict[str, str | bool] = {n: text for n, text in texts.items() if text is not None}
        return given if self.shares else given | {"vote_shares": False}

    @classmethod
    def restored(cls, options: Mapping[str, object]) -> VoteOptions:
        """The parts of `stored`, among other options."""
        texts = {name: options.get(f"vote_{name}") for name in ("rule", "weights", "cut")}
        read = {name: None if text is None else str(text) for name, text in texts.items()}
        return cls(**read, shares=bool(options.get("vote_shares", True)))


def _made(option: str, text: str | None, make: Callable[[], _T]) -> _T:
    try:
        return make()
    except ValueError as error:
        raise ValueError(f"{option} is {text!r}: {error}") from error
