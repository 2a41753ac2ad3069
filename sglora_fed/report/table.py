"""The table of methods and splits for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from sglora_fed.report.words import (
    adopted_method,
    best_untrained,
    cells,
    main_metric,
    metric_label,
    ordered_methods,
    ordered_splits,
    percent,
    size,
)
from sglora_fed.results.metrics import DIRECTIONS, MEAN_RECALL, recall

SIDE_BY_SIDE = 4
"""Splits in one table: as many as 80 columns hold."""

RECALLS_SIDE_BY_SIDE = 3
"""The same where each split has two directions."""

LEGEND = (
    "bold: adopted; green: best without training on the client\n"
    "down: bytes that a client receives; s: seconds that it takes"
)


def results_table(summary: Mapping[str, Any]) -> Group:
    """Means in per cent with half of the 95 % interval, bytes and seconds of the client.

    For retrieval recall at 1 in both directions, with the interval of their mean.
    The generator whose adapters clients adopt is bold; the best mean of those that train nothing
    on the client is green. With many splits the table goes on below.
    """
    found = cells(summary, main_metric(summary))
    splits = ordered_splits(split for _, split in found)
    most = RECALLS_SIDE_BY_SIDE if main_metric(summary) == MEAN_RECALL else SIDE_BY_SIDE
    wide = ceil(len(splits) / ceil(len(splits) / most))
    parts = [splits[start : start + wide] for start in range(0, len(splits), wide)]
    tables = [_table(summary, part) for part in parts]
    tables[-1].caption = Text(LEGEND)
    return Group(*tables)


def _table(summary: Mapping[str, Any], splits: list[str]) -> Table:
    metric, adopted = main_metric(summary), adopted_method(summary)
    found, best = cells(summary, metric), best_untrained(summary, metric)
    table = _empty(_title(metric), splits)
    ways = [cells(summary, recall(way, 1)) for way in DIRECTIONS] if metric == MEAN_RECALL else []
    for group, methods in ordered_methods(method for method, _ in found):
        table.add_row(Text(group, style="dim italic"))
        for method in methods:
            values = [
                mean_text(
                    found.get((method, split)),
                    "green" if (method, split) in best else "",
                    [way[method, split] for way in ways if (method, split) in way],
                )
                for split in splits
            ]
            cost = next(result for (name, _), result in found.items() if name == method)
            table.add_row(
                Text(f" {method}"),
                *values,
                Text(size(cost["bytes_down"])),
                Text(f"{cost['client_seconds']:.2f}"),
                style="bold" if method == adopted else "",
            )
    return table


def _title(metric: str) -> str:
    if metric == MEAN_RECALL:
        ways = "/".join(DIRECTIONS.values())
        return f"R@1 {ways}, % (± half of the 95 % interval of their mean)"
    return f"{metric_label(metric)}, % (± half of the 95 % interval over clients)"


def _empty(title: str, splits: list[str]) -> Table:
    table = Table(
        title=Text(title),
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 0, 0, 1),
    )
    table.add_column("method", no_wrap=True)
    for split in splits:
        # Names come from task files: text, not markup.
        table.add_column(Text(split), justify="right", no_wrap=True)
    table.add_column("down", justify="right", no_wrap=True)
    table.add_column("s", justify="right", no_wrap=True)
    return table


def mean_text(
    result: Mapping[str, Any] | None, style: str = "", parts: Sequence[Mapping[str, Any]] = ()
) -> Text:
    """A mean in per cent with half of its 95 % interval; empty without a result.

    Args:
        result: of a method on a split.
        style: of the text.
        parts: results whose means are shown instead, when ``result`` is the mean of them.
    """
    if result is None:
        return Text("")
    means = "/".join(percent(part["mean"]) for part in parts or [result])
    return Text(means + _half(result), style=style)


def _half(result: Mapping[str, Any]) -> str:
    if result["ci95"] is None:
        return ""
    return f" ±{50 * (result['ci95'][1] - result['ci95'][0]):.1f}"
