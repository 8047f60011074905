"""The entry point of the hooks that make SGLang's steps faster on a CPU.

It is `eager_sgl_cpu_steps`, in the group `sglang.srt.plugins`: `cpu_sampler` draws tokens, and
`cpu_mixed` admits branches beside running sequences. Every SGLang process of the user's machine
imports this module, so its import loads nothing heavy.
"""

from __future__ import annotations

import sys

from eager_sgl.embedded.cpu_platform import activate
from eager_sgl.plugin.register import KNOWN_VERSIONS

__all__ = ["register"]


def register() -> None:
    """Hook the steps of a server that computes on `CpuTorchPlatform`."""
    if "sglang.srt.managers.scheduler" not in sys.modules or activate() is None:
        return
    import sglang
    from sglang.srt.plugins.hook_registry import HookRegistry, HookType

    if sglang.__version__ not in KNOWN_VERSIONS:
        return
    from eager_sgl.embedded import cpu_mixed, cpu_sampler

    for target, hook, kind in (*cpu_sampler.HOOKS, *cpu_mixed.HOOKS):
        HookRegistry.register(target, hook, HookType[kind])
