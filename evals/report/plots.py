"""The plots of a run as PNG files, from the same data that its page draws."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import colors as mcolors
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

__all__ = ["COLOURS", "OTHER", "PLOTS", "draw_plots"]

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
OTHER = "#1c1f24"


def draw_plots(data: dict[str, Any], folder: Path) -> None:
    """Write `pareto.png`, `entropy.png` and `budget.png`.

    Args:
        data: from `page_data`.
    """
    for name, draw in PLOTS.items():
        figure = Figure(figsize=(7.2, 4.6), layout="constrained")
        axes = figure.subplots()
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
        draw(axes, data)
        handles, labels = axes.get_legend_handles_labels()
        if labels:
            figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8)
        figure.savefig(folder / f"{name}.png", dpi=150)


def _pareto(axes: Axes, data: dict[str, Any]) -> None:
    curves, lines = data["pareto"]["curves"], data["pareto"]["lines"]
    for curve, dash in zip(curves, _cycled(DASHES, len(curves)), strict=True):
        label = _named("parallel, unbiased Pass@k", curve, ["temperature"] * (len(curves) > 1))
        tokens, values, _ = zip(*curve["points"], strict=True)
        axes.plot(tokens, values, dash, color=COLOURS["parallel"], label=label)
    places = list(dict.fromkeys((line["theta"], line["temperature"]) for line in lines))
    swept = ["theta"] * (len({theta for theta, _ in places if theta is not None}) > 1)
    swept += ["temperature"] * (len({place[1] for place in places}) > 1)
    for line in lines:
        tokens, values, _ = zip(*sorted(line["points"]), strict=True)
        dash = DASHES[places.index((line["theta"], line["temperature"])) % len(DASHES)]
        axes.plot(tokens, values, dash, label=_named(line["name"], line, swept), **_style(line))
    axes.set(xscale="log", xlabel="tokens generated per prompt", ylabel="Pass@k")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_title("Tokens against Pass@k", loc="left")


def _style(line: dict[str, Any]) -> dict[str, Any]:
    method = line["method"]
    resumed = {} if line["name"] == method else {"markerfacecolor": "white"}
    return {"color": COLOURS.get(method, OTHER), "marker": MARKERS.get(method, "o"), **resumed}


def _named(method: str, line: dict[str, Any], swept: Sequence[str]) -> str:
    signs = {"theta": "θ", "temperature": "τ"}
    values = {name: line[name] for name in swept if line[name] is not None}
    texts = {name: v if isinstance(v, str) else f"{v:g}" for name, v in values.items()}
    return ", ".join([method, *(f"{signs[name]} = {text}" for name, text in texts.items())])


def _cycled(values: Sequence[str], count: int) -> list[str]:
    return [values[index % len(values)] for index in range(count)]


def _entropy(axes: Axes, data: dict[str, Any]) -> None:
    points = data["entropy"]
    levels = sorted({level for _, _, level, _ in points if level is not None}) or [None]
    for index, level in enumerate(levels):
        marker, colour = LEVELS[index % len(LEVELS)]
        own = [(peak, rate) for peak, rate, each, _ in points if each == level]
        if own:
            label = "all prompts" if level is None else f"level {level}"
            axes.scatter(
                *zip(*own, strict=True), marker=marker, color=colour, alpha=0.7, label=label
            )
    axes.set(xlabel="mean peak entropy of a prompt (nats)", ylabel="pass rate", ylim=(-0.03, 1.03))
    figures = data["summary"]["entropy_pass_rate"]
    title = "Peak entropy against pass rate"
    if figures and figures["spearman"] is not None:
        title += f"\nSpearman ρ = {figures['spearman']:.3f}, p = {figures['p_value']:.1e}"
    axes.set_title(title, loc="left")


def _budget(axes: Axes, data: dict[str, Any]) -> None:
    budget = data["budget"]
    levels = list(dict.fromkeys(each[0] for m in budget["methods"] for each in m["levels"]))
    width = 0.8 / max(1, len(budget["methods"]))
    for index, method in enumerate(budget["methods"]):
        places = [levels.index(each[0]) + index * width for each in method["levels"]]
        before = [each[1] for each in method["levels"]]
        extra = [each[2] - each[1] for each in method["levels"]]
        colour = COLOURS.get(method["method"], OTHER)
        own = mcolors.to_rgba(colour, 1.0 if method["name"] == method["method"] else 0.55)
        axes.bar(places, before, width * 0.92, color=own, label=method["name"])
        axes.bar(places, extra, width * 0.92, before, color=colour, alpha=0.5, hatch="///")
    middle = [index + 0.4 - width / 2 for index in range(len(levels))]
    axes.set_xticks(middle, ["all" if level is None else str(level) for level in levels])
    axes.axhline(budget["max_sequences"], color=OTHER, linestyle=":", linewidth=1)
    axes.set(xlabel="level", ylabel="sequences per prompt")
    axes.set_title("Where the budget went (hatched: added by stage two)", loc="left")


PLOTS = {"pareto": _pareto, "entropy": _entropy, "budget": _budget}
"""What is drawn, by the name of its file."""
