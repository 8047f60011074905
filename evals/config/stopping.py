"""The rules that end a search early: `--stop`. A new rule is one entry of `STOPS`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from eager_sgl import Consensus, Solved, Stop, Unexplored
from eager_sgl import Sequence as Generated
from evals.config.readers import TextVerifier
from evals.tasks import Sample, Task

__all__ = ["CONSENSUS", "NO_STOP", "STOPS", "VERIFIER", "Judgements", "StopOption", "read_stop"]

NO_STOP = "none"
CONSENSUS, UNEXPLORED, VERIFIER = "consensus", "unexplored", "verifier"
DEFAULT_SHARE = 0.5
"""Of the probability; smaller shares are seldom reached: hard prompts keep having alternatives."""


class Judgements(Protocol):
    """A task's judgements on the sequences of one prompt (`evals.analysis.judged.Verdicts`)."""

    def is_correct(self, sequence: Generated) -> bool:
        """By the labels."""

    def classes(self, sequences: Sequence[Generated]) -> list[int | None]:
        """One class of equivalent answers per sequence; None without an answer."""


@dataclass(frozen=True)
class StopContext:
    """The parts from which the rule of one prompt is built.

    Attributes:
        share: the number behind the name, or the default of the rule.
        verifier: replaces the labels, if given.
    """

    share: float
    sample: Sample
    judgements: Judgements
    verifier: TextVerifier | None


@dataclass(frozen=True)
class StopRule:
    """One rule of `--stop`.

    Attributes:
        help: when the rule ends a search.
        build: the rule for one prompt.
        obstacle: why the rule cannot judge sequences of a task, given whether there is a
            `--verifier`; None if it can.
        has_share: whether the name may be followed by a share, as in `unexplored:0.1`.
    """

    help: str
    build: Callable[[StopContext], Stop]
    obstacle: Callable[[Task, bool], str | None] = lambda task, has_verifier: None
    has_share: bool = False


def _consensus(context: StopContext) -> Stop:
    return Consensus(context.judgements.classes)


def _unexplored(context: StopContext) -> Stop:
    return Unexplored(context.share)


def _solved(context: StopContext) -> Stop:
    sample, verifier = context.sample, context.verifier
    if verifier is None:
        return Solved(context.judgements.is_correct)
    return Solved(lambda sequence: verifier(sample, sequence.text))


def _no_votes(task: Task, has_verifier: bool) -> str | None:
    return None if task.can_vote else f"the answers of {task.name} cannot agree"


def _no_labels(task: Task, has_verifier: bool) -> str | None:
    if task.has_labels or has_verifier:
        return None
    return f"{task.name} has no labels, give a --verifier"


STOPS = {
    CONSENSUS: StopRule("the majority answer will stay the majority", _consensus, _no_votes),
    UNEXPLORED: StopRule(
        f"less than a share of the probability is untried; {UNEXPLORED}:0.1 sets the share, "
        f"{DEFAULT_SHARE:g} by default",
        _unexplored,
        has_share=True,
    ),
    VERIFIER: StopRule("a sequence is correct by --verifier or the labels", _solved, _no_labels),
}
"""By name."""


@dataclass(frozen=True)
class StopOption:
    """A rule of a command line.

    Attributes:
        name: one of `STOPS`.
        share: of a rule that has one.
    """

    name: str
    share: float = DEFAULT_SHARE

    def __str__(self) -> str:
        return f"{self.name}:{self.share:g}" if STOPS[self.name].has_share else self.name

    def rule(self, sample: Sample, judgements: Judgements, verifier: TextVerifier | None) -> Stop:
        """The rule for one prompt."""
        return STOPS[self.name].build(StopContext(self.share, sample, judgements, verifier))


def read_stop(text: str, task: Task, *, has_verifier: bool) -> StopOption | None:
    """The rule that `--stop` names; None for "none".

    Raises:
        ValueError: there is no such rule, or it has nothing to judge sequences of the task by.
    """
    name, colon, number = text.partition(":")
    if text == NO_STOP:
        return None
    if name not in STOPS or (colon and not STOPS[name].has_share):
        raise ValueError(f"--stop is {text!r}; choose from {', '.join((NO_STOP, *STOPS))}")
    if obstacle := STOPS[name].obstacle(task, has_verifier):
        raise ValueError(f"--stop is {text}; {obstacle}")
    return StopOption(name, _share(name, number)) if colon else StopOption(name)


def _share(name: str, text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise ValueError(f"--stop is {name}:{text}; the share must be a number in (0, 1)")
    return share
