"""The summary against planted differences."""

from __future__ import annotations

import pytest

from sglora_fed.errors import ResultsError
from sglora_fed.results.rows import Row
from sglora_fed.results.summary import summarise
from tests.unit.results.planted import FACTS, planted, rows_of


def entry(summary, method: str, split: str = "combo"):
    (found,) = [r for r in summary["results"] if (r["method"], r["split"]) == (method, split)]
    return found


def test_summary_has_the_agreed_schema():
    summary = summarise(planted(), FACTS, 200)
    assert summary["schema"] == 1
    assert {"name", "seeds", "seconds", "config_sha256", "versions"} <= set(summary["run"])
    assert summary["counts"] == {
        "experts": 5,
        "clients": 2,
        "virtual_clients_per_node": 1,
        "refused_replies": 3,
        "distrusted_experts": 2,
    }
    assert summary["bytes_per_client"] == {"up": 1540, "down": 100}
    assert set(summary["privacy"]) == {"mechanism", "epsilon", "delta", "unit"}
    assert set(summary["seconds"]) == {"experts", "fit", "generate_per_adapter", "evaluate"}
    wanted = {"method", "split", "metric", "mean", "ci95", "clients", "gap_closed"}
    assert all(wanted <= set(result) for result in summary["results"])
    assert entry(summary, "oracle")["client_seconds"] == 2.5
    assert entry(summary, "ridge")["bytes_down"] == 100


def test_planted_differences_are_found():
    summary = summarise(planted(), FACTS, 1000)
    difference = entry(summary, "ridge")["minus"]["topk"]
    assert difference["mean"] == pytest.approx(0.1, abs=0.005)
    assert difference["ci95"][0] > 0.09
    assert entry(summary, "ridge")["gap_closed"] == pytest.approx(0.5, abs=0.02)
    assert entry(summary, "oracle")["gap_closed"] == 1
    assert entry(summary, "zero_shot")["gap_closed"] == 0
    # The clients differ far more than the methods: unpaired, the intervals overlap or nearly so.
    low, high = entry(summary, "ridge")["ci95"]
    assert high - low > 5 * (difference["ci95"][1] - difference["ci95"][0])


def test_a_client_counts_once_however_many_seeds_it_has():
    rows = rows_of(soup=[0.0, 1.0]) + rows_of(seed=1, soup=[1.0]) + rows_of(seed=2, soup=[1.0])
    found = entry(summarise(rows, FACTS, 100), "soup")
    assert found["mean"] == pytest.approx((2 / 3 + 1) / 2, abs=1e-6)
    assert found["clients"] == 2


def test_summary_does_not_depend_on_the_order_of_rows():
    rows = planted(20) + rows_of("new_rule", soup=[0.1, 0.9], topk=[0.4, 0.6])
    assert summarise(rows[::-1], FACTS, 100)["results"] == summarise(rows, FACTS, 100)["results"]


def test_methods_are_compared_on_the_clients_that_all_of_them_have():
    found = summarise(rows_of(soup=[0.2, 0.4, 0.9], topk=[0.3, 0.5]), FACTS, 100)
    assert entry(found, "soup")["mean"] == pytest.approx(0.3)
    assert entry(found, "soup")["clients"] == 2


def test_no_gap_without_its_ends():
    summary = summarise(rows_of(soup=[0.2, 0.4], zero_shot=[0.1, 0.2]), FACTS, 100)
    assert entry(summary, "soup")["gap_closed"] is None
    level = summarise(rows_of(oracle=[0.2, 0.4], zero_shot=[0.2, 0.4]), FACTS, 100)
    assert entry(level, "oracle")["gap_closed"] is None


def test_a_client_in_no_method_is_an_error_that_names_the_split():
    rows = [
        Row("a", "combo", 0, "soup", "accuracy", 1.0),
        Row("b", "combo", 0, "topk", "accuracy", 1),
    ]
    with pytest.raises(ResultsError, match="combo"):
        summarise(rows, FACTS, 100)
    with pytest.raises(ResultsError, match="nothing to summarise"):
        summarise([], FACTS, 100)
