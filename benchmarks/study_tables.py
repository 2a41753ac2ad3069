"""Pooled numbers of a study: seeds are a level of their own, whether clients are drawn anew or not.

A cell is what one method got on one client in one seed. Where every seed has the same clients, the
two are crossed, as in a run of several seeds. Where every seed draws clients of its own, they are
nested in seeds: then each seed's mean is one observation, and Student's interval is over seeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from sglora_fed.results.rows import Row
from sglora_fed.results.statistics import Estimate, estimate

ALL = "all"
"""The split that stands for all of them."""

Cells = Mapping[tuple[str, int], float]
"""(client, seed) -> value."""

Table = dict[tuple[str, str], dict[tuple[str, int], float]]
"""(method, split) -> cells."""


def tabled(rows: Iterable[Row], metric: str) -> Table:
    """Rows by method and split, and by method alone."""
    found: Table = {}
    for row in rows:
        if row.metric == metric:
            for split in (row.split, ALL):
                found.setdefault((row.method, split), {})[row.client, row.seed] = row.value
    return found


def pooled(cells: Cells) -> Estimate:
    """Mean and 95 % interval of some cells.

    Args:
        cells: a client's name is the same in two seeds only if its task is.

    Raises:
        ValueError: without any.
    """
    clients = sorted({client for client, _ in cells})
    seeds = sorted({seed for _, seed in cells})
    values = np.full((len(clients), len(seeds)), np.nan)
    for (client, seed), value in cells.items():
        values[clients.index(client), seeds.index(seed)] = value
    nested = len(seeds) > 1 and (np.isfinite(values).sum(axis=1) == 1).all()
    return estimate(np.nanmean(values, axis=0)[:, None] if nested else values)


def differences(cells: Cells, others: Cells) -> dict[tuple[str, int], float]:
    """Cell by cell, where both have one."""
    return {place: value - others[place] for place, value in cells.items() if place in others}


def results(table: Table, reference: Table | None) -> list[dict[str, Any]]:
    """Every method and split with its interval, all splits last, and less that of a reference."""
    found = []
    for (method, split), cells in sorted(table.items(), key=lambda item: item[0][1] == ALL):
        one = {"method": method, "split": split, **_shown(pooled(cells)), "cells": len(cells)}
        if reference is not None:
            less = differences(cells, reference[method, split])
            one["minus_reference"] = _shown(pooled(less))
        found.append(one)
    return found


def _shown(found: Estimate) -> dict[str, Any]:
    bounds = None if found.bounds is None else [round(bound, 4) for bound in found.bounds]
    return {"mean": round(found.mean, 4), "ci95": bounds}


def page(study: Mapping[str, Any]) -> Iterator[str]:
    """A study in Markdown, from what its JSON holds."""
    given = " ".join(study["overrides"])
    seeds = ", ".join(map(str, study["seeds"]))
    yield f"# Study: {given or 'as configured'}\n"
    yield (
        f"`{study['command']}`, seeds {seeds}; {study['metric']} in %, ± half of the 95 % interval"
        " with seeds as a level of their own; in brackets the paired difference to the first run"
        " of the part.\n"
    )
    for part, runs in study["parts"].items():
        yield f"## {part}\n"
        yield "\n".join(_lines(runs)) + "\n"


def _lines(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[str]:
    splits = list(dict.fromkeys(one["split"] for found in runs.values() for one in found))
    yield f"| run | method | {' | '.join(splits)} |"
    yield "|" + " --- |" * (len(splits) + 2)
    for run, found in runs.items():
        cells = {(one["method"], one["split"]): _cell(one) for one in found}
        for method in dict.fromkeys(one["method"] for one in found):
            told = [cells.get((method, split), "") for split in splits]
            yield f"| {run} | {method} | {' | '.join(told)} |"


def _cell(one: Mapping[str, Any]) -> str:
    text = f"{100 * one['mean']:.1f}{_half(one)}"
    if (minus := one.get("minus_reference")) is None:
        return text
    return f"{text} ({100 * minus['mean']:+.1f}{_half(minus)})"


def _half(found: Mapping[str, Any]) -> str:
    bounds = found["ci95"]
    return "" if bounds is None else f" ± {50 * (bounds[1] - bounds[0]):.1f}"
