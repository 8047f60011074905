"""Votes: samples until their answers have decided."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable
from collections.abc import Sequence as Items
from dataclasses import dataclass, replace
from functools import partial

from eager_sgl.callbacks import PlugIn
from eager_sgl.core import PromptResult, Sequence, TokenCounts, VoteOutcome
from eager_sgl.methods.protocol import ReadSequences
from eager_sgl.methods.sampling import SamplingSearch, trie_policy, with_inexact_steps
from eager_sgl.plugin.vocabulary import Column, Gate
from eager_sgl.schedule import Leaf
from eager_sgl.search.frontier import StepRecorder
from eager_sgl.search.probing import Probes, Probing, without_lost_parents
from eager_sgl.search.rounds import SearchSchedule
from eager_sgl.search.vote import VoteSchedule
from eager_sgl.tree import Segment, TokenTree
from eager_sgl.voting.cutting import Cutting
from eager_sgl.voting.deciding import (
    AHEAD,
    BetaRule,
    ConsensusShare,
    VoteRule,
    WeightedRule,
    require_ahead,
)
from eager_sgl.voting.outweighing import find_outweighed, require_outweighing
from eager_sgl.voting.votes import Classes, cast_votes, checked_classes, vote_outcome
from eager_sgl.voting.weighing import Weigh, checked_weigh, weights_of

__all__ = ["Vote"]


@dataclass(frozen=True)
class Vote(SamplingSearch):
    """One answer: samples until the vote on their answers is decided.

    The requests of samples that ran ahead are then aborted; they are no part of the result. With a
    bidder, every wave of samples but the first has to be granted; a refusal ends the vote.

    Attributes:
        answers: finished sequences -> one answer, or class of equal ones, for each; None without.
        rule: decides the vote; M samples end it too. None is `BetaRule`, and `ConsensusShare` for a
            vote of weights.
        weigh: finished sequences -> the weights of their votes (`eager_sgl.voting.weighing`); None
            counts every vote as 1. Then the rule takes the weights too.
        shares: whether samples share their prefixes, as those of `TrieParallel`. Without, no step
            is observed for it, and no probability of a sequence is known but by `columns`.
        ahead: how far samples run ahead of the decision, which saves time, and costs the tokens of
            those that are left. With 0 as many run as can decide the vote, and none is left under a
            rule of counts; with 1 as many as decide it if the answers keep their shares of the
            votes so far; with another number that many times as many, the first ones included.
        cutting: when the server ends samples in which the model is unsure, which do not vote then;
            None for never.
        outweighed: share of the strongest vote. A running sample whose vote by probability would
            weigh less ends, and weighs nothing; 0 for never. Where it ends depends on when its
            tokens arrive, whether it does not, so that the votes are the same. It is of
            `weigh=by_probability` and a rule that decides by weights, without cutting and probing.
        columns: the values of every token that the server's plugin reports, for `weigh`. Cutting
            has the confidences reported.
        probing: asks running samples for their answers, and ends those whose answers are stable;
            None for no probes. The votes are then of independent samples of what the model says
            when it is asked, which need not be what it would have concluded: a rule's confidence is
            in the first. When a sample ends depends on when its tokens arrive, so that a seed
            repeats its draws, but not always its end.
        on_count: called with the finished sequences whose votes have been counted, after every
            vote; None for no such call.

    Raises:
        ValueError: `answers`, `weigh` or `on_count` does not take sequences, `rule` does not take
            votes, the cutting needs more samples than there are, or the gate, or samples are to be
            outweighed where they cannot be.
    """

    answers: Classes
    rule: VoteRule | WeightedRule | None = None
    weigh: Weigh | None = None
    shares: bool = True
    ahead: float = AHEAD
    cutting: Cutting | None = None
    outweighed: float = 0.0
    columns: tuple[Column, ...] = ()
    probing: Probing | None = None
    on_count: Callable[[Items[Sequence]], None] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        checked_classes(self.answers)
        require_ahead("ahead", self.ahead)
        if self.on_count is not None:
            PlugIn("on_count", self.on_count, ("sequences",))
        self._checked_rule()
        if self.weigh is not None:
            checked_weigh(self.weigh)
        if self.cutting is not None:
            self.cutting.require_room(self.max_sequences)
        ends_otherwise = self.cutting is not None or self.probing is not None
        require_outweighing(self.outweighed, self.weigh, self.rule, ends_otherwise=ends_otherwise)
        if self._columns and self.config.monitor == "chunk":
            raise ValueError(f"monitor is chunk, but the gate alone reports {self._columns[0]}")

    @property
    def _columns(self) -> tuple[Column, ...]:
        extra: tuple[Column, ...] = ("confidences",) if self.cutting is not None else ()
        return tuple(dict.fromkeys((*self.columns, *extra)))

    def _checked_rule(self) -> VoteRule | WeightedRule:
        default = BetaRule() if self.weigh is None else ConsensusShare()
        rule: VoteRule | WeightedRule = self.rule or default
        PlugIn("rule", rule, ("votes",) if self.weigh is None else ("votes", "weights"))
        return rule

    @property
    def probe_text(self) -> str | None:
        return None if self.probing is None else self.probing.text

    @property
    def top_k(self) -> int:
        return self.config.top_k if self.shares or self._columns else 0

    @property
    def requires_gate(self) -> bool:
        return super().requires_gate or bool(self._columns)

    def policy(self) -> StepRecorder | None:
        return trie_policy(self.sampling) if self.shares else None

    def gate(self, top_k: int) -> Gate | None:
        gate = super().gate(top_k)
        if not self._columns:
            return gate
        gate = gate or Gate(top_k=top_k)
        window = gate.window if self.cutting is None else self.cutting.window
        columns = tuple(dict.fromkeys((*gate.columns, *self._columns)))
        return replace(gate, columns=columns, window=window)

    def _rounds(self, tree: TokenTree, read: ReadSequences) -> Callable[..., SearchSchedule]:
        classes = checked_classes(self.answers).classes
        weigh = None if self.weigh is None else checked_weigh(self.weigh)
        count = self.on_count

        def answers(leaves: Items[Leaf]) -> Items[Hashable | None]:
            return classes(read(leaves))

        return partial(
            VoteSchedule,
            rng=self._rng(tree),
            rule=self._checked_rule(),
            answers=answers,
            weigh=None if weigh is None else lambda leaves: weigh(read(leaves)),
            shares=self.shares,
            ahead=self.ahead,
            cutting=self.cutting,
            outweighed=self.outweighed,
            probes=None if self.probing is None else Probes(tree, self.probing, answers),
            on_count=None if count is None else lambda leaves: count(read(leaves)),
        )

    def annotate(self, result: PromptResult, tree: TokenTree) -> PromptResult:
        result = with_inexact_steps(result, tree, self.sampling)
        if self.probing is not None:
            result = replace(result, sequences=without_lost_parents(result.sequences))
        if result.stopped in ("error", "cancelled"):
            return result
        outcome = replace(
            self._outcome(result.sequences),
            num_probes=len(tree.probes),
            num_probe_tokens=_num_decoded(tree.probes),
            num_left_tokens=_num_left(tree, result.counts),
        )
        return replace(result, vote=outcome)

    def _outcome(self, sequences: tuple[Sequence, ...]) -> VoteOutcome:
        answers = checked_classes(self.answers).classes(sequences)
        cut = self._are_cut(sequences, answers)
        if self.outweighed:  # one may have run to its end, or not
            answers = [None if out else given for given, out in zip(answers, cut, strict=True)]
        weights = None
        if self.weigh is not None:
            votes = cast_votes(sequences, answers, cut)
            weights = weights_of(sequences, votes, checked_weigh(self.weigh))
        return vote_outcome(sequences, answers, weights, cut)

    def _are_cut(self, sequences: Items[Sequence], answers: Items[Hashable | None]) -> list[bool]:
        """Whether sequences do not vote, because they are cut or outweighed."""
        if self.cutting is not None:
            return self.cutting.cut(sequences)
        votes = cast_votes(sequences, answers, [False] * len(sequences))
        logprobs = [math.nan if s.raw_logprob is None else s.raw_logprob for s in sequences]
        return find_outweighed(logprobs, votes, self.outweighed)[0]


def _num_decoded(segments: Iterable[Segment]) -> int:
    return sum(len(segment.token_ids) - segment.num_forced for segment in segments)


def _num_left(tree: TokenTree, counts: TokenCounts) -> int:
    """Tokens of samples that no counted sequence holds: of those that were left, and those beyond
    the probe that ended a counted one. Probes that ended samples that were left are among them.
    """
    ends = [probe for probe in tree.probes if probe.finish_reason == "probed"]
    return _num_decoded(tree.segments) + _num_decoded(ends) - (counts.unique - counts.forced)
