"""The study of privacy and utility as one page: what is kept, and what the server can guess."""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sglora_fed.files import write_atomically
from sglora_fed.report.drawing import INK, MARKERS, SPLIT_COLOURS, legend, panels, png, short_label
from sglora_fed.report.page import environment, width
from sglora_fed.report.plain import plain_matplotlib
from sglora_fed.report.privacy_cost import cost_figure, epsilon_axis
from sglora_fed.report.words import METRICS, OWN_TUNING, metric_label, ordered_splits

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PAGE = "sweep.html"

Rows = Sequence[Mapping[str, Any]]

ADOPTED_ALONE = "zero_shot"
"""What every row has beside the method that clients adopt."""


@plain_matplotlib()
def write_study(output: Path, settings: Rows) -> Path:
    """Write ``sweep.html``, which needs no other file.

    Args:
        output: folder of the study.
        settings: of ``sweep.json``.

    Returns:
        The page.

    Raises:
        ResultsError: when the disk is full.
    """
    shown, metric = main_rows(settings), main_metric(settings)
    picture = png(study_figure(shown))
    lines = table([one for one in settings if one["metric"] == metric])
    own = [line for line in lines if line["setting"][0] == OWN_TUNING]
    cost = png(cost_figure(lines, metric)) if own else b""
    text = (
        environment()
        .get_template("privacy.html")
        .render(
            family=shown[0]["family"],
            metric=metric_label(metric),
            lines=table(shown),
            own=own,
            cost=base64.b64encode(cost).decode(),
            cost_width=width(cost),
            splits=_splits(shown),
            figure=base64.b64encode(picture).decode(),
            width=width(picture),
        )
    )
    write_atomically(output / PAGE, text.encode())
    return output / PAGE


def main_metric(rows: Rows) -> str:
    """The first that people read, else the first there is."""
    found = dict.fromkeys(str(row["metric"]) for row in rows)
    return next(name for name in (*METRICS, *found) if name in found)


def main_rows(rows: Rows) -> list[Mapping[str, Any]]:
    """Those of the main metric, of what clients adopt."""
    metric = main_metric(rows)
    return [row for row in rows if row["metric"] == metric and _is_adopted(row)]


def _is_adopted(row: Mapping[str, Any]) -> bool:
    """Whatever number of examples it was chosen by."""
    alone = row["method"].partition("@")[0] == ADOPTED_ALONE
    return not alone and row["mechanism"] != OWN_TUNING


def table(settings: Rows) -> list[dict[str, Any]]:
    """A line for each setting, and in it by split value and share of the gain, with intervals."""
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = defaultdict(list)
    for one in settings:
        groups[tuple(one[k] for k in ("mechanism", "epsilon", "decoys", "method"))].append(one)
    return [
        {
            "setting": setting,
            "splits": {one["split"]: _cell(one) for one in some},
            "attack": some[0]["reidentification"],
            "ceiling": some[0]["reidentification_ceiling"],
            "delta": some[0]["delta"],
            "up": some[0]["bytes_up"],
            "down": some[0]["bytes_down"],
        }
        for setting, some in groups.items()
    ]


def _cell(one: Mapping[str, Any]) -> dict[str, Any]:
    # Where the gain itself is not certain, a share of it has no interval and says nothing.
    share = (one["share_of_gain"], _half(one["share_ci95"])) if one["share_ci95"] else None
    return {"value": one["value"], "half": _half(one["ci95"]), "share": share}


def _half(bounds: Sequence[float]) -> float:
    """Half of an interval's width; 0 where there is none."""
    return (bounds[1] - bounds[0]) / 2 if bounds else 0.0


def study_figure(rows: Rows) -> Figure:
    """Share of the gain by epsilon in a panel for each split, and the attack beside its ceiling."""
    splits = _splits(rows)
    figure, axes = panels(len(splits) + 1, 3.2, 3.2)
    lines = [line for line in table(rows) if line["setting"][1] is not None]
    for number, name in enumerate(dict.fromkeys(map(_name, lines))):
        own = [line for line in lines if _name(line) == name]
        for axis, split in zip(axes, splits, strict=False):
            _line(axis, _shares(own, split), number, name)
        last = axes[len(splits)]
        _line(last, [(line["setting"][1], line["attack"], 0.0) for line in own], number, name)
        most = [(line["setting"][1], 100 * line["ceiling"]) for line in own]
        last.plot(*zip(*most, strict=True), color=_colour(number), linestyle=":")
    tops = [max((share for _, share, _ in _shares(lines, split)), default=1.0) for split in splits]
    titles = [f"{short_label(split)}: share of the gain, %" for split in splits]
    for axis, top, title in zip(
        axes, [*tops, 1.0], [*titles, "guessed, %; dotted: most"], strict=True
    ):
        axis.set(xlabel="epsilon", ylim=(-10, 100 * max(top, 1.0) + 10))
        epsilon_axis(axis, lines)
        axis.set_title(title, fontsize=9, loc="left", color=INK)
    if lines:
        legend(figure, axes[0])
    return figure


def _shares(lines: Sequence[Mapping[str, Any]], split: str) -> list[tuple[float, float, float]]:
    """(epsilon, share of the gain, half of its interval) where there is a gain."""
    cells = [(line["setting"][1], line["splits"].get(split)) for line in lines]
    return [(epsilon, *cell["share"]) for epsilon, cell in cells if cell and cell["share"]]


def _colour(number: int) -> str:
    return SPLIT_COLOURS[number % len(SPLIT_COLOURS)]


def _name(line: Mapping[str, Any]) -> str:
    mechanism, _, _, method = line["setting"]
    return str(mechanism + (f" ({method.partition('@')[2]} examples)" if "@" in method else ""))


def _line(axis: Axes, points: Sequence[tuple[float, float, float]], number: int, name: str) -> None:
    """A curve of (epsilon, value, half of its interval), values being fractions."""
    axis.errorbar(
        [epsilon for epsilon, _, _ in points],
        [100 * value for _, value, _ in points],
        yerr=[100 * half for _, _, half in points],
        color=_colour(number),
        marker=MARKERS[number % len(MARKERS)],
        markersize=3.5,
        linewidth=1.1,
        elinewidth=0.7,
        label=name,
    )


def _splits(rows: Rows) -> list[str]:
    return ordered_splits(row["split"] for row in rows)
