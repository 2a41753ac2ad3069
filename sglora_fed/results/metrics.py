"""Names of what is measured, and the one number that retrieval is judged by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sglora_fed.results.rows import Row

MEAN_RECALL = "r1"
"""Recall at 1, mean of both directions."""

DIRECTIONS: Mapping[str, str] = {"i2t": "item to text", "t2i": "text to item"}
PLACES = (1, 5, 10)


def recall(direction: str, place: int) -> str:
    """The metric's name for a key of ``DIRECTIONS`` and one of ``PLACES``."""
    return f"{direction}_r{place}"


def with_mean_recall(rows: Sequence[Row]) -> list[Row]:
    """The rows, and one of :data:`MEAN_RECALL` wherever recall at 1 is there in both directions."""
    first, second = (
        {
            (row.client, row.split, row.seed, row.method): row
            for row in rows
            if row.metric == recall(direction, 1)
        }
        for direction in DIRECTIONS
    )
    means = [
        replace(row, metric=MEAN_RECALL, value=(row.value + second[place].value) / 2)
        for place, row in first.items()
        if place in second
    ]
    return [*rows, *means]
