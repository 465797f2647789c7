"""Plots of the report as inline SVG whose colours follow the page's light or dark theme."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dtpf.evaluation.score_table import ScoreTable

# Matplotlib writes fixed colours: these stand-ins are replaced by the page's CSS variables.
INK, MUTED, GRID, ACCENT = "#010101", "#020202", "#030303", "#040404"
SERIES = tuple(f"#0500{index:02x}" for index in range(1, 7))
_VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--line", ACCENT: "--accent"} | {
    stand_in: f"--series-{index}" for index, stand_in in enumerate(SERIES, start=1)
}
_MOST_POINTS = 300
_LEGEND_COLUMNS = 3
_WIDE = 20.0  # ratio of typical values
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "xtick.color": MUTED,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}


@dataclass(frozen=True)
class Curve:
    """One line of a loss plot: `name` is `plot/line`, lines of one plot share the first part."""

    name: str
    steps: Sequence[float]
    values: Sequence[float]


def distribution(table: ScoreTable, metric: str) -> str:
    """Return a box for each method over all pairs of the table, with every pair as a dot."""
    methods = list(reversed(table.methods))
    values = [table.values(method, metric) for method in methods]
    with mpl.rc_context(STYLE | {"svg.hashsalt": f"distribution-{metric}"}):
        figure = Figure(figsize=(4.6, 0.6 + 0.36 * len(methods)))
        axes = figure.subplots()
        line = {"color": MUTED, "linewidth": 1.0}
        axes.boxplot(
            values,
            orientation="horizontal",
            tick_labels=methods,
            showfliers=False,
            widths=0.5,
            boxprops=line,
            whiskerprops=line,
            capprops=line,
            medianprops={"color": ACCENT, "linewidth": 2.2},
        )
        for row, points in enumerate(values, start=1):
            axes.plot(
                points, _jittered(row, points.size), ".", color=INK, alpha=0.3, markersize=3.5
            )
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        return svg(figure, f"Distribution of {metric} over the pairs, by method")


def curves(title: str, lines: Sequence[Curve]) -> str:
    """Return one loss plot; each curve's legend entry is the part of its name after `/`.

    The axis is logarithmic where terms differ so much that the small ones would lie flat.
    """
    with mpl.rc_context(STYLE | {"svg.hashsalt": f"curves-{title}"}):
        figure = Figure(figsize=(4.6, 2.6 + 0.22 * -(-len(lines) // _LEGEND_COLUMNS)))
        axes = figure.subplots()
        for index, curve in enumerate(lines):
            steps, values = _thinned(np.asarray(curve.steps), np.asarray(curve.values))
            label = curve.name.partition("/")[2] or curve.name
            color = SERIES[index % len(SERIES)]
            style = "-" if index < len(SERIES) else "--"
            axes.plot(steps, values, style, color=color, linewidth=1.6, label=label)
        axes.set_xlabel("step")
        if _spread_widely(lines):
            axes.set_yscale("log")
        _outside_legend(axes, len(lines))
        return svg(figure, f"{title}: loss by step")


def _jittered(row: int, count: int) -> NDArray:
    return row + np.random.default_rng(row).uniform(-0.17, 0.17, count)


def _thinned(steps: NDArray, values: NDArray) -> tuple[NDArray, NDArray]:
    """Return at most _MOST_POINTS points: means of equally long stretches."""
    if steps.size <= _MOST_POINTS:
        return steps, values
    stretches = np.array_split(np.arange(steps.size), _MOST_POINTS)
    return (
        np.array([steps[part].mean() for part in stretches]),
        np.array([values[part].mean() for part in stretches]),
    )


def _spread_widely(lines: Sequence[Curve]) -> bool:
    middles = [float(np.median(curve.values)) for curve in lines]
    lowest = min(min(curve.values) for curve in lines)
    return lowest > 0 and max(middles) > _WIDE * min(middles)


def _outside_legend(axes: Axes, entries: int) -> None:
    if entries > 1:
        axes.figure.legend(
            *axes.get_legend_handles_labels(),
            loc="outside upper left",
            ncols=min(entries, _LEGEND_COLUMNS),
        )


def svg(figure: Figure, description: str) -> str:
    """Return the figure as an <svg> element that scales with its container."""
    figure.patch.set_alpha(0.0)
    for axes in figure.axes:
        axes.patch.set_alpha(0.0)
    sink = io.StringIO()
    FigureCanvasSVG(figure).print_svg(sink, metadata={"Date": None, "Title": description})
    text = sink.getvalue()
    text = text[text.index("<svg") :]
    # Group names repeat in every figure of a page; what is referred to has a salted id of its own.
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    for stand_in, variable in _VARIABLES.items():
        text = text.replace(stand_in, f"var({variable})")
    return text.replace("<svg ", '<svg class="plot" role="img" ', 1)
