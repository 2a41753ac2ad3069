"""How figures are drawn: panels, colours, marks and names; nothing of what they show."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import isotonic_regression

from sglora_fed.report.words import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 150
INK, SOFT, ADOPTED = "#24292f", "#6e7781", "#d55e00"
COLOURS: Mapping[str, str] = {
    "no adapter": "#8c959f",
    "merged": "#56b4e9",
    "generated": "#e69f00",
    "one for all": "#cc79a7",
    "by confidence": "#0072b2",
    "trained locally": "#009e73",
    "controls": "#c4c9ce",
}
"""Okabe & Ito's palette, which colour-blind readers can tell apart; the adopted generator has a
colour of its own."""

SPLIT_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8c959f")
MARKERS = "os^Dv<>P"
PANELS = 4
"""Panels in one row."""

LONGEST_NAME = 24
"""Letters of a name that fit beside or above a panel."""


def bar(axis: Axes, place: float, result: Mapping[str, Any], colour: str) -> None:
    """A mean with its number behind it and its 95 % interval, if it has one, on it."""
    mean = result["mean"]
    low, high = result["ci95"] or (mean, mean)
    axis.barh(place, 100 * mean, color=colour, height=0.74)
    axis.hlines(place, 100 * low, 100 * high, color=INK, linewidth=1.1)
    behind = 100 * max(high, mean) + 2
    axis.text(behind, place, percent(mean), va="center", fontsize=7, color=INK)


def dots(axis: Axes, pairs: np.ndarray, colour: str, marker: str, label: str) -> None:
    """A cloud of clients, [n, 2]."""
    axis.scatter(
        pairs[:, 0],
        pairs[:, 1],
        s=20,
        alpha=0.75,
        color=colour,
        marker=marker,
        edgecolors="white",
        linewidths=0.4,
        label=label,
        zorder=3,
    )


def name_points(
    axis: Axes, points: Sequence[tuple[float, float, str]], adopted: str, columns: int = 14
) -> None:
    """Write names beside points, pushed apart where points of about the same cost crowd."""
    low, high = axis.get_ylim()
    left, right = np.log(axis.get_xlim())
    crowds: dict[int, list[tuple[float, float, str]]] = defaultdict(list)
    for point in points:
        crowds[int(columns * (np.log(point[0]) - left) / (right - left))].append(point)
    for crowd in crowds.values():
        crowd.sort(key=lambda point: point[1])
        places = spread([mean for _, mean, _ in crowd], 0.05 * (high - low))
        for (seconds, mean, method), place in zip(crowd, places, strict=True):
            axis.annotate(
                short_label(method),
                (seconds, mean),
                xytext=(seconds * np.exp(0.025 * (right - left)), place),
                fontsize=8,
                va="center",
                color=INK,
                fontweight="bold" if method == adopted else "normal",
                arrowprops={"arrowstyle": "-", "color": "#c4c9ce", "linewidth": 0.7},
            )


def spread(values: Sequence[float], gap: float) -> list[float]:
    """Ascending ``values`` moved as little as needed to lie at least ``gap`` apart.

    Least squares: an isotonic regression (Ayer et al. 1955) after the spacing is taken out.
    """
    steps = gap * np.arange(len(values))
    found = isotonic_regression(np.asarray(values) - steps).x + steps
    return [float(place) for place in found]


def panels(
    count: int, width: float, height: float, columns: int = PANELS
) -> tuple[Figure, list[Axes]]:
    """A figure of its own with panels in rows; nothing of pyplot's global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(count, columns)
    rows = -(-count // columns)
    figure = Figure(figsize=(width * columns + 0.5, height * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for spare in axes[count:]:
        spare.remove()
    for axis in axes[:count]:
        axis.spines[["top", "right"]].set_visible(False)
        axis.spines[["left", "bottom"]].set_color("#8c959f")
        axis.tick_params(labelsize=8, color="#8c959f", labelcolor=INK)
        axis.xaxis.label.set(fontsize=8.5, color=INK)
        axis.yaxis.label.set(fontsize=8.5, color=INK)
        axis.set_axisbelow(True)
        axis.grid(alpha=0.25)
    return figure, axes[:count]


def legend(figure: Figure, axis: Axes) -> None:
    """The panel's labels above all panels."""
    handles, labels = axis.get_legend_handles_labels()
    columns = 2 if max(map(len, labels), default=0) > 20 else len(labels)
    figure.legend(
        handles, labels, loc="outside upper center", ncols=columns, fontsize=8, frameon=False
    )


def short_label(name: str) -> str:
    """A name that came from outside: as text and not as a formula, and not without end."""
    short = name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"
    return short.replace("$", r"\$")


def png(figure: Figure) -> bytes:
    """The figure's pixels as a file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=DPI, format="png", metadata={"Software": None})
    return buffer.getvalue()
