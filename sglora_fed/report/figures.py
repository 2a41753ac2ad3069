"""Figures of a run: means with intervals, clients against the oracle, cost against accuracy."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sglora_fed.experiments.results import Row
from sglora_fed.report.words import (
    cells,
    main_metric,
    ordered_methods,
    ordered_splits,
)

DPI = 150
INK = "#222222"
COLOURS: Mapping[str, str] = {
    "no adapter": "#9a9a9a",
    "merged from the zoo": "#56b4e9",
    "generated": "#d55e00",
    "one for everybody": "#cc79a7",
    "trained by the client": "#009e73",
    "controls": "#c9c9c9",
}
"""Okabe & Ito's palette, which colour-blind readers can tell apart."""


def draw_figures(summary: Mapping[str, Any], rows: Sequence[Row]) -> dict[str, bytes]:
    """File name -> PNG, for every figure that the run has data for."""
    figures = {"means.png": means_figure(summary)}
    scatter = scatter_figure(summary, rows)
    if scatter is not None:
        figures["oracle.png"] = scatter
    figures["cost.png"] = cost_figure(summary)
    if summary.get("confidence"):
        figures["confidence.png"] = confidence_figure(summary, rows)
    return {name: _png(figure) for name, figure in figures.items()}


def means_figure(summary: Mapping[str, Any]) -> Figure:
    """Bars of every method with 95 % intervals, one panel per split."""
    found, splits = _found(summary)
    groups = ordered_methods(method for method, _ in found)
    methods = [(group, method) for group, members in groups for method in members]
    figure, axes = _panels(len(splits), width=2.9, height=0.28 * len(methods) + 1.2)
    for axis, split in zip(axes, splits, strict=True):
        shown = [(g, m, found[m, split]) for g, m in methods if (m, split) in found]
        values = np.array([result["mean"] for _, _, result in shown]) * 100
        bounds = np.array([result["ci95"] for _, _, result in shown]) * 100
        places = -np.arange(len(shown))
        axis.barh(places, values, color=[COLOURS[g] for g, _, _ in shown], height=0.72)
        axis.errorbar(
            values,
            places,
            xerr=np.abs(bounds.T - values),
            fmt="none",
            ecolor=INK,
            elinewidth=1,
            capsize=2,
        )
        axis.set_yticks(places, [method for _, method, _ in shown])
        axis.set_title(split, fontsize=10, loc="left")
        axis.set_xlabel(f"{main_metric(summary)}, %")
        axis.set_xlim(0, 100)
        axis.grid(axis="x", alpha=0.25)
    return figure


def scatter_figure(summary: Mapping[str, Any], rows: Sequence[Row]) -> Figure | None:
    """Each client's accuracy with the adopted adapter and with top-K, against its oracle."""
    values = _client_values(summary, rows)
    adopted = str(summary["run"].get("generator", "ridge"))
    if "oracle" not in {method for _, method in values} or not values:
        return None
    splits = ordered_splits(split for split, _ in values)
    figure, axes = _panels(len(splits), width=2.9, height=3.1)
    for axis, split in zip(axes, splits, strict=True):
        oracle = values[split, "oracle"]
        axis.plot([0, 100], [0, 100], color=INK, linewidth=0.8, linestyle=":")
        for method, colour in (("topk", COLOURS["merged from the zoo"]), (adopted, "#d55e00")):
            own = values.get((split, method), {})
            clients = sorted(set(own) & set(oracle))
            axis.scatter(
                [100 * oracle[c] for c in clients],
                [100 * own[c] for c in clients],
                s=18,
                alpha=0.8,
                color=colour,
                edgecolors="white",
                linewidths=0.4,
                label=method,
            )
        axis.set(xlim=(0, 102), ylim=(0, 102), xlabel="oracle, %", ylabel="method, %")
        axis.set_title(split, fontsize=10, loc="left")
        axis.legend(loc="lower right", fontsize=8, frameon=False)
        axis.grid(alpha=0.2)
    return figure


def cost_figure(summary: Mapping[str, Any]) -> Figure:
    """Mean over splits against the client's own seconds, logarithmic."""
    found, splits = _found(summary)
    figure, (axis,) = _panels(1, width=6.5, height=3.6)
    for group, methods in ordered_methods(method for method, _ in found):
        for method in methods:
            results = [found[method, split] for split in splits if (method, split) in found]
            accuracy = 100 * float(np.mean([result["mean"] for result in results]))
            seconds = max(results[0]["client_seconds"], 1e-3)
            axis.scatter(
                seconds, accuracy, color=COLOURS[group], s=40, edgecolors=INK, linewidths=0.4
            )
            axis.annotate(
                method, (seconds, accuracy), fontsize=8, xytext=(5, 3), textcoords="offset points"
            )
    axis.set_xscale("log")
    axis.margins(x=0.2)
    axis.set(
        xlabel="seconds on the client, training and evaluation (log)",
        ylabel=f"{main_metric(summary)}, mean of splits, %",
    )
    axis.grid(alpha=0.25, which="both")
    return figure


def confidence_figure(summary: Mapping[str, Any], rows: Sequence[Row]) -> Figure:
    """Gain over zero-shot against the similarity of the nearest expert."""
    values = _client_values(summary, rows)
    adopted = str(summary["run"].get("generator", "ridge"))
    figure, (axis,) = _panels(1, width=6.5, height=3.4)
    markers = "os^Dv<>P"
    for number, split in enumerate(ordered_splits(split for split, _ in values)):
        own, floor = values.get((split, adopted), {}), values.get((split, "zero_shot"), {})
        clients = sorted(set(own) & set(floor) & set(summary["confidence"]))
        axis.scatter(
            [summary["confidence"][c][0] for c in clients],
            [100 * (own[c] - floor[c]) for c in clients],
            s=20,
            alpha=0.8,
            marker=markers[number % len(markers)],
            label=split,
        )
    axis.axhline(0, color=INK, linewidth=0.8)
    axis.set(
        xlabel="cosine to the nearest expert's description",
        ylabel=f"{adopted} minus zero_shot, points",
    )
    axis.legend(fontsize=8, frameon=False)
    axis.grid(alpha=0.25)
    return figure


def _found(
    summary: Mapping[str, Any],
) -> tuple[dict[tuple[str, str], Mapping[str, Any]], list[str]]:
    found = cells(summary, main_metric(summary))
    return found, ordered_splits(split for _, split in found)


def _client_values(
    summary: Mapping[str, Any], rows: Sequence[Row]
) -> dict[tuple[str, str], dict[str, float]]:
    """(split, method) -> client -> mean over seeds of the main metric."""
    metric, lists = main_metric(summary), defaultdict(list)
    for row in rows:
        if row.metric == metric:
            lists[row.split, row.method, row.client].append(row.value)
    found: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for (split, method, client), values in lists.items():
        found[split, method][client] = float(np.mean(values))
    return dict(found)


def _panels(count: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure of its own with panels in rows of two; no global state."""
    columns = min(count, 2)
    rows = -(-count // columns)
    figure = Figure(figsize=(width * columns + 0.9, height * rows), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False)
    axes = list(grid.flat)
    for spare in axes[count:]:
        spare.set_visible(False)
    for axis in axes[:count]:
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    return figure, axes[:count]


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=DPI, format="png", metadata={"Software": None})
    return buffer.getvalue()
