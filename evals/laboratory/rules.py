"""Rules: which samples start, which are cut, what they share, and what their votes weigh."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from eager_sgl import BetaRule, ConsensusShare, Cutting, ModeTest
from evals.laboratory.starting import ALL, Number, Start, Waves
from evals.laboratory.weighing import Weights

__all__ = ["Filter", "Rule", "SharedBudget", "live_options", "why_no_options"]


@dataclass(frozen=True)
class Filter:
    """Only the share `keep` of highest lowest group confidence votes; nothing is saved."""

    keep: float
    window: int


@dataclass(frozen=True)
class SharedBudget:
    """Prompts share their tokens by the uncertainty of their votes, in rounds.

    Attributes:
        tokens: the total, as a share of Full Parallel's tokens at M; None for a price.
        price: the lowest uncertainty over the number of sequences, per 1,000 tokens that the next
            sequence is expected to cost, at which a prompt continues; None for a total.
        width: maximum number of samples that start in a round.
    """

    tokens: float | None = None
    price: float | None = None
    width: int = 8


@dataclass(frozen=True)
class Rule:
    """A combination of parts; without any it is Full Parallel.

    Attributes:
        text: as the command line has it.
        start: when no further sample starts.
        waves: of samples; None where as many run as may decide.
        ahead: how far samples run ahead of the decision (`Vote`).
        cutting: ends samples; None ends none.
        is_calibrated: whether the floor of the cutting comes from other prompts.
        filter: of finished samples; None for all.
        weights: of votes; None counts them.
        outweighed: share of the strongest vote below which samples end; 0 for never.
        shares: whether samples share their prefixes.
        budget: None where every prompt spends alone.
    """

    text: str
    start: Start = ALL
    waves: Waves | None = None
    ahead: float = 0
    cutting: Cutting | None = None
    is_calibrated: bool = False
    filter: Filter | None = None
    weights: Weights | None = None
    outweighed: float = 0
    shares: bool = False
    budget: SharedBudget | None = None

    @property
    def kind(self) -> tuple[str, ...]:
        """The names of its parts, which rules that differ in numbers alone have in common."""
        return tuple(self._names())

    def _names(self) -> Iterator[str]:
        for part in self.text.split("+"):
            name, _, values = part.partition(":")
            yield f"{name}:{values.partition(':')[0]}" if name == "weights" else name

    @property
    def needs_columns(self) -> bool:
        """Whether it looks at values of tokens, which `--record` keeps."""
        by_confidence = self.weights is not None and self.weights.kind != "probability"
        looks = self.cutting is not None or self.filter is not None or by_confidence
        return looks or self.outweighed > 0

    @property
    def needs_logprobs(self) -> bool:
        """Whether it looks at the probabilities of whole samples."""
        return self.weights is not None and self.weights.kind == "probability"


def live_options(rule: Rule) -> list[str] | None:
    """The options; None for a rule that no options run.

    A part has the text of its option: `cut:0.5:16:4` is `--vote-cut 0.5:16:4`. Parts that a rule
    lacks are given too, since a live vote shares prefixes and runs ahead by default.
    """
    return None if why_no_options(rule) else list(_options(rule))


def why_no_options(rule: Rule) -> str | None:
    """Why no options run a rule; None where some do."""
    if rule.waves is not None:
        return "a live vote starts samples as its decision needs them, not in waves"
    if rule.filter is not None:
        return "a live vote cuts samples while they run, and filters no finished ones"
    if rule.is_calibrated:
        return "a live vote takes a calibrated floor in nats, --vote-cut floor:NATS:WINDOW"
    if rule.budget is not None and rule.budget.price is not None:
        return "no option sets a price; in Python Vote(bidder=TokenPrice(…)) does"
    if rule.budget is not None:
        return "no option shares tokens between votes; in Python Vote(bidder=…) does"
    return None


def _options(rule: Rule) -> Iterator[str]:
    if isinstance(rule.start, Number) and rule.start.value is not None:
        yield from ("--max-sequences", str(rule.start.value))
    yield from ("--vote-rule", _start(rule.start))
    if (weights := rule.weights) is not None:
        has_window = weights.kind in ("tail", "lowest")
        yield from ("--vote-weights", weights.kind + f":{weights.window}" * has_window)
    if (cutting := rule.cutting) is not None:
        yield from ("--vote-cut", f"{cutting.keep:g}:{cutting.window}:{cutting.warmup}")
    if rule.outweighed:
        yield from ("--vote-outweighed", f"{rule.outweighed:g}")
    if not rule.shares:
        yield "--vote-unshared"
    yield from ("--vote-ahead", f"{rule.ahead:g}")


def _start(start: Start) -> str:
    match start:
        case BetaRule(confidence):
            return f"beta:{confidence:g}"
        case ModeTest(error):
            return f"mode:{error:g}"
        case ConsensusShare(share, at_least):
            return f"share:{share:g}:{at_least}"
        case _:
            return "all"
