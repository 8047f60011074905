"""The configuration and the seed that methods share."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Generic, TypeVar

from eager_sgl.config import EagerConfig, SamplingConfig, require_whole
from eager_sgl.search.rounds import SearchConfig

__all__ = ["Config", "Configured", "require_seed"]

Config = TypeVar("Config", EagerConfig, SearchConfig)


def require_seed(seed: int | None) -> None:
    if seed is not None:
        require_whole("seed", seed, 0)


@dataclass(frozen=True)
class Configured(Generic[Config]):
    """A method whose configuration has the sampling and the limits."""

    config: Config
    _: KW_ONLY
    seed: int | None = None

    def __post_init__(self) -> None:
        require_seed(self.seed)

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
