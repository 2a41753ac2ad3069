"""What privacy costs a client: generated adapters beside its own fine-tuning, by epsilon."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sglora_fed.report.drawing import ADOPTED, INK, SOFT, legend, panels, short_label
from sglora_fed.report.words import OWN_TUNING, metric_label, ordered_splits

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Line = Mapping[str, Any]
"""A setting with what was measured of it, as :func:`sglora_fed.report.privacy.table` makes it."""

CURVES: Mapping[tuple[str, str | None], tuple[str, str, str, str]] = {
    ("krr", None): ("adapter, krr", "#0072b2", "o", "-"),
    ("subset", None): ("adapter, subset", "#009e73", "s", "-"),
    (OWN_TUNING, "dp_oracle"): ("own DP-SGD", ADOPTED, "v", "--"),
    (OWN_TUNING, "dp_shared_full"): ("own DP-SGD, from the shared LoRA", "#cc79a7", "^", "--"),
}
"""(mechanism, method; None: what clients adopt) -> label, colour, marker, line."""

APART = 1.045
"""Factor between the places of two curves at one epsilon: their intervals would overlap."""


def cost_figure(lines: Sequence[Line], metric: str) -> Figure:
    """A panel for each split: the metric by epsilon, with 95 % intervals over clients and seeds.

    Args:
        lines: of all settings, own fine-tuning and ``zero_shot`` among them.
        metric: that they are in.
    """
    splits = ordered_splits(split for line in lines for split in line["splits"])
    figure, axes = panels(len(splits), 3.6, 3.7, columns=3)
    for axis, split in zip(axes, splits, strict=True):
        _levels(axis, lines, split)
        for number, curve in enumerate(CURVES):
            _curve(axis, [line for line in lines if _is(line, curve)], split, number)
        _label(axis, lines, metric, short_label(split))
    legend(figure, axes[0])
    figure.set_layout_engine("constrained", wspace=0.06)
    return figure


def _is(line: Line, curve: tuple[str, str | None]) -> bool:
    mechanism, _, _, method = line["setting"]
    adopted = "@" not in method and method != "zero_shot"
    return mechanism == curve[0] and (adopted if curve[1] is None else method == curve[1])


def _levels(axis: Axes, lines: Sequence[Line], split: str) -> None:
    """What needs no epsilon, as levels: the adapter that the client makes itself, and none."""
    for line in lines:
        mechanism, _, _, method = line["setting"]
        if (cell := line["splits"].get(split)) is None:
            continue
        if mechanism == "local" and method != "zero_shot":
            axis.axhline(100 * cell["value"], color=INK, linewidth=1.1, label="adapter, local")
            axis.axhspan(*_bounds(cell), color=INK, alpha=0.08, linewidth=0)
        if mechanism == "none" and method == "zero_shot":
            axis.axhline(
                100 * cell["value"], color=SOFT, linewidth=1.1, linestyle=":", label="no adapter"
            )


def _bounds(cell: Mapping[str, float]) -> tuple[float, float]:
    return 100 * (cell["value"] - cell["half"]), 100 * (cell["value"] + cell["half"])


def _curve(axis: Axes, lines: Sequence[Line], split: str, number: int) -> None:
    found = [(line["setting"][1], line["splits"].get(split)) for line in lines]
    points = sorted((epsilon, cell["value"], cell["half"]) for epsilon, cell in found if cell)
    if not points:
        return
    label, colour, marker, style = list(CURVES.values())[number]
    axis.errorbar(
        [epsilon * APART ** (number - (len(CURVES) - 1) / 2) for epsilon, _, _ in points],
        [100 * value for _, value, _ in points],
        yerr=[100 * half for _, _, half in points],
        color=colour,
        marker=marker,
        linestyle=style,
        markersize=4,
        linewidth=1.2,
        elinewidth=0.8,
        label=label,
    )


def _label(axis: Axes, lines: Sequence[Line], metric: str, title: str) -> None:
    axis.set(ylim=(0, 102), ylabel=f"{metric_label(metric)}, %")
    axis.set_xlabel("epsilon: of one description (adapter),\nof one example (own DP-SGD)")
    axis.set_title(title, fontsize=9, loc="left", color=INK)
    epsilon_axis(axis, lines)


def epsilon_axis(axis: Axes, lines: Sequence[Line]) -> None:
    """A logarithmic axis with a mark at each epsilon that was measured."""
    epsilons = sorted({e for line in lines if (e := line["setting"][1]) is not None})
    axis.set_xscale("log")
    axis.set_xticks(epsilons, [f"{epsilon:g}" for epsilon in epsilons])
    axis.minorticks_off()
    if epsilons:
        axis.set_xlim(epsilons[0] / 1.3, epsilons[-1] * 1.3)
