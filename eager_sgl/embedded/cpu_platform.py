"""SGLang in pure PyTorch on a machine without an accelerator.

SGLang 0.5.23 serves on a CPU only through kernels that no package index carries. Its entry point
group `sglang.srt.platforms` lets a package bring a platform of its own; ours runs SGLang's
scheduler, radix cache, sampler and HTTP server with PyTorch's operators underneath.

Every SGLang process of the user's machine imports this module, so importing it costs nothing.
"""

from __future__ import annotations

import os
import platform

__all__ = ["activate"]

PLATFORM_CLASS = "CpuTorchPlatform"

ARM_OPERATORS = {
    "init_cpu_threads_env": "(str cpu_ids) -> ()",
    "initialize": "(int size, int rank) -> ()",
}


def activate() -> str | None:
    """Return the platform class's import path, or None where SGLang has something better.

    SGLang calls this by the entry point `eager_sgl_cpu`. It declines wherever an accelerator is
    present and where the user asked for SGLang's own CPU engine (`SGLANG_USE_CPU_ENGINE=1`).
    """
    if os.environ.get("SGLANG_USE_CPU_ENGINE", "0") == "1" or accelerator_present():
        return None
    return f"{__name__}:{PLATFORM_CLASS}"


def accelerator_present() -> bool:
    """Whether PyTorch reports any device that SGLang could serve on other than the CPU."""
    import torch

    # CUDA answers for ROCm and SAIL too; npu, hpu and musa exist once their packages are imported.
    names = ("cuda", "xpu", "mps", "npu", "hpu", "musa")
    modules = (getattr(torch, name, None) for name in names)
    if any(module is not None and module.is_available() for module in modules):
        return True
    return getattr(torch.version, "musa", None) is not None


def __getattr__(name: str) -> type:
    """Define the platform class when SGLang first asks for it: its base class imports torch."""
    if name != PLATFORM_CLASS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    platform_class = _define_platform_class()
    globals()[PLATFORM_CLASS] = platform_class
    return platform_class


def _define_platform_class() -> type:
    from sglang.srt.platforms.cpu import CpuDeviceMixin
    from sglang.srt.platforms.device_mixin import PlatformEnum
    from sglang.srt.platforms.interface import SRTPlatform

    class CpuTorchPlatform(CpuDeviceMixin, SRTPlatform):  # type: ignore[misc]
        """A CPU served by PyTorch's own operators (written for SGLang 0.5.23)."""

        # Not PlatformEnum.CPU: that one selects SGLang's compiled CPU kernels.
        _enum = PlatformEnum.OOT

        def __init__(self) -> None:
            super().__init__()
            if platform.machine().lower() in ("aarch64", "arm64"):
                _define_arm_operators()

        def get_default_attention_backend(self) -> str:
            return "torch_native"

        def get_dispatch_key_name(self) -> str:
            return "native"

        def get_kv_pool_cls(self, *, kind: str) -> type | None:
            if kind != "mha":
                return None
            from sglang.srt.mem_cache.memory_pool import MHATokenToKVPool

            return MHATokenToKVPool  # type: ignore[no-any-return]

        def init_backend(self) -> None:
            from sglang.srt.layers.attention.attention_registry import register_attention_backend

            from eager_sgl.embedded.cpu_attention import BatchedDecodeBackend

            # Under SGLang's own name: its checks of server arguments know no other.
            register_attention_backend("torch_native")(BatchedDecodeBackend)

        def get_compile_backend(self, mode: str | None = None) -> str:
            # The default, inductor, needs a C++ compiler and seconds per compiled function.
            return "eager"

    return CpuTorchPlatform


def _define_arm_operators() -> None:
    """Stand in for two operators that SGLang calls on ARM even without its compiled kernels.

    They pin threads and prepare communication between ranks; a single rank needs neither.
    """
    import torch

    for name, signature in ARM_OPERATORS.items():
        if not hasattr(torch.ops.sgl_kernel, name):
            operator = f"sgl_kernel::{name}"
            torch.library.define(operator, signature)
            torch.library.impl(operator, "default", lambda *arguments: None)
