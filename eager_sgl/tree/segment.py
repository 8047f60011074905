"""Segments: the runs of tokens that a tree consists of."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from eager_sgl.core import BranchPoint, FinishReason
from eager_sgl.steps import Steps

__all__ = ["Draw", "Probe", "Segment"]

Value = TypeVar("Value")


@dataclass(frozen=True)
class Draw:
    """A draw of the server, of the first token of a segment that leaves another.

    Attributes:
        excluded: the tokens that are not drawn; none where the whole distribution is drawn from.
        mass: their probability at the sampling temperature.
    """

    excluded: tuple[int, ...] = ()
    mass: float = 0.0

    def unbiased(self, logprob: float) -> float:
        """The logprob of the drawn token in the whole distribution, from that without the excluded.

        The rounding of the mass, about 1e-6, is its error in a probability.
        """
        return logprob + math.log1p(-self.mass)


@dataclass(frozen=True)
class Probe:
    """A short continuation whose first tokens are forced.

    Attributes:
        num_forced: number of those tokens.
        end: position at which it ends, at the latest.
    """

    num_forced: int
    end: int


def _no_tokens() -> array[int]:
    return array("i")


@dataclass(eq=False)
class Segment:
    """A run of tokens sampled one after another, from a position of the tree on.

    Attributes:
        index: in `TokenTree.segments`; −1 until the tree has accepted its drawn token.
        seed: of its draws on the server, for all of its requests; in [0, 2^63).
        parent: the segment it left; None at the prompt.
        start: position of its first token.
        token_ids: its tokens; the first of a segment with a parent is forced, or drawn.
        logprobs: of its tokens, as the server returned them; NaN where not requested.
        entropies: of its steps, in nats; NaN where a step was not monitored.
        branch_points: the monitored steps at which it may branch, by rising position.
        stored: the steps that a policy stored with their alternatives, in parts, one per request.
        raw_logprobs: of its tokens at temperature 1; NaN under a policy without them.
        confidences: of its first steps, as `Generation.confidences`; NaN where not known, as are
            those of the steps after them.
        open_until: position at which the reasoning closed on its path; None while it is open.
        finish_reason: how it ended; None while it can continue.
        is_given: whether its tokens were generated, and counted, by another tree.
        draw: how its first token is drawn; None where that is forced, or follows the prompt.
        floor: in nats, of the running confidence of its path, below which the gate ends it; None
            for no such floor.
        probe: of a segment that is a probe, outside `TokenTree.segments`; else None.
    """

    index: int
    seed: int
    parent: Segment | None = None
    start: int = 0
    token_ids: array[int] = field(default_factory=_no_tokens)
    logprobs: list[float] = field(default_factory=list)
    entropies: list[float] = field(default_factory=list)
    branch_points: list[BranchPoint] = field(default_factory=list)
    stored: list[Steps] = field(default_factory=list)
    raw_logprobs: list[float] = field(default_factory=list)
    confidences: array[float] = field(default_factory=lambda: array("f"))
    open_until: int | None = None
    finish_reason: FinishReason | None = None
    is_given: bool = False
    draw: Draw | None = None
    floor: float | None = None
    probe: Probe | None = None

    @property
    def num_forced(self) -> int:
        """Number of its first tokens that were set."""
        if self.probe is not None:
            return self.probe.num_forced
        return int(self.parent is not None and self.draw is None)

    @property
    def awaits_draw(self) -> bool:
        """Whether its first token is still to be drawn."""
        return self.draw is not None and not self.token_ids

    @property
    def end(self) -> int:
        """Position of the next token."""
        return self.start + len(self.token_ids)

    @property
    def reasoning_closed(self) -> bool:
        """Whether the reasoning has closed on its path."""
        return self.open_until is not None

    @property
    def steps(self) -> Steps | None:
        """All stored steps; None without any."""
        if len(self.stored) > 1:
            self.stored = [Steps.join(self.stored)]
        return self.stored[0] if self.stored else None

    def lineage(self) -> list[tuple[Segment, int]]:
        """The segments from the prompt to this one, each with the position where the path exits."""
        pieces = [(self, self.end)]
        while (parent := pieces[-1][0].parent) is not None:
            pieces.append((parent, pieces[-1][0].start))
        return pieces[::-1]

    def path(self) -> list[int]:
        """All tokens from the prompt (not included) to the end of this segment."""
        return self._along(lambda segment: segment.token_ids)

    def last_tokens(self, number: int) -> list[int]:
        """The last tokens of `path()`, at most `number`."""
        if len(self.token_ids) >= number:
            return self.token_ids[len(self.token_ids) - number :].tolist()
        return self.path()[-number:]

    def path_raw_logprobs(self) -> list[float]:
        """The raw logprobs of `path()`."""
        return self._along(lambda segment: segment.raw_logprobs)

    def path_logprobs(self) -> list[float]:
        """The logprobs of `path()`."""
        return self._along(lambda segment: segment.logprobs)

    def path_entropies(self) -> list[float]:
        """The entropies of `path()`, in nats."""
        return self._along(lambda segment: segment.entropies)

    def path_confidences(self) -> list[float]:
        """The confidences of `path()`; empty where none is known."""
        if not any(segment.confidences for segment, _ in self.lineage()):
            return []
        return self._along(Segment.padded_confidences)

    def padded_confidences(self) -> array[float]:
        """The confidences of all its steps."""
        unknown = len(self.token_ids) - len(self.confidences)
        return self.confidences + array("f", [math.nan]) * unknown

    def confidence_of_branch(self) -> array[float]:
        """The confidence of its first step, which is a step of the parent too; empty if unknown."""
        assert self.parent is not None, "a root has no branch"
        index = self.start - self.parent.start
        return self.parent.confidences[index : index + 1]

    def _along(self, column: Callable[[Segment], Sequence[Value]]) -> list[Value]:
        values: list[Value] = []
        for segment, end in self.lineage():
            values += column(segment)[: end - segment.start]
        return values
