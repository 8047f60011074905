"""The precision in which a machine without an accelerator computes."""

from __future__ import annotations

import json
from pathlib import Path

from eager_sgl.embedded.threads import is_small

__all__ = ["dtype_of"]

CPU_FLAGS = Path("/proc/cpuinfo")
BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}


def dtype_of(model_path: str, revision: str | None = None) -> str:
    """bfloat16 for models in it where the CPU multiplies it, else float32.

    For a model of 0.5 B parameters on two cores with avx512_bf16, products take a quarter of the
    time. Other CPUs emulate half precision, and small models lose nothing by float32.

    Args:
        model_path: a folder, or a hub id, whose `config.json` is downloaded.
        revision: of the hub's repository; None for its newest.
    """
    if is_small(Path(model_path)) or not _multiplies_bfloat16():
        return "float32"
    return "bfloat16" if _is_bfloat16(model_path, revision) else "float32"


def _multiplies_bfloat16() -> bool:
    try:
        return not BFLOAT16_FLAGS.isdisjoint(CPU_FLAGS.read_text().split())
    except OSError:  # not Linux
        return False


def _is_bfloat16(model_path: str, revision: str | None) -> bool:
    """Whether the weights are stored in it."""
    try:
        config = json.loads(_config_file(model_path, revision).read_text(encoding="utf-8"))
        parts = (config, config.get("text_config") or {})
        return any("bfloat16" in (part.get("dtype"), part.get("torch_dtype")) for part in parts)
    except (OSError, ValueError, AttributeError):
        return False  # SGLang will say what is wrong with the model


def _config_file(model_path: str, revision: str | None) -> Path:
    if Path(model_path).exists():
        return Path(model_path, "config.json")
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(model_path, "config.json", revision=revision))
