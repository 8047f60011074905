"""SGLang's platform interface (0.5.23) on PyTorch's CPU operators."""

from __future__ import annotations

import platform

import torch
from sglang.srt.platforms.cpu import CpuDeviceMixin
from sglang.srt.platforms.device_mixin import PlatformEnum
from sglang.srt.platforms.interface import SRTPlatform

__all__ = ["CpuTorchPlatform"]

ARM_OPERATORS = {
    "init_cpu_threads_env": "(str cpu_ids) -> ()",
    "initialize": "(int size, int rank) -> ()",
}


class CpuTorchPlatform(CpuDeviceMixin, SRTPlatform):  # type: ignore[misc]
    """A CPU without SGLang's compiled kernels."""

    # Not PlatformEnum.CPU, which selects those kernels.
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

        # Under SGLang's own name, the only one that its checks of server arguments accept.
        register_attention_backend("torch_native")(BatchedDecodeBackend)

    def get_compile_backend(self, mode: str | None = None) -> str:
        # The default, inductor, needs a C++ compiler and seconds per compiled function.
        return "eager"


def _define_arm_operators() -> None:
    """Define two operators that SGLang calls on ARM even without its compiled kernels.

    SGLang's versions pin threads and prepare communication between ranks, which a single rank does
    not need.
    """
    for name, signature in ARM_OPERATORS.items():
        if not hasattr(torch.ops.sgl_kernel, name):
            operator = f"sgl_kernel::{name}"
            torch.library.define(operator, signature)
            torch.library.impl(operator, "default", lambda *arguments: None)
