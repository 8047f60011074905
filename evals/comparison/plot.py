"""The curves of a comparison as a PNG file: pass against tokens, a panel per temperature."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from evals.report.plots import COLOURS, OTHER

__all__ = ["draw_curves"]


def draw_curves(curves: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw every method's mean curve, dashed where prompts share their tokens.

    Args:
        curves: as `compare.json` has them.
    """
    temperatures = sorted({curve["temperature"] for curve in curves})
    figure = Figure(figsize=(4.6 * len(temperatures), 4.4), layout="constrained")
    panels = figure.subplots(1, len(temperatures), sharey=True, squeeze=False)[0]
    labels: dict[str, Any] = {}
    for panel, temperature in zip(panels, temperatures, strict=True):
        for curve in curves:
            if curve["temperature"] == temperature:
                (line,) = panel.plot(
                    curve["tokens"][1:],
                    curve["passes"][1:],
                    "--" if curve["is_shared"] else "-",
                    color=COLOURS.get(curve["method"], OTHER),
                    linewidth=1.4,
                )
                labels.setdefault(curve["label"], line)
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(alpha=0.25)
        panel.set(xscale="log", xlabel="tokens generated per prompt")
        panel.set_title(f"τ = {temperature:g}", loc="left")
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        panel.xaxis.set_minor_formatter(NullFormatter())
    panels[0].set_ylabel("pass: a correct sequence is there")
    figure.legend(labels.values(), labels.keys(), loc="outside lower center", ncols=4, fontsize=8)
    figure.savefig(path, dpi=110)
