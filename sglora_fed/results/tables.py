"""Many rows as arrays: no row is kept."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from sglora_fed.errors import ResultsError
from sglora_fed.results.rows import Row


@dataclass(frozen=True)
class Table:
    """All values of one metric on one split.

    Attributes:
        clients: by name.
        values: method -> [clients, seeds], NaN where a client has none.
    """

    clients: tuple[str, ...]
    values: Mapping[str, np.ndarray]


def tables_of(rows: Iterable[Row]) -> dict[tuple[str, str], Table]:
    """(split, metric) -> table, in the order of their names.

    Raises:
        ResultsError: with two values for the same thing.
    """
    names: dict[str, int] = {}
    found: dict[tuple[str, str], dict[str, _Column]] = defaultdict(lambda: defaultdict(_Column))
    for row in rows:
        column = found[row.split, row.metric][row.method]
        column.clients.append(names.setdefault(row.client, len(names)))
        column.seeds.append(row.seed)
        column.values.append(row.value)
    every = np.array(list(names), object)
    return {place: _table(place, found.pop(place), every) for place in sorted(found)}


@dataclass(frozen=True)
class _Column:
    """A method's values, in the order in which they came.

    Attributes:
        clients: numbers of their names.
        seeds: theirs.
        values: themselves.
    """

    clients: array[int] = field(default_factory=lambda: array("i"))
    seeds: array[int] = field(default_factory=lambda: array("q"))
    values: array[float] = field(default_factory=lambda: array("d"))


def _table(place: tuple[str, str], columns: Mapping[str, _Column], every: np.ndarray) -> Table:
    present = np.unique(np.concatenate([np.array(c.clients) for c in columns.values()]))
    present = present[np.argsort(every[present])]
    places = np.empty(len(every), np.int64)
    places[present] = np.arange(len(present))
    seeds = np.unique(np.concatenate([np.array(column.seeds) for column in columns.values()]))
    found = {}
    for method in sorted(columns):
        column = columns[method]
        values = np.full((len(present), len(seeds)), np.nan)
        cells = places[np.array(column.clients)], np.searchsorted(seeds, np.array(column.seeds))
        values[cells] = column.values
        if (twice := _twice(cells, values.shape)) is not None:
            client, seed = every[present[twice[0]]], seeds[twice[1]]
            name = f"{place[1]} of {method} for client {client!r} and seed {seed}"
            raise ResultsError(f"there are two values of {name}; each is measured once")
        found[method] = values
    return Table(tuple(every[present]), found)


def _twice(cells: tuple[np.ndarray, np.ndarray], shape: tuple[int, ...]) -> tuple[int, int] | None:
    """A cell that comes twice."""
    flat = np.ravel_multi_index(cells, shape)
    counts = np.bincount(flat, minlength=1)
    if counts.max(initial=0) < 2:
        return None
    row, column = np.unravel_index(int(counts.argmax()), shape)
    return int(row), int(column)
