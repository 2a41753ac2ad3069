"""Figures of the study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sglora_fed.report.drawing import ADOPTED, SOFT, panels, png
from sglora_fed.results.statistics import estimate

STYLE = {
    "topk": ("#56b4e9", "s"),
    "ridge": ("#e69f00", "^"),
    "sglora": ("#009e73", "D"),
    "functional": (ADOPTED, "o"),
}
SHARED = ("#cc79a7", "v")
SPLITS = ("new_rule", "new_topic")
COUNTS = (16, 32, 48)


def curves(pool: Any, path: Path) -> None:
    """Over the number of experts, and over rounds; 95 % intervals over clients."""
    figure, axes = panels(4, 2.6, 3.1)
    for axis, split in zip(axes[:2], SPLITS, strict=True):
        by_experts(axis, pool, split)
    for axis, split in zip(axes[2:], SPLITS, strict=True):
        by_rounds(axis, pool, split)
    axes[0].set_ylabel("accuracy, %")
    named = {
        label: handle
        for axis in (axes[0], axes[2])
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    place = {"loc": "outside upper center", "ncols": len(named), "fontsize": 8, "frameon": False}
    figure.legend(named.values(), named.keys(), **place)
    write(figure, path)


def by_experts(axis: Axes, pool: Any, split: str) -> None:
    for name, (colour, marker) in STYLE.items():
        points = [(n, pool.values("variants", f"{name}, {n} experts", split)) for n in COUNTS]
        points.append((pool.seeds[0]["experts"], pool.values("methods", name, split)))
        line(axis, points, colour, marker, name)
    reference(axis, pool, split)
    axis.set(xlabel="experts", xticks=[n for n, _ in points])
    axis.set_title(split, fontsize=9, loc="left")


def by_rounds(axis: Axes, pool: Any, split: str) -> None:
    points = [(int(r), pool.values("rounds", r, split)) for r in pool.names("rounds")]
    line(axis, points, *STYLE["functional"], "functional")
    points = [(int(r), pool.values("shared_rounds", r, split)) for r in pool.names("shared_rounds")]
    line(axis, points, *SHARED, "shared LoRA")
    reference(axis, pool, split)
    if "central" in pool.names("methods"):
        axis.axhline(pool.values("methods", "central", split).mean(), color=SOFT, linestyle=":")
    axis.set(xlabel="rounds")
    axis.set_title(split, fontsize=9, loc="left")


def reference(axis: Axes, pool: Any, split: str) -> None:
    oracle = pool.values("methods", "oracle", split).mean()
    axis.axhline(oracle, color=SOFT, linewidth=0.9, linestyle="--", label="oracle")


def line(axis: Axes, points: list[Any], colour: str, marker: str, label: str) -> None:
    found = [estimate(values[:, None]) for _, values in points]
    means = np.array([one.mean for one in found])
    axis.errorbar(
        [place for place, _ in points],
        means,
        yerr=[one.half or 0.0 for one in found],
        color=colour,
        marker=marker,
        markersize=4,
        linewidth=1.3,
        capsize=2,
        label=label,
    )


def write(figure: Figure, path: Path) -> None:
    path.write_bytes(png(figure))
    print(path)
