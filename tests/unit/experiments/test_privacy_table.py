"""The study's settings over all seeds: means, paired shares and their intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from sglora_fed.experiments.privacy_table import runs_of, settings_of


def _row(
    mechanism: str, method: str, values: dict[str, float], seed: int, **own: Any
) -> dict[str, Any]:
    return {
        "family": "cameras", "split": "new_combination", "metric": "r1", "seed": seed,
        "mechanism": mechanism, "epsilon": None if mechanism == "none" else 4.0, "delta": None,
        "decoys": 1, "method": method, "value": float(np.mean(list(values.values()))),
        "ci95": [], "clients": values, "reidentification": 0.2, "reidentification_ceiling": 0.3,
        "bytes_up": 2, "bytes_down": 9,
    } | own  # fmt: skip


def _study(own: dict[int, dict[str, float]], method: str = "functional") -> list[dict[str, Any]]:
    """Without an adapter .1 for all, in clear .9, and of a mechanism as told, by seed."""
    clients = [name for values in own.values() for name in values]
    rows = []
    for seed, values in own.items():
        rows.append(_row("none", "zero_shot", dict.fromkeys(clients, 0.1), seed))
        rows.append(_row("none", "functional", dict.fromkeys(clients, 0.9), seed))
        rows.append(_row("subset", method, values, seed))
    return rows


def _subset(rows: list[dict[str, Any]]) -> dict[str, Any]:
    (found,) = [one for one in settings_of(rows) if one["mechanism"] == "subset"]
    return found


def test_a_share_is_of_the_same_clients_and_seeds_and_has_an_interval() -> None:
    values = {"a": 0.5, "b": 0.7, "c": 0.6}
    one = _subset(_study({0: values}))
    shares = [(value - 0.1) / 0.8 for value in values.values()]
    expected = stats.t.interval(0.95, 2, np.mean(shares), stats.sem(shares))
    assert one["share_of_gain"] == pytest.approx(np.mean(shares))
    assert one["share_ci95"] == pytest.approx(expected)
    assert one["ci95"] == pytest.approx([0.1 + 0.8 * bound for bound in expected])


def test_a_seed_that_moves_all_clients_widens_the_interval() -> None:
    level = {"a": 0.5, "b": 0.51, "c": 0.52, "d": 0.53}
    moved = {name: value + 0.2 for name, value in reversed(level.items())}
    once, both = (_subset(_study(own)) for own in ({0: level}, {0: level, 1: moved}))
    assert both["seeds"] == [0, 1]
    assert both["value"] == pytest.approx(0.615)
    assert np.diff(both["share_ci95"]) > 10 * np.diff(once["share_ci95"])


def test_each_seed_has_a_share_of_its_own() -> None:
    rows = runs_of(_study({0: {"a": 0.5, "b": 0.5}, 1: {"a": 0.9, "b": 0.9}}))
    own = [row for row in rows if row["mechanism"] == "subset"]
    assert [row["share_of_gain"] for row in own] == pytest.approx([0.5, 1.0])
    assert not any("clients" in row for row in rows)


def test_fewer_examples_to_choose_by_are_compared_with_the_same_method() -> None:
    (one,) = [
        s
        for s in settings_of(_study({0: {"a": 0.5}}, "functional@8"))
        if s["mechanism"] == "subset"
    ]
    assert one["share_of_gain"] == pytest.approx(0.5)
    assert one["ci95"] == []  # of one client


def test_without_a_gain_there_is_no_share() -> None:
    rows = _study({0: {"a": 0.5, "b": 0.6}})
    for row in rows:
        row["clients"] = dict.fromkeys(row["clients"], 0.1)
    assert {one["share_of_gain"] for one in settings_of(rows)} == {None}
    alone = [row for row in rows if row["mechanism"] == "subset"]
    assert {one["share_of_gain"] for one in settings_of(alone)} == {None}


def test_who_sends_no_description_cannot_be_guessed() -> None:
    rows = [_row("own_dp_sgd", "dp_oracle", {"a": 0.4}, 0, reidentification=None)]
    assert settings_of(rows)[0]["reidentification"] is None
