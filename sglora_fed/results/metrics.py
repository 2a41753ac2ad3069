"""Names of what is measured, and the one number that retrieval is judged by."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from sglora_fed.results.rows import Row

MEAN_RECALL = "r1"
"""Recall at 1, mean of both directions."""

DIRECTIONS: Mapping[str, str] = {"i2t": "item to text", "t2i": "text to item"}
PLACES = (1, 5, 10)


def recall(direction: str, place: int) -> str:
    """The metric's name for a key of ``DIRECTIONS`` and one of ``PLACES``."""
    return f"{direction}_r{place}"


def with_mean_recall(rows: Iterable[Row]) -> Iterator[Row]:
    """The rows, and one of :data:`MEAN_RECALL` wherever recall at 1 is there in both directions.

    It follows the second of both; of a table that is in order, few rows are kept for that.
    """
    both = [recall(direction, 1) for direction in DIRECTIONS]
    waiting: dict[tuple[str, str, int, str], Row] = {}
    for row in rows:
        yield row
        if row.metric not in both:
            continue
        place = (row.client, row.split, row.seed, row.method)
        other = waiting.pop(place, row)
        if other.metric == row.metric:
            waiting[place] = row
        else:
            yield replace(row, metric=MEAN_RECALL, value=(row.value + other.value) / 2)
