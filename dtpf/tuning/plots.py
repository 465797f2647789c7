"""Plots of a search, in the style of the evaluation report: SVG that follows the page's theme."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import (
    EngFormatter,
    FormatStrFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
)

from dtpf.evaluation.plots import ACCENT, GRID, INK, MUTED, SERIES, STYLE, svg
from dtpf.tuning.trials import Trial
from dtpf.tuning.winner import pareto_front

_MARKS = {"finished": "o", "stopped": "x", "running": ".", "failed": "x", "pending": "."}


def pareto(
    trials: Sequence[Trial], costs: Sequence[float], cost_label: str, winner: int | None
) -> str:
    """Return retention against cost; the front joins the trials that no other beats in both.

    Args:
        trials: each with a retention.
        costs: one a trial.
        cost_label: axis title, with its unit.
        winner: number of the chosen trial.
    """
    points = [(cost, trial.retention or 0.0) for cost, trial in zip(costs, trials, strict=True)]
    whole = [index for index, trial in enumerate(trials) if trial.status == "finished"]
    front = [whole[index] for index in pareto_front([points[index] for index in whole])]
    with mpl.rc_context(STYLE | {"svg.hashsalt": "tune-pareto"}):
        figure = Figure(figsize=(4.6, 3.2))
        axes = figure.subplots()
        stairs = np.array([points[index] for index in front]).reshape(-1, 2)
        axes.step(*stairs.T, where="post", color=ACCENT, linewidth=1.4)
        for trial, (cost, retention) in zip(trials, points, strict=True):
            _dot(axes, cost, retention, trial, winner)
        axes.margins(0.12)
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.set_xlabel(cost_label)
        axes.set_ylabel("retention")
        return svg(figure, "Pareto front: retention against cost")


def effect(trials: Sequence[Trial], name: str, logarithmic: bool, winner: int | None) -> str:
    """Return retention against one parameter; steps for numbers, columns for anything else."""
    values = [trial.setting[name] for trial in trials]
    numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    shown = [str(value) for value in values]
    names = sorted(set(shown))
    places = [float(v) for v in values] if numeric else [float(names.index(v)) for v in shown]
    with mpl.rc_context(STYLE | {"svg.hashsalt": f"tune-effect-{name}"}):
        figure = Figure(figsize=(3.4, 2.4))
        axes = figure.subplots()
        if logarithmic:
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=6))
            axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
            axes.xaxis.set_minor_formatter(NullFormatter())
        elif all(isinstance(value, int) for value in values):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if not numeric:
            axes.set_xticks(range(len(names)), names)
        for trial, place in zip(trials, places, strict=True):
            _dot(axes, place, trial.retention or 0.0, trial, winner, size=5)
        _trend(axes, np.array(places), np.array([t.retention or 0.0 for t in trials]), logarithmic)
        axes.margins(0.12)
        axes.set_xlabel(name)
        axes.set_ylabel("retention")
        return svg(figure, f"Effect of {name} on retention")


def parallel_coordinates(
    trials: Sequence[Trial], names: Sequence[str], log: Mapping[str, bool], winner: int | None
) -> str:
    """Return one line a trial over one axis a parameter; the last axis is retention.

    Every axis runs from its smallest value in these trials to its largest.
    """
    columns = {name: _column([trial.setting[name] for trial in trials]) for name in names}
    columns["retention"] = _column([trial.retention or 0.0 for trial in trials])
    with mpl.rc_context(STYLE | {"svg.hashsalt": "tune-parallel", "axes.grid": False}):
        figure = Figure(figsize=(max(4.6, 1.5 * len(columns)), 3.4))
        axes = figure.subplots()
        heights = np.array(
            [_scaled(places, log.get(name, False)) for name, (places, _) in columns.items()]
        )
        ranks = np.argsort(np.argsort(columns["retention"][0]))
        for index in np.argsort(ranks):
            chosen = trials[index].number == winner
            strength = 0.15 + 0.6 * ranks[index] / max(len(trials) - 1, 1)
            color, width = (ACCENT, 2.6) if chosen else (SERIES[1], 1.3)
            axes.plot(
                heights[:, index], color=color, linewidth=width, alpha=1 if chosen else strength
            )
        for place, (name, (_, ends)) in enumerate(columns.items()):
            axes.axvline(place, color=GRID, linewidth=1)
            axes.text(place, 1.04, ends[1], ha="center", color=MUTED)
            axes.text(place, -0.04, ends[0], ha="center", va="top", color=MUTED)
            label = name.replace(".", ".\n")
            axes.text(place, -0.15, label, ha="center", va="top", color=INK)
        axes.set_axis_off()
        return svg(figure, "Parallel coordinates: every trial's setting and its retention")


def rounds(trials: Sequence[Trial], winner: int | None) -> str:
    """Return each trial's retention by round: where early stopping cut."""
    with mpl.rc_context(STYLE | {"svg.hashsalt": "tune-rounds"}):
        figure = Figure(figsize=(4.6, 3.2))
        axes = figure.subplots()
        for trial in trials:
            chosen = trial.number == winner
            steps = [number for number, _ in trial.history]
            reached = [retention for _, retention in trial.history]
            color = ACCENT if chosen else MUTED
            line = "-" if trial.status == "finished" else ":"
            axes.plot(steps, reached, line, color=color, linewidth=2.4 if chosen else 1.1)
            axes.plot(steps[-1:], reached[-1:], _MARKS[trial.status], color=color, markersize=6)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("round")
        axes.set_ylabel("retention")
        return svg(figure, "Retention by round")


def _dot(axes: Axes, x: float, y: float, trial: Trial, winner: int | None, size: float = 7) -> None:
    chosen, whole = trial.number == winner, trial.status == "finished"
    color = ACCENT if chosen else SERIES[1] if whole else MUTED
    fill = color if chosen else "none"
    mark = _MARKS[trial.status]
    axes.plot(x, y, mark, color=color, markerfacecolor=fill, markersize=size + 3 * chosen)
    if chosen:
        axes.annotate("winner", (x, y), xytext=(8, -12), textcoords="offset points")


def _trend(axes: Axes, x: np.ndarray, y: np.ndarray, logarithmic: bool) -> None:
    """Draw the least-squares line where there is enough to fit one."""
    if len(set(x.tolist())) < 3:
        return
    places = np.log(x) if logarithmic else x
    slope, level = np.polyfit(places, y, 1)
    order = np.argsort(x)
    axes.plot(x[order], slope * places[order] + level, "--", color=MUTED, linewidth=1)


def _column(values: Sequence[Any]) -> tuple[np.ndarray, tuple[str, str]]:
    """Return where values stand on an axis, and what is written at its ends."""
    if all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        places = np.array(values, dtype=float)
        return places, (f"{places.min():.3g}", f"{places.max():.3g}")
    names = sorted({str(value) for value in values})
    return np.array([float(names.index(str(v))) for v in values]), (names[0], names[-1])


def _scaled(places: np.ndarray, logarithmic: bool) -> np.ndarray:
    values = np.log(places) if logarithmic and places.min() > 0 else places
    spread = values.max() - values.min()
    return (values - values.min()) / spread if spread > 0 else np.full(len(values), 0.5)
