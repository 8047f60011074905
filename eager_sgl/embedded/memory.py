"""Whether a model fits this machine's memory, from its files, before anything of it is loaded."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from eager_sgl.embedded.arguments import Arguments

__all__ = ["Needs", "available_bytes", "fitted", "needs_of"]

MIN_CACHED_TOKENS = 16_384
"""A pool with fewer tokens would evict prefixes that branches still need."""
MAX_FRACTION = 0.9
"""Of the available memory; the rest is for activations and for the server's other processes."""
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "half": 2, "float": 4}
CGROUP = Path("/sys/fs/cgroup")
GB = 1e9


@dataclass(frozen=True)
class Needs:
    """The memory that a model needs.

    Attributes:
        weights: bytes of the weights, as computed with.
        per_token: bytes of the cache per token.
    """

    weights: int
    per_token: int

    @property
    def least(self) -> int:
        """Bytes of the weights and of the smallest useful cache."""
        return self.weights + MIN_CACHED_TOKENS * self.per_token


def fitted(arguments: Mapping[str, Any], *, is_given: bool) -> Arguments:
    """The arguments with which a model fits the memory of a machine without an accelerator.

    The share of memory for weights and cache grows as far as the model needs it.

    Args:
        arguments: all resolved fields.
        is_given: whether the user has set `mem_fraction_static`.

    Raises:
        ValueError: the model does not fit; the message is for the user.
    """
    needs = needs_of(Path(arguments["model_path"]), BYTES.get(arguments["dtype"], 4))
    if needs is None:
        return dict(arguments)
    available, fraction = available_bytes(), arguments["mem_fraction_static"]
    limit = fraction if is_given else MAX_FRACTION
    needed = needs.least / available
    if needed > limit:
        model = f"{arguments['model_path']} in {arguments['dtype']}"
        raise ValueError(
            f"there is not enough memory for {model}: {_lack(needs, available, limit)}"
        )
    chosen = fraction if is_given else max(fraction, round(needed + 0.005, 2))
    return {**arguments, "mem_fraction_static": chosen}


def _lack(needs: Needs, available: int, limit: float) -> str:
    """The memory that a model needs, that there is, and how much to free."""
    cache = needs.least - needs.weights
    return (
        f"its weights take {needs.weights / GB:,.1f} GB and the cache of {MIN_CACHED_TOKENS:,} "
        f"tokens {cache / GB:,.1f} GB, which may be {limit:g} of the {available / GB:,.1f} GB "
        f"available; free {needs.least / limit / GB - available / GB:,.1f} GB, or choose a "
        "smaller model"
    )


def needs_of(folder: Path, num_bytes: int) -> Needs | None:
    """The needs of a model folder; None for a hub id, or where its files do not show them.

    Args:
        folder: with `config.json` and safetensors.
        num_bytes: of a number, in memory.
    """
    files = sorted(folder.glob("*.safetensors"))
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config = config.get("text_config", config)
        heads = config["num_attention_heads"]
        head_dim = config.get("head_dim") or config["hidden_size"] // heads
        kv_heads = config.get("num_key_value_heads") or heads
        per_token = 2 * config["num_hidden_layers"] * kv_heads * head_dim * num_bytes
        weights = sum(map(_num_weights, files)) * num_bytes
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        ZeroDivisionError,
        struct.error,
    ):
        return None
    return Needs(weights, per_token) if files else None


def _num_weights(path: Path) -> int:
    """Numbers in a safetensors file, by its header."""
    with path.open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
    return sum(prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")


def available_bytes() -> int:
    """Memory that this process can still have: of the machine, and of its control group."""
    free = int(psutil.virtual_memory().available)
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            free = min(free, int(_read(limit)) - int(_read(used)))
        except (OSError, ValueError):  # no such file, or no limit ("max")
            continue
    return max(free, 1)


def _read(name: str) -> str:
    return (CGROUP / name).read_text()
