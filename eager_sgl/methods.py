"""The methods, one class each: how a prompt is sampled and observed, and what decides on its tree.

The executor and the programs know the protocol `Method` alone. An object has no state of a prompt
and can run any number of prompts in any threads; with a stop rule that has state, or with a bidder,
it belongs to a single prompt.

The seed of a method, together with the prompt's tokens, is that of all draws: of the walks through
the tree, which are made here, and of the tokens where the server honours the seed of a request
(`eager_sgl.engine.seeds`). So the same prompt gives the same tree again. Without a seed nothing is
repeated.
"""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable
from collections.abc import Sequence as Items
from dataclasses import KW_ONLY, dataclass, replace
from functools import partial
from typing import ClassVar, Generic, Protocol, TypeVar

from eager_sgl.adaptive_schedule import AdaptiveSchedule
from eager_sgl.adaptive_threshold import AdaptiveThreshold
from eager_sgl.budget.bidding import Bidding
from eager_sgl.callbacks import PlugIn
from eager_sgl.config import (
    REASONING_END,
    TOP_K,
    EagerConfig,
    SamplingConfig,
    require_whole,
)
from eager_sgl.core import PromptResult, Sequence, VoteOutcome
from eager_sgl.plugin.vocabulary import Column, Gate
from eager_sgl.policy import EntropyThreshold, Policy
from eager_sgl.schedule import FixedSchedule, Leaf, OnlineSchedule, Schedule
from eager_sgl.search.best_first import BestFirstSchedule
from eager_sgl.search.frontier import CERTAIN, Priority, StepRecorder
from eager_sgl.search.priorities import QUICK, usable_priority
from eager_sgl.search.probing import Probes, Probing, without_lost_parents
from eager_sgl.search.rounds import Bid, IsEnough, SearchConfig, SearchSchedule
from eager_sgl.search.sampling import TrieParallelSchedule, WithoutReplacementSchedule
from eager_sgl.search.stopping import Stop
from eager_sgl.search.trie import num_inexact_steps
from eager_sgl.search.vote import VoteSchedule
from eager_sgl.tree import TokenTree
from eager_sgl.voting.cutting import Cutting
from eager_sgl.voting.deciding import (
    AHEAD,
    BetaRule,
    ConsensusShare,
    VoteRule,
    WeightedRule,
    require_ahead,
)
from eager_sgl.voting.votes import Classes, cast_votes, checked_classes, vote_outcome
from eager_sgl.voting.weighing import Weigh, checked_weigh, weights_of

__all__ = [
    "BestFirst",
    "EagerInit",
    "FullParallel",
    "Method",
    "ReadSequences",
    "Search",
    "TrieParallel",
    "Vote",
    "WithoutReplacement",
]

Config = TypeVar("Config", EagerConfig, SearchConfig)

MAX_VALUED_IN_LOOP = 2**14
"""Tokens of a tree whose candidates are valued in the loop of the requests: a few milliseconds at
most. A thread would take as long, and the loop would wait for it whenever it has work itself."""

ReadSequences = Callable[[Iterable[Leaf]], Items[Sequence]]
"""Finished leaves -> their sequences, with texts."""


def _require_seed(seed: int | None) -> None:
    if seed is not None:
        require_whole("seed", seed, 0)


class Method(Protocol):
    """A way to generate sequences from a prompt.

    A step is *observed* if its K most likely tokens are requested, of all steps or by a gate, and
    *monitored* if its sequence may branch there as soon as it is reported. Searches observe steps,
    and open branches at stored ones, of running sequences too.
    """

    @property
    def sampling(self) -> SamplingConfig:
        """How tokens are drawn where nothing branches."""

    @property
    def max_sequences(self) -> int:
        """M, the maximum number of sequences of a prompt."""

    @property
    def reasoning_end(self) -> str | None:
        """The text that closes the reasoning, for `Sequence.final_text`; None if nothing does."""

    @property
    def seed(self) -> int | None:
        """The seed of all draws, together with the prompt's tokens; None repeats nothing."""

    @property
    def top_k(self) -> int:
        """K, the number of alternatives requested of an observed step; 0 if none is observed."""

    @property
    def observed_until(self) -> str | None:
        """The text after which steps are not observed; None for no such text."""

    @property
    def probe_text(self) -> str | None:
        """The text that asks running sequences for their answers; None for no probes."""

    @property
    def monitoring(self) -> EagerConfig | None:
        """How sequences are monitored for branches while they run; None if they are not."""

    @property
    def requires_gate(self) -> bool:
        """Whether its steps may be observed by the server's gate alone."""

    def gate(self, top_k: int) -> Gate | None:
        """What the gate is to report; None if no step is observed, or by chunks alone.

        Args:
            top_k: K, at most the size of the vocabulary.

        Raises:
            ValueError: the gate has no such numbers.
        """

    @property
    def decides_in_thread(self) -> bool:
        """Whether its schedule runs functions of the user's, or numbers for long."""

    @property
    def bidder(self) -> Bidding | None:
        """What its rounds have to be granted by; None where none has to be."""

    def policy(self) -> Policy | None:
        """The reader of observed steps; None without observed steps."""

    def schedule(self, tree: TokenTree, max_sequences: int, read: ReadSequences) -> Schedule:
        """Open the first segments of an empty tree; the schedule that decides on it.

        Args:
            max_sequences: M of this prompt, at most the method's.
            read: for rules that see finished sequences.
        """

    def annotate(self, result: PromptResult, tree: TokenTree) -> PromptResult:
        """The result with the fields that this method alone sets."""


@dataclass(frozen=True)
class FullParallel:
    """M independent sequences; only the prompt is shared.

    Attributes:
        sampling: how tokens are sampled.
        max_sequences: M.
        reasoning_end: the text that closes the reasoning, for `Sequence.final_text`.
        seed: of all draws; None repeats nothing.
        columns: the values of every token that the server's plugin reports, over 20 tokens, for
            the fields of `Sequence`.
    """

    sampling: SamplingConfig
    max_sequences: int
    reasoning_end: str | None = REASONING_END
    _: KW_ONLY
    seed: int | None = None
    columns: tuple[Column, ...] = ()

    observed_until: ClassVar[str | None] = None
    probe_text: ClassVar[str | None] = None
    monitoring: ClassVar[EagerConfig | None] = None
    decides_in_thread: ClassVar[bool] = False
    bidder: ClassVar[Bidding | None] = None

    def __post_init__(self) -> None:
        require_whole("max_sequences", self.max_sequences, 1)
        _require_seed(self.seed)

    @property
    def top_k(self) -> int:
        return TOP_K if self.columns else 0

    @property
    def requires_gate(self) -> bool:
        return bool(self.columns)

    def policy(self) -> None:
        return None

    def gate(self, top_k: int) -> Gate | None:
        return Gate(top_k=top_k, columns=self.columns) if self.columns else None

    def schedule(self, tree: TokenTree, max_sequences: int, read: ReadSequences) -> Schedule:
        return FixedSchedule(tuple(Leaf(index, tree.open_root()) for index in range(max_sequences)))

    def annotate(self, result: PromptResult, tree: TokenTree) -> PromptResult:
        return result


@dataclass(frozen=True)
class _Configured(Generic[Config]):
    """A method whose configuration has the sampling and the limits."""

    config: Config
    _: KW_ONLY
    seed: int | None = None

    def __post_init__(self) -> None:
        _require_seed(self.seed)

    @property
    def sampling(self) -> SamplingConfig:
        return self.config.sampling

    @property
    def max_sequences(self) -> int:
        return self.config.max_sequences

    @property
    def reasoning_end(self) -> str | None:
        return self.config.reasoning_end

    @property
    def observed_until(self) -> str | None:
        return self.config.reasoning_end

    @property
    def probe_text(self) -> str | None:
        return None

    @property
    def top_k(self) -> int:
        return self.config.top_k

    @property
    def requires_gate(self) -> bool:
        return self.config.monitor == "gate"


@dataclass(frozen=True)
class EagerInit(_Configured[EagerConfig]):
    """A sequence branches where the entropy of a step reaches θ (paper, section 3).

    Attributes:
        config: the hyper-parameters.
        adaptive_threshold: sets the θ of every prompt, `config.threshold` is then ignored, and
            counts the prompt's entropies, which the gate then reports of every step; one object for
            all prompts of a model.
        seed: of all draws; None repeats nothing.
    """

    adaptive_threshold: AdaptiveThreshold | None = None

    decides_in_thread: ClassVar[bool] = False
    bidder: ClassVar[Bidding | None] = None

    @property
    def monitoring(self) -> EagerConfig:
        if self.adaptive_threshold is None:
            return self.config
        return replace(self.config, threshold=self.adaptive_threshold.lowest)

    def policy(self) -> EntropyThreshold:
        return EntropyThreshold.from_config(self.monitoring)

    def gate(self, top_k: int) -> Gate | None:
        if self.config.monitor == "chunk":
            return None
        gate = self.policy().gate(top_k)
        return gate if self.adaptive_threshold is None else replace(gate, columns=("entropies",))

    def schedule(self, tree: TokenTree, max_sequences: int, read: ReadSequences) -> Schedule:
        tree.open_root()
        config = self.config
        online = OnlineSchedule(
            max_sequences,
            config.patience,
            config.threshold,
            keep_deferred=config.deferred_threshold is not None,
        )
        if self.adaptive_threshold is None:
            return online
        return AdaptiveSchedule(online, self.adaptive_threshold)

    def annotate(self, result: PromptResult, tree: TokenTree) -> PromptResult:
        return result


@dataclass(frozen=True)
class Search(_Configured[SearchConfig], ABC):
    """Sequences that leave the tree at untried tokens; subclasses choose the tokens.

    Attributes:
        config: limits and sampling.
        seed: of all draws; None repeats nothing.
        bidder: the prompt's part of tokens that several searches share, or a price per token. The
            program that runs the method leaves it at the end, and on errors.
    """

    _: KW_ONLY
    bidder: Bidding | None = None

    monitoring: ClassVar[EagerConfig | None] = None

    @property
    def decides_in_thread(self) -> bool:
        return True

    @abstractmethod
    def policy(self) -> StepRecorder | None: ...

    def gate(self, top_k: int) -> Gate | None:
        policy = self.policy()
        return None if policy is None or self.config.monitor == "chunk" else policy.gate(top_k)

    @abstractmethod
    def _rounds(self, tree: TokenTree, read: ReadSequences) -> Callable[..., SearchSchedule]:
        """The constructor of the schedule; its configuration is still to be given."""

    def schedule(self, tree: TokenTree, max_sequences: int, read: ReadSequences) -> Schedule:
        tree.open_root()
        return self._rounds(tree, read)(
            config=replace(self.config, max_sequences=max_sequences),
            stop=self._is_enough(read),
            bid=self._bid(read),
        )

    def _is_enough(self, read: ReadSequences) -> IsEnough | None:
        return None

    def _bid(self, read: ReadSequences) -> Bid | None:
        bidder = self.bidder
        if bidder is None:
            return None
        utility = PlugIn("utility", bidder.utility, ("tree", "sequences"))
        return lambda tree, leaves, expected: bidder.offer(
            tree.spent.generated, utility.number(tree, read(leaves)), expected
        )

    def annotate(self, result: PromptResult, tree: TokenTree) -> PromptResult:
        return result


@dataclass(frozen=True)
class _StoppedSearch(Search):
    """A search that a rule may end between rounds.

    Attributes:
        stop: ends the search early; None for no such rule.

    Raises:
        ValueError: `stop` does not take a tree and sequences.
    """

    _: KW_ONLY
    stop: Stop | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._stop_rule()

    @property
    def _calls_users(self) -> bool:
        """Whether decisions call functions of the user's."""
        return self.stop is not None or self.bidder is not None

    def _stop_rule(self) -> PlugIn | None:
        return None if self.stop is None else PlugIn("stop", self.stop, ("tree", "sequences"))

    def _is_enough(self, read: ReadSequences) -> IsEnough | None:
        rule = self._stop_rule()
        if rule is None:
            return None
        return lambda tree, leaves: rule.boolean(tree, read(leaves), none=False)


@dataclass(frozen=True)
class BestFirst(_StoppedSearch):
    """Opens the untried tokens of highest priority, also those of running sequences.

    With a stop rule, shared tokens or `max_tokens` it opens them in rounds.

    Attributes:
        priority: a name of `eager_sgl.search.priorities.PRIORITIES`, module:object, or a priority
            itself.

    Raises:
        ValueError: the priority does not exist, or does not value every candidate.
    """

    priority: str | Priority = "flat_joint_cost"

    def __post_init__(self) -> None:
        super().__post_init__()
        usable_priority(self.priority)

    @property
    def decides_in_thread(self) -> bool:
        is_quick = isinstance(self.priority, str) and self.priority in QUICK
        num_tokens = self.max_sequences * self.sampling.max_new_tokens
        return self._calls_users or not is_quick or num_tokens > MAX_VALUED_IN_LOOP

    def policy(self) -> StepRecorder:
        return StepRecorder()

    def _rounds(self, tree: TokenTree, read: ReadSequences) -> Callable[..., SearchSchedule]:
        return partial(BestFirstSchedule, priority=usable_priority(self.priority))


@dataclass(frozen=True)
class _SamplingSearch(Search):
    """Draws whole paths, answers included, from the distribution that the server samples from."""

    @property
    def observed_until(self) -> None:
        return None

    def _rng(self, tree: TokenTree) -> random.Random:
        if self.seed is None:
            return random.Random()
        return random.Random(f"{self.seed} {list(tree.prompt_ids)}")


def _trie_policy(sampling: SamplingConfig) -> StepRecorder:
    """A step with a certain token at temperature 1 need not be stored.

    Without top-p and top-k its other tokens are drawn by the server, if its logprobs are of the
    sampling temperature. With them it has none where top-p keeps no other token, at temperatures
    that do not lower the probability of the certain one.
    """
    temperature = sampling.temperature
    if sampling.top_p <= CERTAIN and temperature <= 1:
        return StepRecorder(temperature=temperature)
    if sampling.is_whole:
        return StepRecorder(temperature=temperature, stored_below_bound=math.inf)
    return StepRecorder(stored_below=math.inf, temperature=temperature)


def _with_inexact_steps(
    result: PromptResult, tree: TokenTree, sampling: SamplingConfig
) -> PromptResult:
    """With the number of stored steps at which samples are not exact: 0 where the server draws."""
    number = 0 if tree.has_sampling_logprobs else num_inexact_steps(tree, sampling)
    return replace(result, inexact_steps=number)


@dataclass(frozen=True)
class TrieParallel(_StoppedSearch, _SamplingSearch):
    """Independent samples; only their tokens outside the tree are generated.

    All run at once. With a stop rule, shared tokens or `max_tokens` they start in rounds.
    """

    @property
    def decides_in_thread(self) -> bool:
        return self._calls_users

    def policy(self) -> StepRecorder:
        return _trie_policy(self.sampling)

    def _rounds(self, tree: TokenTree, read: ReadSequences) -> Callable[..., SearchSchedule]:
        return partial(TrieParallelSchedule, rng=self._rng(tree))

    def annotate(self, result: PromptResult, tree: TokenTree) -> PromptResult:
        return _with_inexact_steps(result, tree, self.sampling)


@dataclass(frozen=True)
class Vote(_SamplingSearch):
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
            those that are left. With 0 as many run as can decide the vote, and none is left; with 1
            as many as decide it if the answers keep their shares of the votes so far; with a higher
            number as many times as many, the first samples included.
        cutting: when the server ends samples in which the model is unsure, which do not vote then;
            None for never.
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
        ValueError: `answers` or `weigh` does not take sequences, `rule` does not take votes, or the
            cutting needs more samples than there are, or the gate.
    """

    answers: Classes
    rule: VoteRule | WeightedRule | None = None
    weigh: Weigh | None = None
    shares: bool = True
    ahead: float = AHEAD
    cutting: Cutting | None = None
    columns: tuple[Column, ...] = ()
    probing: Probing | None = None
    on_count: Callable[[Items[Sequence]], None] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        checked_classes(self.answers)
        require_ahead("ahead", self.ahead)
        self._checked_rule()
        if self.weigh is not None:
            checked_weigh(self.weigh)
        if self.cutting is not None:
            self.cutting.require_room(self.max_sequences)
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
        return _trie_policy(self.sampling) if self.shares else None

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
            probes=None if self.probing is None else Probes(tree, self.probing, answers),
            on_count=None if count is None else lambda leaves: count(read(leaves)),
        )

    def annotate(self, result: PromptResult, tree: TokenTree) -> PromptResult:
        result = _with_inexact_steps(result, tree, self.sampling)
        if self.probing is not None:
            result = replace(result, sequences=without_lost_parents(result.sequences))
        if result.stopped in ("error", "cancelled"):
            return result
        number = sum(len(p.token_ids) - p.num_forced for p in tree.probes)
        outcome = self._outcome(result.sequences)
        outcome = replace(outcome, num_probes=len(tree.probes), num_probe_tokens=number)
        return replace(result, vote=outcome)

    def _outcome(self, sequences: tuple[Sequence, ...]) -> VoteOutcome:
        answers = checked_classes(self.answers).classes(sequences)
        cut = [False] * len(sequences) if self.cutting is None else self.cutting.cut(sequences)
        weights = None
        if self.weigh is not None:
            votes = cast_votes(sequences, answers, cut)
            weights = weights_of(sequences, votes, checked_weigh(self.weigh))
        return vote_outcome(sequences, answers, weights, cut)


@dataclass(frozen=True)
class WithoutReplacement(_StoppedSearch, _SamplingSearch):
    """Exact sampling without replacement: no path is drawn twice."""

    def policy(self) -> StepRecorder:
        return StepRecorder(stored_below=math.inf, temperature=self.sampling.temperature)

    def _rounds(self, tree: TokenTree, read: ReadSequences) -> Callable[..., SearchSchedule]:
        return partial(WithoutReplacementSchedule, rng=self._rng(tree))

    def annotate(self, result: PromptResult, tree: TokenTree) -> PromptResult:
        return replace(result, inexact_steps=num_inexact_steps(tree, self.sampling))
