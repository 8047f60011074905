"""`TokenTree`: the structure of a prompt's tree, and what it costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from eager_sgl.core import BranchPoint, Generation, TokenCounts
from eager_sgl.policy import Policy
from eager_sgl.seeds import derived_seed, fresh_seed
from eager_sgl.tree.segment import Draw, Probe, Segment
from eager_sgl.tree.writer import SegmentWriter

__all__ = ["TokenTree"]


class TokenTree:
    """All segments of a prompt and their cost.

    Args:
        prompt_ids: the prompt's tokens.
        max_new_tokens: length limit of a path in tokens.
        policy: reads the distributions of steps; None where there are none.
        reasoning_end: the tokens that close the reasoning; empty if nothing does.
        is_stop: whether a token ends a sequence.
        probe_ids: the tokens of a probe's text; empty without probes.
        probe_end: the tokens after which nothing is probed; empty for no such tokens.
        seed: of all draws on the server, together with the prompt; None for one that is not
            repeated.

    Attributes:
        segments: all of them, in the order of opening.
        num_roots: segments that start at the end of the prompt.
        probes: those that were made, in their order.
        spent: the cost of the requests so far; `counts` adds the tokens of sequences.
        has_sampling_logprobs: whether the logprobs of tokens and alternatives are of the whole
            distribution at the sampling temperature.
    """

    def __init__(
        self,
        prompt_ids: Sequence[int],
        *,
        max_new_tokens: int,
        policy: Policy | None = None,
        reasoning_end: Sequence[int] = (),
        is_stop: Callable[[int], bool] = lambda token_id: False,
        seed: int | None = None,
        probe_ids: Sequence[int] = (),
        probe_end: Sequence[int] = (),
    ) -> None:
        self.prompt_ids = tuple(prompt_ids)
        self._seed = derived_seed(fresh_seed() if seed is None else seed, *self.prompt_ids)
        self.num_roots = 0
        self.segments: list[Segment] = []
        self.probes: list[Segment] = []
        self.probe_end = tuple(probe_end)
        self._probe_ids = tuple(probe_ids)
        self._max_new_tokens = max_new_tokens
        self._writer = SegmentWriter(max_new_tokens, policy, reasoning_end, is_stop)
        self._opened: dict[tuple[int, int, int], Segment] = {}
        self._num_draws: Counter[tuple[int, int]] = Counter()
        self.spent = TokenCounts()
        self.has_sampling_logprobs = False

    def open_root(self) -> Segment:
        """A new segment at the end of the prompt."""
        seed = derived_seed(self._seed, self.num_roots)
        self.num_roots += 1
        return self._add(Segment(len(self.segments), seed))

    def branch(self, segment: Segment, point: BranchPoint, choice: int) -> Segment:
        """The segment that holds token 0 or 1 of a branch point of `segment`.

        It is `segment` if that token was sampled there; else a new segment, opened once.
        """
        token_id = point.token_ids[choice]
        if token_id == point.sampled:
            return segment
        key = (segment.index, point.position, token_id)
        if key not in self._opened:
            self._opened[key] = self._open(segment, point, choice)
        return self._opened[key]

    def draw(self, parent: Segment, position: int, draw: Draw) -> Segment:
        """A segment that leaves `parent` with a token of the server's, for `accept`."""
        number = self._num_draws[parent.index, position]
        self._num_draws[parent.index, position] += 1
        seed = derived_seed(parent.seed, position, -1, number)
        return Segment(-1, seed, parent, position, draw=draw)

    @property
    def has_draws(self) -> bool:
        """Whether the server was asked for tokens that the tree may not have known."""
        return bool(self._num_draws)

    def accept(self, segment: Segment, point: BranchPoint) -> None:
        """Add a segment whose first token was drawn, token 1 of `point`."""
        assert segment.draw is not None, "nothing was drawn"
        assert segment.token_ids.tolist() == [point.token_ids[1]], f"{segment.token_ids} were drawn"
        segment.index = len(self.segments)
        self._add(segment)
        self._writer.correct_draw(segment, point)

    def has_room_for_probe(self, position: int) -> bool:
        """Whether a probe at a position can have a token before the length limit."""
        return position + len(self._probe_ids) < self._max_new_tokens

    def probe(self, parent: Segment, position: int, max_tokens: int) -> Segment:
        """A probe that leaves `parent`: forced tokens, and up to `max_tokens` of the server's."""
        number = len(self._probe_ids)
        seed = derived_seed(parent.seed, position, -2)
        probe = Probe(number, position + number + max_tokens)
        segment = Segment(-1, seed, parent, position, probe=probe)
        self._writer.append_given(segment, self._probe_ids)
        self.probes.append(segment)
        return segment

    def end_probed(self, probe: Segment) -> None:
        """Let a probe that has finished end sequences; its stop token is discarded."""
        if probe.finish_reason == "stop":
            probe.token_ids.pop()
            for column in (probe.logprobs, probe.entropies, probe.raw_logprobs):
                column.pop()
        probe.finish_reason = "probed"

    def branch_given(self, token_ids: Sequence[int], point: BranchPoint, choice: int) -> Segment:
        """A segment that leaves a sequence of another tree, which has counted the shared tokens.

        Args:
            token_ids: the sequence's tokens before `point`.

        Raises:
            ValueError: the branch lies beyond the length limit.
        """
        if point.position >= self._max_new_tokens:
            raise ValueError(
                f"a deferred branch is at position {point.position}, and sequences have at most "
                f"{self._max_new_tokens} tokens (max_new_tokens, and what the context leaves); "
                "allow more, or take none so late"
            )
        seed = derived_seed(self._seed, -1, *token_ids)
        given = self._add(Segment(len(self.segments), seed, is_given=True))
        self._writer.append_given(given, token_ids)
        return self._open(given, point, choice)

    def _open(self, parent: Segment, point: BranchPoint, choice: int) -> Segment:
        token_id = point.token_ids[choice]
        seed = derived_seed(parent.seed, point.position, token_id)
        segment = self._add(Segment(len(self.segments), seed, parent, point.position))
        self._writer.append_choice(segment, point, choice)
        return segment

    def _add(self, segment: Segment) -> Segment:
        self.segments.append(segment)
        return segment

    def remaining(self, segment: Segment) -> int:
        """Number of tokens up to the length limit, or to that of a probe."""
        return self._writer.remaining(segment)

    def record(self, generation: Generation) -> None:
        """Count a request."""
        self.spent += TokenCounts(
            generated=generation.num_decoded,
            prompt=generation.prompt_tokens,
            cached=generation.cached_tokens,
            requests=1,
        )

    def append(
        self, segment: Segment, generation: Generation, num_asked: int, start: int | None = None
    ) -> None:
        """Append the tokens of a request for `num_asked` tokens; count it if it has ended.

        The policy reads the distributions of the steps up to the end of the reasoning. A server
        that returns fewer tokens without a stop token has no room for more, so that the segment
        has reached its length.

        Args:
            start: position at which the request started, where the segment holds a part of its
                tokens already; None for the segment's end.
        """
        assert segment.finish_reason is None, f"segment {segment.index} has ended"
        start = segment.end if start is None else start
        self._writer.append(segment, generation, num_asked, start)
        if generation.is_over:
            self.record(generation)

    def counts(self, leaves: Iterable[Segment]) -> TokenCounts:
        """The cost of the tree, if the sequences are the paths to the ends of these segments."""
        kept: dict[Segment, int] = {}
        naive = 0
        for leaf in leaves:
            naive += leaf.end
            for segment, end in leaf.lineage():
                kept[segment] = max(kept.get(segment, 0), end)
        return self.spent + TokenCounts(
            unique=sum(
                end - segment.start for segment, end in kept.items() if not segment.is_given
            ),
            naive=naive,
            forced=sum(segment.num_forced for segment in kept),
        )
