"""Figures of a run: means with intervals, gap closed, clients against the oracle, cost, trust."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import spearmanr

from sglora_fed.report.coverage import risk_coverage
from sglora_fed.report.drawing import (
    ADOPTED,
    COLOURS,
    INK,
    MARKERS,
    PANELS,
    SOFT,
    SPLIT_COLOURS,
    bar,
    dots,
    legend,
    name_points,
    panels,
    png,
    short_label,
)
from sglora_fed.report.plain import plain_matplotlib
from sglora_fed.report.words import (
    adopted_method,
    cells,
    main_metric,
    metric_label,
    ordered_methods,
    ordered_splits,
    strongest_trained,
)
from sglora_fed.results.metrics import DIRECTIONS, PLACES, recall, with_mean_recall
from sglora_fed.results.rows import Row
from sglora_fed.results.tables import Table, tables_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Means:
    """Of the clients of one split, over seeds.

    Attributes:
        clients: [n] names, in their order.
        values: method -> [n] per cent, NaN where a client has none.
    """

    clients: tuple[str, ...]
    values: Mapping[str, np.ndarray]

    def of(self, method: str) -> np.ndarray:
        """[n], all NaN of a method that nobody has."""
        return self.values.get(method, np.full(len(self.clients), np.nan))


Values = Mapping[str, Means]
"""Split -> means of the methods that are drawn client by client."""


@plain_matplotlib()
def draw_figures(summary: Mapping[str, Any], rows: Iterable[Row]) -> dict[str, bytes]:
    """File name -> PNG, for every figure that the run has data for."""
    values = _client_values(summary, rows)
    found = {
        "means.png": means_figure(summary),
        "gap.png": gap_figure(summary),
        "trained.png": trained_figure(summary, values),
        "recall.png": recall_figure(summary),
        "cost.png": cost_figure(summary),
        "confidence.png": confidence_figure(summary, values),
        "coverage.png": coverage_figure(summary, values),
    }
    return {name: png(figure) for name, figure in found.items() if figure is not None}


def means_figure(summary: Mapping[str, Any]) -> Figure:
    """Bars of every method with 95 % intervals, one panel per split."""
    found, splits = _found(summary)
    places = _places(found)
    figure, axes = _methodpanels(splits, places, summary)
    for axis, split in zip(axes, splits, strict=True):
        for method, (place, group) in places.items():
            if result := found.get((method, split)):
                bar(axis, place, result, _colour(method, group, summary))
        axis.set(xlim=(0, 118), xlabel=f"{_main_label(summary)}, %")
        axis.set_xticks(range(0, 101, 25))
    return figure


def gap_figure(summary: Mapping[str, Any]) -> Figure | None:
    """Share of the way from zero-shot to the oracle, one panel per split."""
    found, splits = _found(summary)
    found = {
        (method, split): result
        for (method, split), result in found.items()
        if result["gap_closed"] is not None and method not in ("zero_shot", "oracle")
    }
    if not found:
        return None
    places = _places(found)
    splits = [split for split in splits if any(split == other for _, other in found)]
    figure, axes = _methodpanels(splits, places, summary)
    for axis, split in zip(axes, splits, strict=True):
        for line in (0, 100):
            axis.axvline(line, color=SOFT, linewidth=0.8, linestyle="--", zorder=0)
        for method, (place, group) in places.items():
            if result := found.get((method, split)):
                bounds = result["gap_closed_ci95"] or [result["gap_closed"]] * 2
                colour = _colour(method, group, summary)
                axis.hlines(place, *(100 * b for b in bounds), color=colour, linewidth=2.2)
                axis.plot(100 * result["gap_closed"], place, "o", color=colour, markersize=5)
        axis.set_xlabel("gap closed, %")
    # A baseline far below zero-shot must not squeeze the part that people look at.
    lows, highs = zip(*(axis.get_xlim() for axis in axes), strict=True)
    for axis in axes:
        axis.set_xlim(max(min(lows), -60), min(max(*highs, 108), 160))
        axis.set_xticks([0, 50, 100])
    return figure


def trained_figure(summary: Mapping[str, Any], values: Values) -> Figure | None:
    """Each client with the adopted adapter and with top-K merging, against its own training."""
    best = strongest_trained(summary)
    splits = ordered_splits(split for split, means in values.items() if best in means.values)
    if best is None or not splits:
        return None
    figure, axes = panels(len(splits), 2.4, 3.1)
    adopted = adopted_method(summary)
    low = _lowest(values, (best, "topk", adopted))
    shown = [("topk", COLOURS["merged"], "s"), (adopted, ADOPTED, "o")]
    for axis, split in zip(axes, splits, strict=True):
        trained = values[split].of(best)
        axis.plot([0, 100], [0, 100], color=SOFT, linewidth=0.9, linestyle="--")
        for method, colour, marker in shown[adopted == "topk" :]:
            pairs = _complete(trained, values[split].of(method))
            dots(axis, pairs, colour, marker, short_label(method))
        axis.set(xlim=(low, 102), ylim=(low, 102), xlabel=f"{best}, %", aspect="equal")
        axis.set_title(short_label(split), fontsize=9, loc="left", color=INK)
    axes[0].set_ylabel(f"{_main_label(summary)} without training, %")
    legend(figure, axes[0])
    return figure


def recall_figure(summary: Mapping[str, Any]) -> Figure | None:
    """Recall at 1, 5 and 10 of a few methods: a row per split, a panel per direction."""
    found = {(way, k): cells(summary, recall(way, k)) for way in DIRECTIONS for k in PLACES}
    splits = ordered_splits({split for table in found.values() for _, split in table})
    if not splits:
        return None
    figure, axes = panels(2 * len(splits), 3.4, 2.4, columns=2)
    shown = _compared(summary)
    places = [(split, way) for split in splits for way in DIRECTIONS]
    for axis, (split, way) in zip(axes, places, strict=True):
        for number, (method, colour) in enumerate(shown.items()):
            points = [(k, found[way, k].get((method, split))) for k in PLACES]
            known = [(k, 100 * result["mean"]) for k, result in points if result]
            marker = MARKERS[number % len(MARKERS)]
            label = short_label(method)
            axis.plot(*zip(*known, strict=True), color=colour, marker=marker, label=label)
        axis.set(xlabel=f"k, {DIRECTIONS[way]}", ylabel="R@k, %", ylim=(0, 103))
        axis.set_xticks(PLACES)
        axis.set_title(short_label(split), fontsize=9, loc="left", color=INK)
    legend(figure, axes[0])
    return figure


def _compared(summary: Mapping[str, Any]) -> dict[str, str]:
    """Method -> colour for a figure that all methods would crowd."""
    found, _ = _found(summary)
    present, adopted = {method for method, _ in found}, adopted_method(summary)
    groups = ordered_methods(present)
    colours = {method: COLOURS[group] for group, methods in groups for method in methods}
    wanted = ("zero_shot", "topk", "shared_lora", strongest_trained(summary))
    shown = [name for name in wanted if name in present and name != adopted]
    chosen = {name: colours[name] for name in shown}
    return chosen | ({adopted: ADOPTED} if adopted in present else {})


def cost_figure(summary: Mapping[str, Any]) -> Figure:
    """Mean over splits against the client's own seconds, logarithmic."""
    found, splits = _found(summary)
    figure, (axis,) = panels(1, 6.8, 3.9)
    points = []
    for method, (_, group) in _places(found).items():
        results = [found[method, split] for split in splits if (method, split) in found]
        mean = 100 * float(np.mean([result["mean"] for result in results]))
        # Below the clock's resolution a logarithm would mean nothing.
        seconds = max(results[0]["client_seconds"], 1e-3)
        colour = _colour(method, group, summary)
        axis.scatter(seconds, mean, color=colour, s=42, edgecolors=INK, linewidths=0.5, zorder=3)
        points.append((seconds, mean, method))
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter("{x:g}")
    axis.margins(y=0.12)
    axis.set_xlim(min(p[0] for p in points) / 1.6, max(p[0] for p in points) * 3.2)
    name_points(axis, points, adopted_method(summary))
    title = "mean of splits, %" if len(splits) > 1 else "%"
    axis.set(
        xlabel="seconds on the client: training and evaluation (logarithmic)",
        ylabel=f"{_main_label(summary)}, {title}",
    )
    axis.grid(alpha=0.25)
    return figure


def confidence_figure(summary: Mapping[str, Any], values: Values) -> Figure | None:
    """Gain over zero-shot against the similarity of the nearest expert."""
    trust, adopted = summary.get("confidence") or {}, adopted_method(summary)
    figure, (axis,) = panels(1, 6.8, 3.7)
    drawn = False
    for number, split in enumerate(_found(summary)[1]):
        means = values[split]
        gains = means.of(adopted) - means.of("zero_shot")
        pairs = _complete(_told(trust, means, 0), gains)
        if len(pairs):
            drawn = True
            colour = SPLIT_COLOURS[number % len(SPLIT_COLOURS)]
            label = short_label(split) + _rank_correlation(pairs)
            dots(axis, pairs, colour, MARKERS[number % len(MARKERS)], label)
    if not drawn:
        return None
    axis.axhline(0, color=SOFT, linewidth=0.9, linestyle="--", zorder=0)
    axis.set(
        xlabel="cosine between the description and the nearest expert's",
        ylabel=f"{short_label(adopted)} minus zero_shot, points",
    )
    legend(figure, axis)
    return figure


def coverage_figure(summary: Mapping[str, Any], values: Values) -> Figure | None:
    """What the surest clients reach, gain and risk when only they adopt; the others fall back."""
    told, adopted = summary.get("confidence") or {}, adopted_method(summary)
    # Similarity and entropy are told of every adapter, more only with the policy.
    trust = {client: some[2:] for client, some in told.items() if len(some) > 3}
    # In order: clients of equal confidence keep theirs, and the figure is the same every time.
    found = [
        _complete(
            _told(trust, own, 0), _told(trust, own, 1), own.of(adopted), own.of("shared_lora")
        )
        for _, own in sorted(values.items())
    ]
    sure, chosen, own_values, shared_values = np.concatenate(found).T
    if not len(sure):
        return None
    curve = risk_coverage(sure, own_values, shared_values)
    covered = 100 * curve.coverage
    figure, axes = panels(3, 2.5, 3.1)
    axes[0].plot(covered, curve.level, color=ADOPTED, label="surest first")
    axes[0].axhline(curve.level[-1], color=SOFT, linestyle="--", label="any order")
    axes[0].set(ylim=(0, 103), ylabel=f"{_main_label(summary)} of adopters, %")
    axes[1].plot(covered, curve.gain, color=ADOPTED)
    axes[1].plot([0, 100], [0, curve.gain[-1]], color=SOFT, linestyle="--")
    axes[1].set_ylabel("gain over shared_lora, mean of all, points")
    axes[2].plot(covered, 100 * curve.risk, color=ADOPTED)
    axes[2].axhline(100 * curve.risk[-1], color=SOFT, linewidth=0.9, linestyle="--")
    axes[2].set(ylim=(0, None), ylabel="worse off than shared_lora, % of adopters")
    for axis in axes:
        share = 100 * float(chosen.mean())
        axis.axvline(share, color=INK, linewidth=0.9, linestyle=":", label="policy")
        axis.set(xlabel="clients who adopt, %", xlim=(0, 102))
    legend(figure, axes[0])
    return figure


def _complete(*columns: np.ndarray) -> np.ndarray:
    """[n, columns] of those who have all values."""
    rows = np.stack(columns, axis=1)
    found: np.ndarray = rows[~np.isnan(rows).any(axis=1)]
    return found


def _told(trust: Mapping[str, Sequence[float]], means: Means, place: int) -> np.ndarray:
    """[n] one of the numbers that are known of each client before use."""
    nothing = [math.nan] * (1 + place)
    return np.array([trust.get(client, nothing)[place] for client in means.clients])


def _rank_correlation(pairs: np.ndarray) -> str:
    xs, ys = pairs.T
    if len(pairs) < 3 or len(set(xs)) == 1 or len(set(ys)) == 1:
        return ""
    return f" (rank correlation {spearmanr(xs, ys).statistic:+.2f})"


def _places(found: Mapping[tuple[str, str], Any]) -> dict[str, tuple[float, str]]:
    """Method -> (vertical place, group), with some room between groups."""
    places, place = {}, 0.0
    for group, methods in ordered_methods(method for method, _ in found):
        for method in methods:
            places[method] = (place, group)
            place -= 1
        place -= 0.45
    return places


def _methodpanels(
    splits: Sequence[str], places: Mapping[str, tuple[float, str]], summary: Mapping[str, Any]
) -> tuple[Figure, list[Axes]]:
    """One panel per split, with the methods' names at the left of each row."""
    ordinates = [place for place, _ in places.values()]
    figure, axes = panels(len(splits), 2.35, 0.21 * (1 - min(ordinates)) + 0.75)
    for number, (axis, split) in enumerate(zip(axes, splits, strict=True)):
        axis.set_title(short_label(split), fontsize=9, loc="left", color=INK)
        axis.set_ylim(min(ordinates) - 0.6, 0.6)
        names = [short_label(name) if number % PANELS == 0 else "" for name in places]
        axis.set_yticks(ordinates, names)
        axis.tick_params(axis="y", length=0)
        axis.grid(axis="x", alpha=0.25)
        axis.grid(visible=False, axis="y")
        for label in axis.get_yticklabels():
            if label.get_text() == short_label(adopted_method(summary)):
                label.set(fontweight="bold", color=ADOPTED)
    return figure, axes


def _colour(method: str, group: str, summary: Mapping[str, Any]) -> str:
    return ADOPTED if method == adopted_method(summary) else COLOURS[group]


def _lowest(values: Values, methods: Sequence[str]) -> float:
    """The lower end of the axes, a multiple of ten."""
    shown = [own.values[m] for own in values.values() for m in methods if m in own.values]
    return min(90.0, 10 * math.floor(float(np.nanmin(np.concatenate(shown))) / 10))


def _found(
    summary: Mapping[str, Any],
) -> tuple[dict[tuple[str, str], Mapping[str, Any]], list[str]]:
    found = cells(summary, main_metric(summary))
    return found, ordered_splits(split for _, split in found)


def _main_label(summary: Mapping[str, Any]) -> str:
    return metric_label(main_metric(summary))


def _client_values(summary: Mapping[str, Any], rows: Iterable[Row]) -> Values:
    """What clients reach of the main metric."""
    metric, best = main_metric(summary), strongest_trained(summary)
    drawn = {"zero_shot", "topk", "shared_lora", best, adopted_method(summary)}
    shown = (row for row in with_mean_recall(rows) if row.metric == metric and row.method in drawn)
    found = {split: _over_seeds(table) for (split, _), table in tables_of(shown).items()}
    return {split: found.get(split, Means((), {})) for split in _found(summary)[1]}


def _over_seeds(table: Table) -> Means:
    with np.errstate(invalid="ignore"):  # of no seed
        means = {
            method: 100 * (np.nansum(values, axis=1) / (~np.isnan(values)).sum(axis=1))
            for method, values in table.values.items()
        }
    return Means(table.clients, means)
