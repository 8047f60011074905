"""The vocabulary of the package: the server's answers, and the results of prompts.

Positions count generated tokens from 0, the first token after the prompt. Entropies are in nats.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from collections.abc import Sequence as Items
from dataclasses import dataclass, field, fields, replace
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
    "Stopped",
    "TokenCounts",
    "TopLogprobs",
    "Verifier",
    "VoteOutcome",
]

FinishReason = Literal["stop", "length", "cut", "probed", "abort"]
Monitor = Literal["gate", "chunk"]
Stopped = Literal["timeout", "max_tokens", "cancelled", "error"]


@dataclass(frozen=True)
class TopLogprobs:
    """The K most likely tokens at each of C steps, most likely first.

    Attributes:
        token_ids: int32 [C, K].
        logprobs: float32 [C, K], natural logarithms.
        temperature: of the distribution that the logprobs belong to; 1 for the model's.
    """

    token_ids: NDArray[np.int32]
    logprobs: NDArray[np.float32]
    temperature: float

    def __post_init__(self) -> None:
        assert self.token_ids.shape == self.logprobs.shape, (
            f"{self.token_ids.shape} ids, {self.logprobs.shape} logprobs"
        )

    def after(self, num_steps: int) -> TopLogprobs:
        """Without the first steps."""
        return replace(
            self, token_ids=self.token_ids[num_steps:], logprobs=self.logprobs[num_steps:]
        )

    def steps(self, indices: Items[int]) -> TopLogprobs:
        """Some of the steps, by index."""
        rows = list(indices)
        return replace(self, token_ids=self.token_ids[rows], logprobs=self.logprobs[rows])


@dataclass(frozen=True)
class Generation:
    """The server's answer to a request for tokens, complete or so far.

    Attributes:
        token_ids: the C tokens decoded so far, a stop token included.
        finish_reason: "stop" at EOS or a stop token, "length" at the request's limit, "cut" where
            the gate ended it for its confidence; None while the request runs, or where it was
            interrupted.
        prompt_tokens: number of tokens sent.
        cached_tokens: number of those that the radix tree served.
        logprobs: float32 [C], of the decoded tokens; None if not requested.
        top: the alternatives at every step, or at the steps that the gate reported; None if not
            requested.
        reported: indices of the steps that the gate reported, rising; None if it was not asked for
            steps.
        raw_logprobs: float32 [C], of the decoded tokens at temperature 1, over the top K; None if
            not requested.
        entropies: float32 [C], of the steps, in nats; None if not requested.
        confidences: float32 [C], mean of −ln p of the top K of a step at temperature 1, in nats;
            None if not requested.
        is_cut: whether the gate has ended the sequence at its last token; a part of an answer may
            report so before the request has ended.
        num_dropped: number of decoded tokens after the C that do not belong to the answer: those
            after a cut, and those of an interrupted request that the gate's reports do not reach.
        interrupted: why the request ended early; None where it did not. The rest of its tokens may
            be requested again.
    """

    token_ids: tuple[int, ...]
    finish_reason: FinishReason | None
    prompt_tokens: int
    cached_tokens: int
    logprobs: NDArray[np.float32] | None = None
    top: TopLogprobs | None = None
    reported: tuple[int, ...] | None = None
    raw_logprobs: NDArray[np.float32] | None = None
    entropies: NDArray[np.float32] | None = None
    confidences: NDArray[np.float32] | None = None
    is_cut: bool = False
    num_dropped: int = 0
    interrupted: str | None = None

    @property
    def is_over(self) -> bool:
        """Whether the request has ended."""
        return self.finish_reason is not None or self.interrupted is not None

    @property
    def num_decoded(self) -> int:
        """Number of tokens that the server has decoded, those that were dropped included."""
        return len(self.token_ids) + self.num_dropped

    def after(self, num_tokens: int) -> Generation:
        """Without its first tokens; the steps that the gate reported stay, by their indices."""
        if not num_tokens:
            return self
        has_rows = self.top is not None and self.reported is None
        return replace(
            self,
            token_ids=self.token_ids[num_tokens:],
            logprobs=_after(self.logprobs, num_tokens),
            top=self.top.after(num_tokens) if has_rows and self.top else self.top,
            raw_logprobs=_after(self.raw_logprobs, num_tokens),
            entropies=_after(self.entropies, num_tokens),
            confidences=_after(self.confidences, num_tokens),
        )


def _after(column: NDArray[np.float32] | None, num_tokens: int) -> NDArray[np.float32] | None:
    return None if column is None else column[num_tokens:]


@dataclass(frozen=True)
class BranchPoint:
    """A step that branched or may branch, with the evidence.

    Attributes:
        position: of the step.
        entropy: of its top-K distribution, in nats.
        token_ids: the token of the parent and that of the new sequence; under EAGer-init the most
            likely and the second most likely token.
        probabilities: of both tokens, renormalised over the top K at the entropy's temperature.
        logprobs: of both tokens, as the server returned them: at the sampling temperature, and at
            temperature 1 where it is 0, or from the pickled gate or a server with raw logprobs.
        sampled: the token that was sampled at the step, before a branch forced another.
        priority: the value that best-first opened it for; None under other methods.
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
    """A root-to-leaf path of a prompt's tree.

    Attributes:
        token_ids: all generated tokens, forced ones and the stop token included.
        logprobs: of every token, as the server returned it; NaN where not requested.
        finish_reason: "stop", "length" or "cut"; "probed" where probes agreed, so that the last
            tokens are the text and the answer of a probe, without a stop token; "abort" of an
            unfinished sequence in a partial result.
        parent: index of the sequence it branched off; None for the first sequence of a tree.
        branch: the branch point where it left its parent; from `branch.position` on, its tokens are
            not shared with the parent.
        entropies: of every step, in nats; NaN where it is not known, as under EAGer-init's gate
            below θ.
        text: the tokens as text, special tokens left out.
        final_text: the text after the reasoning; all of the text if the reasoning is not closed.
        raw_logprob: of all tokens at temperature 1, over the top K; None where a step is unknown.
        confidences: of every step, as `Generation.confidences`; NaN where not known, empty where
            none was asked for.
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
    confidences: tuple[float, ...] = ()

    @property
    def open_token_ids(self) -> tuple[int, ...]:
        """The tokens without a stop token at the end, after which the same turn can continue."""
        return self.token_ids[:-1] if self.finish_reason == "stop" else self.token_ids

    @property
    def peak_entropy(self) -> float | None:
        """Mean of the entropies at or above their 99.9th percentile, in nats; None without any."""
        return mean_peak(np.array(self.entropies))


Verifier = Callable[[Sequence], bool]
"""Whether a sequence is correct: by a label, a test suite, or a reward model."""


@dataclass(frozen=True)
class DeferredBranch:
    """A branch that was not taken: the prompt had M sequences, or the entropy was below θ.

    Attributes:
        sequence: index of the sequence that passes the branch point.
        point: the branch point; the sequence holds its `sampled` token.
    """

    sequence: int
    point: BranchPoint

    @property
    def choice(self) -> int:
        """Index of the untried token in `point.token_ids`: 0 or 1."""
        return int(self.point.sampled == self.point.token_ids[0])


@dataclass(frozen=True)
class TokenCounts:
    """The cost of a prompt, from the server's numbers.

    Not counted: requests that ask whether a token ends sequences, one per token and connection,
    since they belong to the model and not to a prompt; and what is unknown: the tokens of answers
    that were lost, and `prompt` and `cached` of requests that the server had retracted when they
    were aborted, unless parts of their answers had arrived.

    Attributes:
        generated: tokens that the server decoded, discarded ones included (#T of the paper).
        unique: tokens in the tree, shared prefixes counted once.
        naive: tokens of all sequences, shared prefixes counted for every sequence.
        forced: tokens in the tree that a branch or a probe set, and the server did not decode.
        prompt: tokens sent in all requests.
        cached: number of those that the radix tree served.
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
        """Decoded tokens that no sequence holds."""
        return self.generated - (self.unique - self.forced)

    @property
    def prefilled(self) -> int:
        """Sent tokens that the radix tree did not serve."""
        return self.prompt - self.cached

    def __add__(self, other: TokenCounts) -> TokenCounts:
        return TokenCounts(
            **{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)}
        )


@dataclass(frozen=True)
class VoteOutcome:
    """The outcome of a vote on the answers of sequences.

    In a partial result all sequences that have finished vote. Short ones finish first, so these are
    no independent samples of the model's, and no rule has decided on them.

    Attributes:
        answer: with the most votes; ties go to the answer that occurs first. None without votes.
        votes: of every answer, in the order in which they first occur.
        confidence: probability that the leading answer is likelier than the second one
            (`eager_sgl.voting.votes.majority_confidence`); None where votes have weights.
        sequence: index of the choice: of the sequences with the answer, or of all without answers,
            one that has finished before others, and then the most likely one; the first where no
            probability is known. None without sequences.
        weights: of the votes of all sequences, 0 of those that do not vote; empty where every
            sequence with an answer counts as 1.
        num_cut: number of sequences that were cut or outweighed, which do not vote.
        cut_votes: number of cut sequences with each answer, of those that ran to their ends, before
            the floor was known.
        num_probes: probes that asked running sequences for their answers.
        num_probe_tokens: tokens of the answers that have arrived, without the text of the probe.
        num_left_tokens: tokens that have arrived of samples that ran ahead of the decision and were
            left. A cost, and no part of the outcome: equal outcomes may differ in it.
    """

    answer: Hashable | None
    votes: Mapping[Hashable, float]
    confidence: float | None
    sequence: int | None
    weights: tuple[float, ...] = ()
    num_cut: int = 0
    cut_votes: Mapping[Hashable, float] = field(default_factory=dict)
    num_probes: int = 0
    num_probe_tokens: int = 0
    num_left_tokens: int = field(default=0, compare=False)


@dataclass(frozen=True)
class PromptResult:
    """The result of a prompt.

    Attributes:
        prompt_ids: the prompt's tokens.
        sequences: in the order of opening.
        counts: the cost.
        max_sequences: M, the limit they were generated under.
        deferred: branches that were not taken, down to `deferred_threshold`, highest entropy first.
        monitor: how steps were observed; None under a method that observes none.
        inexact_steps: number of stored steps at which top-p keeps, or may keep, more tokens than
            the K, so that samples through them are not exact; 0 under `TrieParallel`, unless the
            server's logprobs are of another temperature; None except under `TrieParallel` and
            `WithoutReplacement`.
        entropy_histogram: at an adaptive θ, that θ and the prompt's entropies; else None.
        vote: the outcome under `Vote`, of a prompt that no error and no cancellation ended; else
            None.
        stopped: why the result is partial, with sequences that have not finished: the prompt's
            time or tokens were used up, its task was cancelled, or an error ended it; None for a
            whole result.
    """

    prompt_ids: tuple[int, ...]
    sequences: tuple[Sequence, ...]
    counts: TokenCounts
    max_sequences: int
    deferred: tuple[DeferredBranch, ...] = ()
    monitor: Monitor | None = None
    inexact_steps: int | None = None
    entropy_histogram: EntropyHistogram | None = None
    vote: VoteOutcome | None = None
    stopped: Stopped | None = None

    @property
    def branch_points(self) -> tuple[BranchPoint, ...]:
        """The branches, in the order of opening."""
        return tuple(s.branch for s in self.sequences if s.branch is not None)

    @property
    def saturated(self) -> bool:
        """Whether the prompt has M sequences."""
        return len(self.sequences) >= self.max_sequences
