"""The plots of a run as PNG files, from the points that its page draws."""

from __future__ import annotations

from pathlib import Path

from matplotlib import colors as mcolors
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from evals.report.page.plot_data import Pareto, ParetoLine, Plots

__all__ = ["COLOURS", "INK", "draw_plots", "log_tokens"]

COLOURS = {
    "parallel": "#6b7280",
    "eager_init": "#2563eb",
    "eager_adapt": "#b45309",
    "eager": "#9333ea",
    "best_first": "#0d9488",
    "swor": "#db2777",
    "trie_parallel": "#ea580c",
}
MARKERS = {
    "parallel": ".",
    "eager_init": "s",
    "eager_adapt": "^",
    "eager": "D",
    "best_first": "o",
    "swor": "v",
    "trie_parallel": "P",
}
DASHES = ("-", "--", ":", "-.")
LEVELS = (("o", "#0d9488"), ("s", "#2563eb"), ("^", "#9333ea"), ("D", "#db2777"), ("v", "#b45309"))
INK = "#1c1f24"


def draw_plots(plots: Plots, folder: Path) -> None:
    """Write `pareto.png`, `entropy.png` and `budget.png`."""
    for name, draw in PLOTS.items():
        figure = Figure(figsize=(7.2, 4.6), layout="constrained")
        axes = figure.subplots()
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
        draw(axes, plots)
        handles, labels = axes.get_legend_handles_labels()
        if labels:
            figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8)
        figure.savefig(folder / f"{name}.png", dpi=150)


def log_tokens(axes: Axes) -> None:
    """Tokens per prompt on a logarithmic x axis."""
    axes.set(xscale="log", xlabel="tokens generated per prompt")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _pareto(axes: Axes, plots: Plots) -> None:
    pareto = plots.pareto
    for index, curve in enumerate(pareto.curves):
        label = "parallel, unbiased Pass@k"
        if len(pareto.curves) > 1:
            label += f", τ = {curve.temperature:g}"
        tokens, values, _ = zip(*curve.points, strict=True)
        dash = DASHES[index % len(DASHES)]
        axes.plot(tokens, values, dash, color=COLOURS["parallel"], label=label)
    _pareto_lines(axes, pareto)
    log_tokens(axes)
    axes.set_ylabel("Pass@k")
    axes.set_title("Tokens against Pass@k", loc="left")


def _pareto_lines(axes: Axes, pareto: Pareto) -> None:
    """One per method, θ and τ; the legend has those of θ and τ that vary."""
    settings = list(dict.fromkeys((line.theta, line.temperature) for line in pareto.lines))
    thetas, temperatures = {theta for theta, _ in settings} - {None}, {tau for _, tau in settings}
    for line in pareto.lines:
        label = line.name
        if line.theta is not None and len(thetas) > 1:
            label += f", θ = {line.theta}"
        if len(temperatures) > 1:
            label += f", τ = {line.temperature:g}"
        tokens, values, _ = zip(*sorted(line.points), strict=True)
        dash = DASHES[settings.index((line.theta, line.temperature)) % len(DASHES)]
        axes.plot(
            tokens,
            values,
            dash,
            label=label,
            color=COLOURS.get(line.method, INK),
            marker=MARKERS.get(line.method, "o"),
            markerfacecolor=_fill(line),
        )


def _fill(line: ParetoLine) -> str:
    """Of a marker: hollow where extra sequences resume."""
    return COLOURS.get(line.method, INK) if line.name == line.method else "white"


def _entropy(axes: Axes, plots: Plots) -> None:
    points = plots.entropy
    known = sorted({point.level for point in points if point.level is not None})
    levels: list[int | None] = [*known] or [None]
    for index, level in enumerate(levels):
        marker, colour = LEVELS[index % len(LEVELS)]
        of_level = [(p.peak_entropy, p.pass_rate) for p in points if p.level == level]
        if of_level:
            label = "all prompts" if level is None else f"level {level}"
            axes.scatter(
                *zip(*of_level, strict=True), marker=marker, color=colour, alpha=0.7, label=label
            )
    axes.set(xlabel="mean peak entropy of a prompt (nats)", ylabel="pass rate", ylim=(-0.03, 1.03))
    title, correlation = "Peak entropy against pass rate", plots.correlation
    if correlation and correlation.spearman is not None:
        title += f"\nSpearman ρ = {correlation.spearman:.3f}, p = {correlation.p_value:.1e}"
    axes.set_title(title, loc="left")


def _budget(axes: Axes, plots: Plots) -> None:
    budget = plots.budget
    levels = list(dict.fromkeys(at.level for m in budget.methods for at in m.levels))
    width = 0.8 / max(1, len(budget.methods))
    for index, method in enumerate(budget.methods):
        lefts = [levels.index(at.level) + index * width for at in method.levels]
        before = [at.stage_one for at in method.levels]
        extra = [at.in_all - at.stage_one for at in method.levels]
        colour = COLOURS.get(method.method, INK)
        shade = mcolors.to_rgba(colour, 1.0 if method.name == method.method else 0.55)
        axes.bar(lefts, before, width * 0.92, color=shade, label=method.name)
        axes.bar(lefts, extra, width * 0.92, before, color=colour, alpha=0.5, hatch="///")
    middles = [index + 0.4 - width / 2 for index in range(len(levels))]
    axes.set_xticks(middles, ["all" if level is None else str(level) for level in levels])
    axes.axhline(budget.max_sequences, color=INK, linestyle=":", linewidth=1)
    axes.set(xlabel="level", ylabel="sequences per prompt")
    axes.set_title("Where the budget went (hatched: added by stage two)", loc="left")


PLOTS = {"pareto": _pareto, "entropy": _entropy, "budget": _budget}
"""The plots by the names of their files."""
