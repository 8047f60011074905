"""The hyper-parameters of sampling and of EAGer-init, checked when built.

Positions count generated tokens from 0, the first token after the prompt. Entropies are in nats.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

__all__ = [
    "REASONING_END",
    "TOP_K",
    "EagerConfig",
    "MonitorChoice",
    "SamplingConfig",
    "require",
    "require_monitor",
    "require_whole",
]

REASONING_END = "</think>"
"""The text that closes the reasoning of most models."""
TOP_K = 20
"""K, the number of tokens that a step is observed by (paper: 20)."""
MonitorChoice = Literal["auto", "gate", "chunk"]
"""How steps are observed: by the server's gate, by chunks, or by whichever there is."""


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How tokens are sampled where nothing branches.

    Attributes:
        temperature: τ; 0 is greedy. The paper uses 0.6. Between 0 and 0.1 the server's float32
            loses unlikely alternatives, so that entropies at temperature 1 are too low (at 0.1 by
            at most 0.03 nats), and EAGer-init branches too seldom.
        top_p: nucleus mass in (0, 1]. The paper uses 0.95.
        max_new_tokens: length limit of a sequence in tokens, forced tokens included.
        stop_token_ids: tokens that end a sequence, besides the model's EOS.
        top_k: number of most likely tokens that are drawn from; None for no such limit. Top-p is
            applied to the probabilities before it. The paper has none.
    """

    temperature: float = 0.6
    top_p: float = 0.95
    max_new_tokens: int = 32768
    stop_token_ids: tuple[int, ...] = ()
    top_k: int | None = None

    def __post_init__(self) -> None:
        require(
            _is_number(self.temperature)
            and (self.temperature == 0 or 1e-6 <= self.temperature < math.inf),
            "temperature",
            self.temperature,
            "0 (greedy) or a finite number of at least 1e-6",
        )
        require(_is_number(self.top_p) and 0 < self.top_p <= 1, "top_p", self.top_p, "in (0, 1]")
        require_whole("max_new_tokens", self.max_new_tokens, 1)
        if self.top_k is not None:
            require_whole("top_k", self.top_k, 1)
        require(
            isinstance(self.stop_token_ids, tuple) and all(map(_is_id, self.stop_token_ids)),
            "stop_token_ids",
            self.stop_token_ids,
            "a tuple of token ids, which are whole numbers of at least 0",
        )

    @property
    def is_whole(self) -> bool:
        """Whether neither top-p nor top-k removes tokens."""
        return self.top_p == 1 and self.top_k is None


@dataclass(frozen=True, kw_only=True)
class EagerConfig:
    """EAGer-init on one prompt (arXiv 2510.11170).

    Attributes:
        threshold: θ in nats, in (0, ln K]; a step whose entropy reaches it branches. It depends on
            the model and on `entropy_temperature`; the paper calibrates it on 10 prompts.
        max_sequences: M, the maximum number of sequences of a prompt, finished ones included.
        top_k: K, the number of most likely tokens that the entropy is taken over (paper: 20); the
            size of the vocabulary where that is smaller.
        entropy_temperature: temperature of the distribution whose entropy is taken; at 1 it is the
            model's distribution.
        patience: steps without a branch after which a prompt is no longer monitored (paper: 1000).
        chunk_tokens: tokens per request under the chunk monitor shortly after a branch; later
            requests are longer.
        monitor: how branch points are found. "gate": the server reports them while it decodes
            (`eager_sgl.engine.gate`), and steps below θ have no entropies. "chunk": the client
            reads the distributions of every chunk, with any server. "auto": the gate where the
            server has one, else chunks.
        deferred_threshold: entropy in nats, in (0, θ], down to which `PromptResult.deferred` lists
            the branches that were not taken; None lists none. Sequences then stay monitored when
            the prompt has M of them.
        reasoning_end: the text that closes the reasoning; a sequence is not monitored after it.
            None monitors to the end.
        sampling: how tokens are sampled where nothing branches.
    """

    threshold: float
    max_sequences: int = 32
    top_k: int = TOP_K
    entropy_temperature: float = 1.0
    patience: int = 1000
    chunk_tokens: int = 64
    monitor: MonitorChoice = "auto"
    deferred_threshold: float | None = None
    reasoning_end: str | None = REASONING_END
    sampling: SamplingConfig = field(default_factory=SamplingConfig)

    def __post_init__(self) -> None:
        require_whole("top_k", self.top_k, 2)
        bound = math.log(self.top_k)
        require(
            _is_number(self.threshold) and 0 < self.threshold <= bound,
            "threshold",
            self.threshold,
            f"in (0, ln {self.top_k} = {bound:.4f}]",
        )
        require(
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
        require(
            _is_number(self.entropy_temperature) and 0 < self.entropy_temperature < math.inf,
            "entropy_temperature",
            self.entropy_temperature,
            "finite and above 0",
        )
        require_whole("patience", self.patience, 1)
        require_whole("chunk_tokens", self.chunk_tokens, 1)
        require_monitor(self.monitor)
        require(self.reasoning_end != "", "reasoning_end", "''", "a text, or None")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def require_whole(name: str, value: object, lowest: int) -> None:
    """Check that an argument is an integer of at least `lowest`.

    Raises:
        ValueError: it is not; the text has its name and value.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{name} is {value}; it must be a whole number")
    require(value >= lowest, name, value, f"at least {lowest}")


def require_monitor(monitor: str) -> None:
    """Raises ValueError where a monitor is none of `MonitorChoice`."""
    monitors = get_args(MonitorChoice)
    require(monitor in monitors, "monitor", monitor, f"one of {monitors}")


def require(condition: bool, name: str, value: object, expected: str) -> None:
    """Raises ValueError with the argument's name and value where a condition does not hold."""
    if not condition:
        raise ValueError(f"{name} is {value}; it must be {expected}")
