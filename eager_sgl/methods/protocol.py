"""What the executor and the programs know of a method: `Method`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from collections.abc import Sequence as Items
from typing import Protocol

from eager_sgl.budget.bidding import Bidding
from eager_sgl.config import EagerConfig, SamplingConfig
from eager_sgl.core import PromptResult, Sequence
from eager_sgl.plugin.vocabulary import Gate
from eager_sgl.policy import Policy
from eager_sgl.schedule import Leaf, Schedule
from eager_sgl.tree import TokenTree

__all__ = ["Method", "ReadSequences"]

ReadSequences = Callable[[Iterable[Leaf]], Items[Sequence]]
"""Finished leaves -> their sequences, with texts."""


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
