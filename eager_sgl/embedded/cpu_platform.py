"""The entry point of SGLang's platform plugins, for machines without an accelerator.

SGLang 0.5.23 serves on a CPU only through kernels that no package index carries. Its entry point
group `sglang.srt.platforms` lets a package provide a platform; ours (`cpu_torch`) runs SGLang's
scheduler, radix cache, sampler and HTTP server on PyTorch's operators.

Every SGLang process of the user's machine imports this module, so its import loads nothing heavy.
"""

from __future__ import annotations

import os

__all__ = ["accelerator_present", "activate"]

PLATFORM = "eager_sgl.embedded.cpu_torch:CpuTorchPlatform"


def activate() -> str | None:
    """Return the platform class's import path, or None where SGLang has a better platform.

    SGLang calls this by the entry point `eager_sgl_cpu`. It declines if an accelerator is present,
    and if the user requests SGLang's own CPU engine (`SGLANG_USE_CPU_ENGINE=1`).
    """
    if os.environ.get("SGLANG_USE_CPU_ENGINE", "0") == "1" or accelerator_present():
        return None
    return PLATFORM


def accelerator_present() -> bool:
    """Whether PyTorch reports a device other than the CPU that SGLang could serve on."""
    import torch

    # CUDA includes ROCm and SAIL; npu, hpu and musa exist once their packages are imported.
    names = ("cuda", "xpu", "mps", "npu", "hpu", "musa")
    modules = (getattr(torch, name, None) for name in names)
    if any(module is not None and module.is_available() for module in modules):
        return True
    return getattr(torch.version, "musa", None) is not None
