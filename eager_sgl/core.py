"""The vocabulary of the package: what is configured, what the server said, what came out.

Positions count generated tokens from 0, the first token after the prompt. Entropies are in nats.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from eager_sgl.adaptive_threshold import EntropyHistogram
from eager_sgl.signals import mean_peak

if TYPE_CHECKING:
    from eager_sgl.search.priorities import Priority

__all__ = [
    "BranchPoint",
    "DeferredBranch",
    "EagerConfig",
    "FinishReason",
    "Generation",
    "Monitor",
    "PromptResult",
    "SamplingConfig",
    "SearchConfig",
    "Sequence",
    "TokenCounts",
    "TopLogprobs",
]

FinishReason = Literal["stop", "length"]
Monitor = Literal["gate", "chunk"]


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How tokens are drawn where nothing branches.

    Attributes:
        temperature: τ; 0 is greedy. The paper uses 0.6.
        top_p: nucleus mass in (0, 1]. The paper uses 0.95.
        max_new_tokens: length limit of one sequence, forced tokens included.
        stop_token_ids: ends of a sequence beyond the model's own EOS.
    """

    temperature: float = 0.6
    top_p: float = 0.95
    max_new_tokens: int = 32768
    stop_token_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        _require(
            _is_number(self.temperature)
            and (self.temperature == 0 or 1e-6 <= self.temperature < math.inf),
            "temperature",
            self.temperature,
            "0 (greedy) or a finite number of at least 1e-6",
        )
        _require(_is_number(self.top_p) and 0 < self.top_p <= 1, "top_p", self.top_p, "in (0, 1]")
        _require_whole("max_new_tokens", self.max_new_tokens, 1)
        _require(
            isinstance(self.stop_token_ids, tuple) and all(map(_is_id, self.stop_token_ids)),
            "stop_token_ids",
            self.stop_token_ids,
            "a tuple of token ids, which are whole numbers of at least 0",
        )


@dataclass(frozen=True, kw_only=True)
class EagerConfig:
    """EAGer-init on one prompt (arXiv 2510.11170).

    Attributes:
        threshold: θ in nats, in (0, ln K]; a step whose entropy reaches it branches. It belongs to
            one model and one `entropy_temperature`; the paper calibrates it on 10 prompts.
        max_sequences: M, the most sequences that one prompt may have, finished ones included.
        top_k: K, how many of the most likely tokens the entropy is taken over (paper: 20); all of
            them where the model has fewer.
        entropy_temperature: temperature of the distribution whose entropy is taken; 1 is the
            model's own.
        patience: steps without a branch after which a prompt is no longer monitored (paper: 1000).
        chunk_tokens: tokens asked for in one request under the chunk monitor, where a branch was
            taken lately; more where none was.
        monitor: how branch points are found. "gate": the server tells of them while it goes on
            (`eager_sgl.engine.gate`); no logprobs travel, and steps below θ have no entropies.
            "chunk": the client looks at the distributions of every chunk, which any server gives.
            "auto" takes the gate where the server allows it.
        deferred_threshold: entropy in nats, in (0, θ], down to which `PromptResult.deferred` keeps
            the branches that were not taken; None keeps none. It monitors on when no slot is left.
        reasoning_end: the text that closes the reasoning; a sequence is not monitored after it.
            None monitors to the end.
        sampling: how tokens are drawn where nothing branches.
    """

    threshold: float
    max_sequences: int = 32
    top_k: int = 20
    entropy_temperature: float = 1.0
    patience: int = 1000
    chunk_tokens: int = 64
    monitor: Literal["auto", "gate", "chunk"] = "auto"
    deferred_threshold: float | None = None
    reasoning_end: str | None = "</think>"
    sampling: SamplingConfig = field(default_factory=SamplingConfig)

    def __post_init__(self) -> None:
        _require_whole("top_k", self.top_k, 2)
        bound = math.log(self.top_k)
        _require(
            _is_number(self.threshold) and 0 < self.threshold <= bound,
            "threshold",
            self.threshold,
            f"in (0, ln {self.top_k} = {bound:.4f}]",
        )
        _require(
            self.deferred_threshold is None
            or (
                _is_number(self.deferred_threshold)
                and 0 < self.deferred_threshold <= self.threshold
            ),
            "deferred_threshold",
            self.deferred_threshold,
            f"None or in (0, threshold = {self.threshold:g}]",
        )
        _require_whole("max_sequences", self.max_sequences, 1)
        _require(
            _is_number(self.entropy_temperature) and 0 < self.entropy_temperature < math.inf,
            "entropy_temperature",
            self.entropy_temperature,
            "finite and above 0",
        )
        _require_whole("patience", self.patience, 1)
        _require_whole("chunk_tokens", self.chunk_tokens, 1)
        monitors = ("auto", "gate", "chunk")
        _require(self.monitor in monitors, "monitor", self.monitor, f"one of {monitors}")
        _require(self.reasoning_end != "", "reasoning_end", "''", "a text, or None")


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """A search over the frontier of one prompt's tree.

    Attributes:
        order: what is opened next. "best_first": the best untried tokens by `priority`. "swor": the
            next draw of exact sampling without replacement. "trie_parallel": the next independent
            sample, of which only what is not in the tree yet is generated.
        priority: of best-first: a name of `eager_sgl.search.priorities.PRIORITIES`, module:object,
            or a priority itself; one that does not value every candidate is refused.
        max_sequences: M, the most sequences that one prompt may have.
        width: how many are opened at once, at most; 1 is the pure rule. A round never opens more
            than there are sequences: 1, 1, 2, 4, 8, 8, …
        max_tokens: generated tokens from which on nothing more is opened; None for no such limit.
        top_k: K, how many of the most likely tokens of a step are known; all of them where the
            model has fewer.
        reasoning_end: the text that closes the reasoning; best-first opens nothing after it.
        seed: of the walks of "swor" and "trie_parallel".
        sampling: how the rest of an opened sequence is drawn.
    """

    order: Literal["best_first", "swor", "trie_parallel"] = "best_first"
    priority: str | Priority = "flat_joint_cost"
    max_sequences: int = 32
    width: int = 8
    max_tokens: int | None = None
    top_k: int = 20
    reasoning_end: str | None = "</think>"
    seed: int = 0
    sampling: SamplingConfig = field(default_factory=SamplingConfig)

    def __post_init__(self) -> None:
        from eager_sgl.search.priorities import usable_priority  # which needs this module

        usable_priority(self.priority)
        _require_whole("top_k", self.top_k, 2)
        _require_whole("max_sequences", self.max_sequences, 1)
        _require_whole("width", self.width, 1)
        _require_whole("seed", self.seed, 0)
        if self.max_tokens is not None:
            _require_whole("max_tokens", self.max_tokens, 1)
        _require(self.reasoning_end != "", "reasoning_end", "''", "a text, or None")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _require_whole(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{name} is {value}; it must be a whole number")
    _require(value >= least, name, value, f"at least {least}")


def _require(condition: bool, name: str, value: object, expected: str) -> None:
    if not condition:
        raise ValueError(f"{name} is {value}; it must be {expected}")


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
