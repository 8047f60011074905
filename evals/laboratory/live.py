"""The options of `evals/run.py` by which a rule runs as the method `vote`."""

from __future__ import annotations

from collections.abc import Iterator

from eager_sgl import BetaRule, ConsensusShare, ModeTest
from evals.laboratory.rules import Rule
from evals.laboratory.starting import Number, Start

__all__ = ["live_options"]


def live_options(rule: Rule) -> list[str] | None:
    """The options; None for a rule that is played only.

    A part has the text of its option: `cut:0.5:16:4` is `--vote-cut 0.5:16:4`. Parts that a rule
    lacks are given too, since a live vote shares prefixes and runs ahead by default.
    """
    has_others = rule.waves or rule.filter or rule.budget or rule.is_calibrated
    return None if has_others else list(_options(rule))


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
