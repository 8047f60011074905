"""Probes: short forced continuations that ask a running sequence for its answer so far.

At every `interval` tokens of a path a request continues it with a text that asks for the answer,
and the server decodes a few tokens more. A sequence whose last probes agree ends with the answer of
the latest (Dynasor: Fu et al. 2024, arXiv 2412.20993).

Probes are greedy, so that they depend on the prefix alone. Samples with the same prefix share them,
and stay independent samples, of the model with its probes. Where a sample ends depends on when its
tokens arrive, since the probes of a reasoning that has closed meanwhile end nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from collections.abc import Sequence as Items
from dataclasses import dataclass, field, replace

from eager_sgl.config import require, require_whole
from eager_sgl.core import Sequence
from eager_sgl.reasoning import reasoning_ends_at
from eager_sgl.schedule import Decision, Leaf
from eager_sgl.search.sampling import TrieSample
from eager_sgl.tree import Segment, TokenTree

__all__ = ["Probes", "Probing", "without_lost_parents"]

Point = tuple[Segment, int]
"""A position of a path, and the segment that holds the token before it."""


@dataclass(frozen=True, kw_only=True)
class Probing:
    r"""When running sequences are asked for their answer, and when they end with it.

    Attributes:
        text: asks for the answer, such as `</think>\n\boxed{`; it is forced.
        interval: tokens of a sequence between two probes.
        stable: number of probes in a row whose equal answers end a sequence.
        max_answer_tokens: maximum after the text; a longer answer is read cut off.
    """

    text: str
    interval: int = 64
    stable: int = 3
    max_answer_tokens: int = 24

    def __post_init__(self) -> None:
        require(bool(self.text), "text", repr(self.text), "a text that asks for the answer")
        require_whole("interval", self.interval, 1)
        require_whole("stable", self.stable, 1)
        require_whole("max_answer_tokens", self.max_answer_tokens, 1)


@dataclass(eq=False)
class Probes:
    """The probes of a tree.

    A point is probed while a sequence that passes it runs, and its reasoning is open. Of a path
    that has grown by several intervals only the last `stable` points are probed.

    Attributes:
        tree: has the tokens of a probe, and those after which nothing is probed.
        probing: the limits.
        answers: finished sequences -> their answers, None without any.
    """

    tree: TokenTree
    probing: Probing
    answers: Callable[[Items[Leaf]], Items[Hashable | None]]
    _leaves: dict[Point, Leaf] = field(default_factory=dict, init=False)
    _agreeing: dict[Point, bool] = field(default_factory=dict, init=False)
    _closed: set[Segment] = field(default_factory=set, init=False)
    _num_read: dict[Segment, int] = field(default_factory=dict, init=False)

    def add_to(self, decision: Decision) -> Decision:
        """With the probes of the segments that continue, whose tokens are awaited for the next."""
        reasoning = [segment for segment in decision.free if self._is_open(segment)]
        probes = (probe for segment in reasoning for probe in self._unanswered(segment))
        awaited = decision.awaited.union(reasoning)
        return replace(decision, awaited=awaited, probes=tuple(dict.fromkeys(probes)))

    def end(self, samples: Items[TrieSample]) -> None:
        """End the running and waiting samples whose paths pass a point at which probes agree."""
        for sample in samples:
            if sample.leaf is not None and sample.leaf.segment.finish_reason is not None:
                continue
            path = _path(sample)
            leaf = self._agreed(path)
            if leaf is not None and self._is_open(path[-1][0]):
                self.tree.end_probed(leaf.segment)
                sample.end(leaf.segment)

    def _is_open(self, segment: Segment) -> bool:
        """Whether the reasoning on the path of a segment is open; its new tokens are read."""
        if segment in self._closed:
            return False
        num_new = segment.end - self._num_read.get(segment, 0)
        self._num_read[segment] = segment.end
        marker = self.tree.probe_end
        if reasoning_ends_at(segment.last_tokens(num_new + len(marker)), marker) is not None:
            self._closed.add(segment)
        return segment not in self._closed

    def _points(self, path: Items[Point]) -> list[Point]:
        """The points of a path, given by its segments and their exits, at which it is probed."""
        interval = self.probing.interval
        return [
            (segment, position)
            for segment, end in path
            for position in range((segment.start // interval + 1) * interval, end + 1, interval)
        ]

    def _unanswered(self, segment: Segment) -> list[Segment]:
        """The unfinished probes on the path of a running segment, new ones among them."""
        points = self._points(segment.lineage())
        for point in points[-self.probing.stable :]:
            if point not in self._leaves and self.tree.has_room_for_probe(point[1]):
                self._leaves[point] = Leaf(
                    -1, self.tree.probe(*point, self.probing.max_answer_tokens)
                )
        probes = [self._leaves[point].segment for point in points if point in self._leaves]
        return [probe for probe in probes if probe.finish_reason is None]

    def _agreed(self, path: Items[Point]) -> Leaf | None:
        """The first probe on a path that agrees with those before it; None without any."""
        points, stable = self._points(path), self.probing.stable
        for end in range(stable, len(points) + 1):
            if self._agree(points[end - stable : end]):
                return self._leaves[points[end - 1]]
        return None

    def _agree(self, points: Items[Point]) -> bool:
        """Whether the probes at successive points of a path have the same answer."""
        if points[-1] not in self._agreeing:
            leaves = [self._leaves[point] for point in points if point in self._leaves]
            answered = [leaf for leaf in leaves if leaf.segment.finish_reason is not None]
            if len(answered) < len(points):
                return False  # so far
            answers = self.answers(answered)
            agree = answers[0] is not None and len(set(answers)) == 1
            self._agreeing[points[-1]] = agree
        return self._agreeing[points[-1]]


def _path(sample: TrieSample) -> list[Point]:
    """The segments that a sample passes, and the positions where it leaves them."""
    if sample.leaf is not None:
        return sample.leaf.segment.lineage()
    path = sample.segment.lineage()
    return path if sample.drawn is None else [*path[:-1], (sample.segment, sample.position)]


def without_lost_parents(sequences: Items[Sequence]) -> tuple[Sequence, ...]:
    """The sequences, without a parent where that has ended before the branch point."""
    return tuple(
        replace(sequence, parent=None, branch=None) if _has_lost(sequences, sequence) else sequence
        for sequence in sequences
    )


def _has_lost(sequences: Items[Sequence], sequence: Sequence) -> bool:
    if sequence.parent is None or sequence.branch is None:
        return False
    position = sequence.branch.position
    return sequences[sequence.parent].token_ids[:position] != sequence.token_ids[:position]
