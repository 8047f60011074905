"""The curves of a comparison as a PNG file: pass against tokens, a panel per temperature."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.artist import Artist
from matplotlib.figure import Figure

from evals.comparison.compare import MeanCurve
from evals.report.page.plots import COLOURS, INK, log_tokens

__all__ = ["draw_curves"]


def draw_curves(curves: Sequence[MeanCurve], path: Path) -> None:
    """Draw the mean curves of all methods, dashed where prompts share their tokens."""
    temperatures = sorted({curve.temperature for curve in curves})
    figure = Figure(figsize=(4.6 * len(temperatures), 4.4), layout="constrained")
    panels = figure.subplots(1, len(temperatures), sharey=True, squeeze=False)[0]
    lines: dict[str, Artist] = {}
    for panel, temperature in zip(panels, temperatures, strict=True):
        for curve in curves:
            if curve.temperature == temperature:
                (line,) = panel.plot(
                    curve.tokens[1:],
                    curve.passes[1:],
                    "--" if curve.is_shared else "-",
                    color=COLOURS.get(curve.method, INK),
                    linewidth=1.4,
                )
                lines.setdefault(curve.label, line)
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(alpha=0.25)
        log_tokens(panel)
        panel.set_title(f"τ = {temperature:g}", loc="left")
    panels[0].set_ylabel("share of prompts with a correct sequence")
    figure.legend(lines.values(), lines.keys(), loc="outside lower center", ncols=4, fontsize=8)
    figure.savefig(path, dpi=110)
