"""The table of methods and splits for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from sglora_fed.report.words import (
    cells,
    main_metric,
    ordered_methods,
    ordered_splits,
    percent,
    size,
)


def results_table(summary: Mapping[str, Any]) -> Table:
    """Means in per cent with half of the 95 % interval, bytes and seconds of the client.

    The generator whose adapters clients adopt is bold.
    """
    metric = main_metric(summary)
    found = cells(summary, metric)
    splits = ordered_splits(split for _, split in found)
    table = Table(
        title=f"{metric}, % (± half of the 95 % interval over clients)", title_justify="left"
    )
    table.add_column("method", no_wrap=True)
    for split in splits:
        table.add_column(split, justify="right", no_wrap=True)
    table.add_column("down", justify="right")
    table.add_column("client s", justify="right")
    for _, methods in ordered_methods(method for method, _ in found):
        for method in methods:
            results = [found.get((method, split)) for split in splits]
            table.add_row(*_row(method, results), style=_style(method, summary))
        table.add_section()
    return table


def _row(method: str, results: list[Mapping[str, Any] | None]) -> list[str]:
    cost = next(result for result in results if result is not None)
    values = ["" if result is None else _value(result) for result in results]
    return [method, *values, size(cost["bytes_down"]), f"{cost['client_seconds']:.2f}"]


def _value(result: Mapping[str, Any]) -> str:
    low, high = result["ci95"]
    return f"{percent(result['mean'])} ±{50 * (high - low):4.1f}"


def _style(method: str, summary: Mapping[str, Any]) -> str:
    return "bold" if method == summary["run"].get("generator") else ""
