"""The report: one self-contained HTML page."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from sglora_fed.files import write_atomically
from sglora_fed.report.figures import DPI, draw_figures
from sglora_fed.report.headline import findings, lead, verdict
from sglora_fed.report.template import TEMPLATE
from sglora_fed.report.words import (
    GLOSSARY,
    MEANING,
    SPLITS,
    adopted_method,
    best_untrained,
    cells,
    duration,
    main_metric,
    metrics,
    ordered_methods,
    ordered_splits,
    percent,
    points,
    size,
)
from sglora_fed.results.rows import Row

FIGURES: Mapping[str, tuple[str, str]] = {
    "means.png": (
        "All methods",
        "Means over clients; the black lines are 95 % bootstrap intervals.",
    ),
    "gap.png": (
        "How much of the gap is closed",
        "0 % is zero_shot, 100 % the oracle; lines are 95 % intervals, numerator and denominator"
        " from the same clients.",
    ),
    "oracle.png": (
        "Client by client",
        "Each mark is a client: what it gets for its description alone, against fine-tuning on all"
        " its data. On the dashed line both are equal.",
    ),
    "cost.png": ("What it costs the client", "Up and to the left is better."),
    "confidence.png": (
        "When to trust an adapter",
        "How near the closest expert is to a client's description, and what the adapter gained.",
    ),
    "coverage.png": (
        "Risk and coverage",
        "The surest clients adopt the generated adapter, the others keep the shared LoRA. Left: how"
        " many adopters would have been better off with it. Right: what all clients together gain."
        " Dashed: without knowing who is sure.",
    ),
}


def write_report(folder: Path, summary: Mapping[str, Any], rows: Sequence[Row]) -> Path:
    """Write ``figures/*.png`` and ``report.html``, which needs no other file.

    Returns:
        The page.

    Raises:
        ResultsError: when the disk is full.
    """
    figures = draw_figures(summary, rows)
    for name, data in figures.items():
        write_atomically(folder / "figures" / name, data)
    page = folder / "report.html"
    write_atomically(page, render(summary, figures).encode())
    return page


def render(summary: Mapping[str, Any], figures: Mapping[str, bytes]) -> str:
    """The page as text; everything that came from outside is escaped."""
    main = _table(summary, main_metric(summary))
    template = environment().from_string(TEMPLATE)
    return template.render(
        summary=summary,
        adopted=adopted_method(summary),
        lead=lead(summary),
        findings=findings(summary),
        tables=[_table(summary, metric) for metric in metrics(summary)],
        main=main,
        differences=_differences(summary),
        meaning=MEANING,
        split_meaning=SPLITS,
        glossary=GLOSSARY,
        images=[
            (*FIGURES[name], width(data), base64.b64encode(data).decode())
            for name, data in figures.items()
        ],
    )


def environment() -> Environment:
    """What fills in templates: it escapes all text and knows how numbers are written."""
    found = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    found.filters |= {
        "percent": percent,
        "size": size,
        "duration": duration,
        "points": points,
        "verdict": verdict,
    }
    return found


def width(png: bytes) -> int:
    """Width on the page in CSS pixels, the same scale for all figures."""
    return int.from_bytes(png[16:20], "big") * 100 // DPI


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
