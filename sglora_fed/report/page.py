"""The report: one self-contained HTML page."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from sglora_fed.files import write_atomically
from sglora_fed.report.drawing import DPI
from sglora_fed.report.figures import draw_figures
from sglora_fed.report.gallery import by_split, data_uri, draw_gallery, heading
from sglora_fed.report.headline import findings, lead, verdict
from sglora_fed.report.words import (
    FEWEST_CLIENTS,
    GLOSSARY,
    MEANING,
    SPLITS,
    adopted_method,
    best_untrained,
    cells,
    cost,
    count,
    duration,
    main_metric,
    metric_label,
    ordered_methods,
    ordered_splits,
    percent,
    points,
    size,
)
from sglora_fed.results.files import PAGE
from sglora_fed.results.gallery import Exhibit
from sglora_fed.results.metrics import DIRECTIONS, PLACES, recall
from sglora_fed.results.rows import Row

FIGURES: Mapping[str, tuple[str, str]] = {
    "means.png": (
        "All methods",
        "Means over clients; the black lines are 95 % intervals.",
    ),
    "gap.png": (
        "How much of the gap is closed",
        "0 % is zero_shot, 100 % the oracle; lines are 95 % intervals, numerator and denominator"
        " from the same clients.",
    ),
    "trained.png": (
        "Client by client",
        "Each mark is a client: what it gets for its description alone, against the best of what it"
        " can train. On the dashed line both are equal.",
    ),
    "recall.png": (
        "Recall in both directions",
        "The share of items whose own text is among the first k, and of texts whose own item is.",
    ),
    "cost.png": ("What it costs the client", "Up and to the left is better."),
    "confidence.png": (
        "When to trust an adapter",
        "How near the closest expert is to a client's description, and what the adapter gained.",
    ),
    "coverage.png": (
        "Risk and coverage",
        "The surest clients adopt the generated adapter, the others keep the shared LoRA. Left:"
        " what adopters reach. Middle: what all clients together gain. Right: how many adopters"
        " would have been better off with the shared LoRA. Dashed: without knowing who is sure.",
    ),
}


def write_report(
    folder: Path,
    summary: Mapping[str, Any],
    rows: Iterable[Row],
    exhibits: Sequence[Exhibit] = (),
) -> Path:
    """Write ``figures/*.png`` and ``report.html``, which needs no other file.

    Returns:
        The page.

    Raises:
        ResultsError: when the disk is full.
    """
    figures = draw_figures(summary, rows)
    # The page shows the clients as text and pictures, the figure is for elsewhere.
    for name, data in (figures | draw_gallery(exhibits)).items():
        write_atomically(folder / "figures" / name, data)
    page = folder / PAGE
    write_atomically(page, render(summary, figures, exhibits).encode())
    return page


def render(
    summary: Mapping[str, Any], figures: Mapping[str, bytes], exhibits: Sequence[Exhibit] = ()
) -> str:
    """The page as text; everything that came from outside is escaped."""
    tables = [_table(summary, metric) for metric in _tabled(summary)]
    template = environment().get_template("page.html")
    return template.render(
        summary=summary,
        adopted=adopted_method(summary),
        lead=lead(summary),
        findings=findings(summary),
        fewest=FEWEST_CLIENTS,
        tables=tables,
        main=tables[0],
        recalls=recall_tables(summary),
        directions=DIRECTIONS,
        differences=_differences(summary),
        meaning=MEANING,
        split_meaning=SPLITS,
        glossary=GLOSSARY,
        gallery=by_split(exhibits),
        images=[
            (*FIGURES[name], width(data), base64.b64encode(data).decode())
            for name, data in figures.items()
        ],
    )


def environment() -> Environment:
    """What fills in templates: it escapes all text and knows how numbers are written."""
    found = Environment(
        loader=PackageLoader("sglora_fed.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "count": count,
        "percent": percent,
        "size": size,
        "duration": duration,
        "points": points,
        "verdict": verdict,
        "metric": metric_label,
        "cost": cost,
        "heading": heading,
        "data_uri": data_uri,
    }
    return found


def width(png: bytes) -> int:
    """Width on the page in CSS pixels, the same scale for all figures."""
    return int.from_bytes(png[16:20], "big") * 100 // DPI


def _tabled(summary: Mapping[str, Any]) -> list[str]:
    """Metrics with a table of methods and splits, the main one first; recalls have their own."""
    main = main_metric(summary)
    own = {recall(way, place) for way in DIRECTIONS for place in PLACES} | {main}
    return [main, *sorted({str(r["metric"]) for r in summary["results"]} - own)]


def recall_tables(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A block per split as papers have it: methods by directions and places."""
    found = {
        (way, place): cells(summary, recall(way, place)) for way in DIRECTIONS for place in PLACES
    }
    present = [column for column, table in found.items() if table]
    splits = ordered_splits({split for table in found.values() for _, split in table})
    return [
        {
            "split": split,
            "columns": present,
            "groups": ordered_methods(
                {method for table in found.values() for method, other in table if other == split}
            ),
            "cells": {
                (method, column): result
                for column, table in found.items()
                for (method, other), result in table.items()
                if other == split
            },
        }
        for split in splits
    ]


def _table(summary: Mapping[str, Any], metric: str) -> dict[str, Any]:
    found = cells(summary, metric)
    groups = ordered_methods(method for method, _ in found)
    return {
        "metric": metric,
        "cells": found,
        "splits": ordered_splits(split for _, split in found),
        "groups": groups,
        # The costs of a method are the same on every split.
        "cost": {method: found[method, split] for method, split in found},
        "best": best_untrained(summary, metric),
    }


def _differences(summary: Mapping[str, Any]) -> dict[str, dict[str, Mapping[str, Any]]]:
    """Reference -> split -> paired difference of the adopted adapters to it."""
    found, adopted = cells(summary, main_metric(summary)), adopted_method(summary)
    rows: dict[str, dict[str, Mapping[str, Any]]] = {}
    for (method, split), result in found.items():
        if method == adopted:
            for other, difference in result["minus"].items():
                rows.setdefault(other, {})[split] = difference
    return rows
