"""The report: one self-contained HTML page."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from sglora_fed.experiments.results import Row
from sglora_fed.files import write_atomically
from sglora_fed.report.figures import draw_figures
from sglora_fed.report.template import TEMPLATE
from sglora_fed.report.words import (
    MEANING,
    SPLITS,
    cells,
    main_metric,
    ordered_methods,
    ordered_splits,
    percent,
    size,
)

CAPTIONS: Mapping[str, str] = {
    "means.png": "Means over clients; whiskers are 95 % bootstrap intervals.",
    "oracle.png": "Each dot is a client: its value with an adapter from its description alone,"
    " against fine-tuning on all its data. On the dotted line both are equal.",
    "cost.png": "What a client gets for its own computing time.",
    "confidence.png": "How near the closest expert is, and what the adapter gained.",
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
    metric = main_metric(summary)
    found = cells(summary, metric)
    splits = ordered_splits(split for _, split in found)
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    environment.filters |= {"percent": percent, "size": size}
    return environment.from_string(TEMPLATE).render(
        summary=summary,
        metric=metric,
        found=found,
        splits=splits,
        groups=ordered_methods(method for method, _ in found),
        adopted=summary["run"].get("generator", ""),
        headline=headlines(summary),
        meaning=MEANING,
        split_meaning=SPLITS,
        images=[
            (name, CAPTIONS[name], base64.b64encode(data).decode())
            for name, data in figures.items()
        ],
    )


def headlines(summary: Mapping[str, Any]) -> list[str]:
    """One plain sentence per split: what the adopted adapter reached, and against what."""
    metric = main_metric(summary)
    found = cells(summary, metric)
    adopted = str(summary["run"].get("generator", ""))
    splits = ordered_splits(split for _, split in found)
    return [_headline(found, split, adopted) for split in splits if (adopted, split) in found]


def _headline(found: Mapping[tuple[str, str], Mapping[str, Any]], split: str, adopted: str) -> str:
    own = found[adopted, split]
    sentence = f"{split}: {adopted} reaches {percent(own['mean'])} %"
    for other in ("zero_shot", "topk", "oracle"):
        if (other, split) in found:
            sentence += f", {other} {percent(found[other, split]['mean'])} %"
    rival = own["minus"].get("topk")
    return sentence + ("." if rival is None else f"; against topk {_verdict(rival)}.")


def _verdict(difference: Mapping[str, Any]) -> str:
    low, high = difference["ci95"]
    points = f"{100 * difference['mean']:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}]"
    if low > 0:
        return f"it wins by {points}"
    return f"it loses by {points}" if high < 0 else f"the difference is not certain: {points}"
