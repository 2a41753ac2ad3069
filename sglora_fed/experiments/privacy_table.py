"""What the rows of the privacy study say together: each setting over all seeds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from sglora_fed.results.statistics import Estimate, estimate, gap_closed

Row = Mapping[str, Any]
Rows = Sequence[Row]

CLEAR, FLOOR = "none", "zero_shot"

PLACE = ("family", "split", "metric")
SETTING = ("mechanism", "epsilon", "delta", "decoys", "method")
GUESSED, BYTES = ("reidentification", "reidentification_ceiling"), ("bytes_up", "bytes_down")


def runs_of(rows: Rows) -> list[dict[str, Any]]:
    """The rows without their clients, each with its share of the gain on its own seed."""
    clear = _in_clear(rows)
    found = []
    for row in rows:
        share = _share([row], [one for one in clear if one["seed"] == row["seed"]])
        shown = {name: value for name, value in row.items() if name != "clients"}
        found.append(shown | {"share_of_gain": None if share is None else share.mean})
    return found


def settings_of(rows: Rows) -> list[dict[str, Any]]:
    """One for each setting, split and metric, over all seeds that it was measured on.

    Intervals are over clients and seeds; those of shares are paired with the same clients and
    seeds without privacy.

    Args:
        rows: with ``clients``, the value of each.
    """
    clear = _in_clear(rows)
    groups: dict[tuple[Hashable, ...], list[Row]] = defaultdict(list)
    for row in rows:
        groups[tuple(row[name] for name in (*PLACE, *SETTING))].append(row)
    return [_setting(some, clear) for some in groups.values()]


def _setting(rows: Rows, clear: Rows) -> dict[str, Any]:
    found = estimate(_values(rows, rows))
    share = _share(rows, clear)
    return {
        **{name: rows[0][name] for name in (*PLACE, *SETTING)},
        "seeds": [row["seed"] for row in rows],
        "value": found.mean,
        "ci95": list(found.bounds or ()),
        "share_of_gain": None if share is None else share.mean,
        "share_ci95": list((share and share.bounds) or ()),
        **{name: _mean(rows, name) for name in GUESSED},
        **{name: round(np.mean([row[name] for row in rows])) for name in BYTES},
    }


def _mean(rows: Rows, name: str) -> float | None:
    found = [row[name] for row in rows if row[name] is not None]
    return float(np.mean(found)) if found else None


def _in_clear(rows: Rows) -> list[Row]:
    return [row for row in rows if row["mechanism"] == CLEAR]


def _share(rows: Rows, clear: Rows) -> Estimate | None:
    """Of what the same method brings without privacy to the same clients on the same seeds."""
    place = [row for row in clear if all(row[name] == rows[0][name] for name in PLACE)]
    method = rows[0]["method"].partition("@")[0]
    floor = [row for row in place if row["method"] == FLOOR]
    full = [row for row in place if row["method"] == method]
    if not floor or not full:
        return None
    own, low, high = (_values(some, rows) for some in (rows, floor, full))
    return gap_closed(own, low, high)


def _values(rows: Rows, like: Rows) -> np.ndarray:
    """[clients, seeds] of some rows, of the clients and seeds that others have; else NaN."""
    by_seed = {row["seed"]: row["clients"] for row in rows}
    clients = sorted({client for row in like for client in row["clients"]})
    return np.array(
        [[by_seed.get(row["seed"], {}).get(name, np.nan) for row in like] for name in clients]
    )
