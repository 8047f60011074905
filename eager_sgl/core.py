"""The vocabulary of the package: what the server answered, and what a prompt results in.

Positions count generated tokens from 0, the first token after the prompt. Entropies are in nats.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from eager_sgl.adaptive_threshold import EntropyHistogram
from eager_sgl.signals import mean_peak

__all__ = [
    "BranchPoint",
    "DeferredBranch",
    "FinishReason",
    "Generation",
    "Monitor",
    "PromptResult",
    "Sequence",
    "TokenCounts",
    "TopLogprobs",
]

FinishReason = Literal["stop", "length"]
Monitor = Literal["gate", "chunk"]


@dataclass(frozen=True)
class TopLogprobs:
    """The K most likely tokens at each of C steps, most likely first.

    Attributes:
        token_ids: int32 [C, K].
        logprobs: float32 [C, K], natural logarithms.
        temperature: the one of the distribution they belong to (1 is the model's own).
    """

    token_ids: NDArray[np.int32]
    logprobs: NDArray[np.float32]
    temperature: float

    def __post_init__(self) -> None:
        assert self.token_ids.shape == self.logprobs.shape, (
            f"{self.token_ids.shape} ids, {self.logprobs.shape} logprobs"
        )

    def step(self, index: int) -> TopLogprobs:
        """One of the steps alone."""
        here = slice(index, index + 1)
        return replace(self, token_ids=self.token_ids[here], logprobs=self.logprobs[here])


@dataclass(frozen=True)
class Generation:
    """One answer of the server to one request for tokens.

    Attributes:
        token_ids: the C tokens it decoded so far, a stop token included.
        finish_reason: "stop" at EOS or a stop token, "length" where the request's limit was met;
            None where more is to come, or may be asked for.
        prompt_tokens: tokens sent.
        cached_tokens: those of them that the radix tree served.
        logprobs: float32 [C], of the tokens taken; None if none were asked for.
        top: the alternatives at each step, or at those that the gate tells of; None if none were
            asked for.
        reported: which of the C steps the gate tells of; None where no gate does.
        interrupted: why the request is over before it was complete; None where it is not. The rest
            may be asked for anew.
    """

    token_ids: tuple[int, ...]
    finish_reason: FinishReason | None
    prompt_tokens: int
    cached_tokens: int
    logprobs: NDArray[np.float32] | None = None
    top: TopLogprobs | None = None
    reported: tuple[int, ...] | None = None
    interrupted: str | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes of the request."""
        return self.finish_reason is not None or self.interrupted is not None


@dataclass(frozen=True)
class BranchPoint:
    """A step that branched or may branch, with the evidence.

    Attributes:
        position: of the step.
        entropy: of its top-K distribution, in nats.
        token_ids: the parent's and the new sequence's token; EAGer-init branches to the most likely
            and the second most likely one.
        probabilities: theirs, renormalised over the top K at the entropy's temperature.
        logprobs: theirs, as the server gave them; under the gate the model's own.
        sampled: the token that was drawn there before anything was set by hand.
        priority: what best-first opened it for; None where no priority was asked.
    """

    position: int
    entropy: float
    token_ids: tuple[int, int]
    probabilities: tuple[float, float]
    logprobs: tuple[float, float]
    sampled: int
    priority: float | None = None


@dataclass(frozen=True)
class Sequence:
    """One root-to-leaf path of a prompt's tree.

    Attributes:
        token_ids: all generated tokens, forced ones and the stop token included.
        logprobs: one per token as the server gave it; NaN where none was asked for.
        finish_reason: "stop" or "length".
        parent: index of the sequence it branched off; None for the first of a tree.
        branch: where it left its parent: its own tokens start at `branch.position`.
        entropies: one per token, in nats; NaN where the step was not monitored.
        text: the tokens as text, special tokens left out.
        final_text: the part of it that follows the reasoning; all of it where none closed.
        raw_logprob: of all its tokens under the model itself (temperature 1, over the top K); None
            where not every step is known.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish_reason: FinishReason
    parent: int | None = None
    branch: BranchPoint | None = None
    entropies: tuple[float, ...] = ()
    text: str = ""
    final_text: str = ""
    raw_logprob: float | None = None

    @property
    def peak_entropy(self) -> float | None:
        """Mean of the entropies at or above their 99.9th percentile; None if there are none."""
        return mean_peak(np.array(self.entropies))


@dataclass(frozen=True)
class DeferredBranch:
    """A branch that was not taken: the prompt had no slot left, or the entropy was below θ.

    Attributes:
        sequence: index of the sequence it lies on.
        point: the step; its `sampled` token is the one that the sequence took.
    """

    sequence: int
    point: BranchPoint

    @property
    def choice(self) -> int:
        """Which of the point's two tokens is untried: 0 or 1."""
        return int(self.point.sampled == self.point.token_ids[0])


@dataclass(frozen=True)
class TokenCounts:
    """What one prompt cost, from the server's own numbers.

    Whether a token ends a sequence is a fact about the model: it is asked once a token and
    connection, with a request that belongs to no prompt and is not counted. What the server decoded
    for an answer that was lost, nobody can tell: it is not counted either.

    Attributes:
        generated: tokens the server decoded, discarded ones included (#T of the paper).
        unique: tokens in the tree, each shared prefix once.
        naive: tokens of all sequences added up, as if nothing were shared.
        forced: tokens of the tree that a branch set by hand and nobody decoded.
        prompt: tokens sent in all requests.
        cached: those of them that the radix tree served.
        requests: requests for tokens.
    """

    generated: int = 0
    unique: int = 0
    naive: int = 0
    forced: int = 0
    prompt: int = 0
    cached: int = 0
    requests: int = 0

    @property
    def discarded(self) -> int:
        """Tokens decoded that no sequence holds."""
        return self.generated - (self.unique - self.forced)

    @property
    def prefilled(self) -> int:
        """Tokens sent that the radix tree did not serve."""
        return self.prompt - self.cached

    def __add__(self, other: TokenCounts) -> TokenCounts:
        return TokenCounts(
            **{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)}
        )


@dataclass(frozen=True)
class PromptResult:
    """Everything that came out for one prompt.

    Attributes:
        prompt_ids: the prompt's tokens.
        sequences: in the order in which they were opened.
        counts: what they cost.
        max_sequences: M, the cap they were generated under.
        deferred: branches that were not taken, down to `deferred_threshold`, highest entropy first.
        monitor: how branch points were found; None where nothing was monitored.
        inexact_steps: of a search that walks, the stored steps at which top-p leaves, or may leave,
            more tokens than the K: what walked through them is not drawn exactly; else None.
        entropy_histogram: at a adaptive θ, that θ and what the prompt showed for it; else None.
    """

    prompt_ids: tuple[int, ...]
    sequences: tuple[Sequence, ...]
    counts: TokenCounts
    max_sequences: int
    deferred: tuple[DeferredBranch, ...] = ()
    monitor: Monitor | None = None
    inexact_steps: int | None = None
    entropy_histogram: EntropyHistogram | None = None

    @property
    def branch_points(self) -> tuple[BranchPoint, ...]:
        """In the order in which they were taken."""
        return tuple(s.branch for s in self.sequences if s.branch is not None)

    @property
    def saturated(self) -> bool:
        """Whether the prompt reached M sequences."""
        return len(self.sequences) >= self.max_sequences
