"""The entry point of the plugin (group `sglang.srt.plugins`)."""

from __future__ import annotations

import logging
import sys

__all__ = ["KNOWN_VERSIONS", "register"]

logger = logging.getLogger(__name__)

KNOWN_VERSIONS = ("0.5.23",)
"""The hooks name private functions, so other versions of SGLang are declined."""


def register() -> None:
    """Hook SGLang's functions, in the processes of a server that need them."""
    import sglang
    from sglang.srt.plugins.hook_registry import HookRegistry, HookType

    if sglang.__version__ not in KNOWN_VERSIONS:
        logger.warning(
            "eager_sgl's gate stays off: it knows SGLang %s, and this is %s",
            ", ".join(KNOWN_VERSIONS),
            sglang.__version__,
        )
        return
    if "sglang.srt.managers.scheduler" not in sys.modules:
        return  # a process that neither checks requests nor runs them
    from eager_sgl.plugin.hooks import HOOKS

    for target, hook, kind in HOOKS:
        HookRegistry.register(target, hook, HookType[kind])
