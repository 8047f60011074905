"""Searches over the cached tree, and best-first."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, replace
from functools import partial
from typing import ClassVar

from eager_sgl.budget.bidding import Bidding
from eager_sgl.callbacks import PlugIn
from eager_sgl.config import EagerConfig
from eager_sgl.core import PromptResult
from eager_sgl.methods.configured import Configured
from eager_sgl.methods.protocol import ReadSequences
from eager_sgl.plugin.vocabulary import Gate
from eager_sgl.schedule import Schedule
from eager_sgl.search.best_first import BestFirstSchedule
from eager_sgl.search.frontier import Priority, StepRecorder
from eager_sgl.search.priorities import QUICK, usable_priority
from eager_sgl.search.rounds import Bid, IsEnough, SearchConfig, SearchSchedule
from eager_sgl.search.stopping import Stop
from eager_sgl.tree import TokenTree

__all__ = ["BestFirst", "Search", "StoppedSearch"]

MAX_VALUED_IN_LOOP = 2**14
"""Tokens of a tree whose candidates are valued in the loop of the requests: a few milliseconds at
most. A thread would take as long, and the loop would wait for it whenever it has work itself."""


@dataclass(frozen=True)
class Search(Configured[SearchConfig], ABC):
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
class StoppedSearch(Search):
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
class BestFirst(StoppedSearch):
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
