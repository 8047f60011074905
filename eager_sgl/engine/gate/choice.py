"""The gates that a user allows, and those that a server can have."""

from __future__ import annotations

from typing import Literal, get_args

from eager_sgl.config import require

__all__ = ["GATE_CHOICES", "GateChoice", "GateForm", "require_gate"]

GateForm = Literal["plugin", "pickle"]
"""The plugin that is installed beside the server, or a processor that requests carry."""
GateChoice = Literal["auto", "pickle"]
"""The gates that may be used: the plugin alone, or the processor too where there is no plugin."""
GATE_CHOICES: tuple[GateChoice, ...] = get_args(GateChoice)


def require_gate(gate: str) -> None:
    """Raises ValueError where a choice is none of `GATE_CHOICES`."""
    require(gate in GATE_CHOICES, "gate", gate, f"one of {GATE_CHOICES}")
