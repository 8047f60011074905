"""What ends a search of `evals/run.py` early: `--stop`."""

from __future__ import annotations

from dataclasses import dataclass

from eager_sgl import Verifier
from eager_sgl.search.stopping import Consensus, Solved, Stop, Unexplored
from evals.analysis.judged import Verdicts
from evals.config.options import TextVerifier
from evals.tasks import Sample, Task

__all__ = ["CONSENSUS", "STOPS", "UNEXPLORED", "VERIFIER", "StopOption", "read_stop"]

CONSENSUS, UNEXPLORED, VERIFIER = "consensus", "unexplored", "verifier"
STOPS = ("none", CONSENSUS, UNEXPLORED, VERIFIER)
HALF = 0.5
"""Of the probability; smaller shares are seldom reached: hard prompts go on having alternatives."""


@dataclass(frozen=True)
class StopOption:
    """A rule of a command line.

    Attributes:
        name: one of `STOPS`, not the first.
        below: of "unexplored".
    """

    name: str
    below: float = HALF

    def __str__(self) -> str:
        return f"{self.name}:{self.below:g}" if self.name == UNEXPLORED else self.name

    def rule(self, sample: Sample, verdicts: Verdicts, verifier: TextVerifier | None) -> Stop:
        """The rule for one prompt.

        Args:
            verifier: in the place of the labels.
        """
        if self.name == CONSENSUS:
            return Consensus(verdicts.classes)
        if self.name == UNEXPLORED:
            return Unexplored(self.below)
        return Solved(verdicts.is_correct if verifier is None else _on_text(verifier, sample))


def _on_text(verifier: TextVerifier, sample: Sample) -> Verifier:
    return lambda sequence: verifier(sample, sequence.text)


def read_stop(text: str, task: Task, *, has_verifier: bool) -> StopOption | None:
    """What `--stop` says; None for none.

    Raises:
        ValueError: there is no such rule, or the task has nothing that it could go by.
    """
    name, colon, number = text.partition(":")
    if name not in STOPS or (colon and name != UNEXPLORED):
        raise ValueError(f"stop is {text!r}; it must be one of {', '.join(STOPS)}")
    if name == CONSENSUS and not task.can_vote:
        raise ValueError(f"stop is {text}; the answers of {task.name} cannot agree")
    if name == VERIFIER and not (task.has_labels or has_verifier):
        raise ValueError(f"stop is {text}; {task.name} has no labels, give a --verifier")
    if name == "none":
        return None
    return StopOption(name, _share(number)) if colon else StopOption(name)


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise ValueError(f"stop is unexplored:{text}; the share must be a number in (0, 1)")
    return share
