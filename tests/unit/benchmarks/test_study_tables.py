"""Seeds are a level of their own, against scipy's intervals and planted effects."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
from scipy import stats

from sglora_fed.results.rows import Row
from sglora_fed.results.statistics import estimate


@pytest.fixture(scope="module")
def tables(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("study_tables")


def drawn(clients: int, seeds: int) -> np.ndarray:
    return np.random.default_rng(clients).normal(0.5, 0.1, size=(clients, seeds))


def test_one_seed_is_students_interval_over_clients(tables: ModuleType) -> None:
    values = drawn(9, 1)
    found = tables.pooled({(f"c{i}", 4): float(v) for i, (v,) in enumerate(values)})
    expected = stats.ttest_1samp(values[:, 0], 0).confidence_interval()
    assert found.bounds == pytest.approx((expected.low, expected.high))


def test_clients_drawn_anew_make_each_seed_one_observation(tables: ModuleType) -> None:
    values = drawn(9, 3)
    cells = {(f"c{i} of {s}", s): float(values[i, s]) for i in range(9) for s in range(3)}
    expected = stats.ttest_1samp(values.mean(axis=0), 0).confidence_interval()
    assert tables.pooled(cells).bounds == pytest.approx((expected.low, expected.high))


def test_the_same_clients_are_crossed_with_seeds(tables: ModuleType) -> None:
    values = drawn(9, 3)
    cells = {(f"c{i}", s): float(values[i, s]) for i in range(9) for s in range(3)}
    assert tables.pooled(cells) == estimate(values)


def test_intervals_of_nested_clients_cover_a_planted_mean(tables: ModuleType) -> None:
    rng, hits = np.random.default_rng(3), 0
    for _ in range(400):
        of_seed = rng.normal(0, 0.1, size=3)
        values = 0.5 + of_seed + rng.normal(0, 0.1, size=(12, 3))
        cells = {(f"c{i} of {s}", s): float(values[i, s]) for i in range(12) for s in range(3)}
        low, high = tables.pooled(cells).bounds
        hits += low <= 0.5 <= high
    assert hits / 400 == pytest.approx(0.95, abs=0.03)


def test_a_difference_is_that_of_the_same_client_and_seed(tables: ModuleType) -> None:
    values = drawn(6, 1)[:, 0]
    rows = [Row(f"c{i}", "a", 0, "m", "accuracy", float(v)) for i, v in enumerate(values)]
    less = [Row(r.client, "a", 0, "m", "accuracy", r.value - 0.1) for r in rows]
    ignored = Row("c0", "a", 0, "m", "other", 0.0)
    before, after = (tables.tabled(some, "accuracy") for some in ([*rows, ignored], less))
    found = {one["split"]: one for one in tables.results(after, before)}
    assert list(found) == ["a", "all"]
    for one in found.values():
        assert one["minus_reference"] == {"mean": -0.1, "ci95": [-0.1, -0.1]}
        assert one["cells"] == 6
    assert "minus_reference" not in tables.results(before, None)[0]
