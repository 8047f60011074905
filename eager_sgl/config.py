"""How sequences are sampled, where EAGer-init branches, and how a search explores.

Positions count generated tokens from 0, the first token after the prompt. Entropies are in nats.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["REASONING_END", "EagerConfig", "SamplingConfig", "SearchConfig", "require_whole"]

REASONING_END = "</think>"
"""The text that closes the reasoning of most models."""


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
        require_whole("max_new_tokens", self.max_new_tokens, 1)
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
    reasoning_end: str | None = REASONING_END
    sampling: SamplingConfig = field(default_factory=SamplingConfig)

    def __post_init__(self) -> None:
        require_whole("top_k", self.top_k, 2)
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
        require_whole("max_sequences", self.max_sequences, 1)
        _require(
            _is_number(self.entropy_temperature) and 0 < self.entropy_temperature < math.inf,
            "entropy_temperature",
            self.entropy_temperature,
            "finite and above 0",
        )
        require_whole("patience", self.patience, 1)
        require_whole("chunk_tokens", self.chunk_tokens, 1)
        monitors = ("auto", "gate", "chunk")
        _require(self.monitor in monitors, "monitor", self.monitor, f"one of {monitors}")
        _require(self.reasoning_end != "", "reasoning_end", "''", "a text, or None")


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """A search over the frontier of one prompt's tree.

    Attributes:
        max_sequences: M, the most sequences that one prompt may have.
        width: how many are opened at once, at most; 1 is the pure rule. A round never opens more
            than there are sequences: 1, 1, 2, 4, 8, 8, …
        max_tokens: generated tokens from which on nothing more is opened; None for no such limit.
        top_k: K, how many of the most likely tokens of a step are known; all of them where the
            model has fewer.
        reasoning_end: the text that closes the reasoning; best-first opens nothing after it.
        sampling: how the rest of an opened sequence is drawn.
    """

    max_sequences: int = 32
    width: int = 8
    max_tokens: int | None = None
    top_k: int = 20
    reasoning_end: str | None = REASONING_END
    sampling: SamplingConfig = field(default_factory=SamplingConfig)

    def __post_init__(self) -> None:
        require_whole("top_k", self.top_k, 2)
        require_whole("max_sequences", self.max_sequences, 1)
        require_whole("width", self.width, 1)
        if self.max_tokens is not None:
            require_whole("max_tokens", self.max_tokens, 1)
        _require(self.reasoning_end != "", "reasoning_end", "''", "a text, or None")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def require_whole(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{name} is {value}; it must be a whole number")
    _require(value >= least, name, value, f"at least {least}")


def _require(condition: bool, name: str, value: object, expected: str) -> None:
    if not condition:
        raise ValueError(f"{name} is {value}; it must be {expected}")
