"""The summary against planted differences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from sglora_fed.errors import ResultsError
from sglora_fed.results.rows import Row
from sglora_fed.results.summary import summarise
from tests.unit.results.planted import FACTS, planted, rows_of


def entry(summary, method: str, split: str = "combo"):
    (found,) = [r for r in summary["results"] if (r["method"], r["split"]) == (method, split)]
    return found


def test_summary_has_the_agreed_schema():
    summary = summarise(planted(), FACTS)
    assert summary["schema"] == 2
    assert {"name", "seeds", "seconds", "config_sha256", "versions"} <= set(summary["run"])
    assert summary["counts"] == {
        "experts": 5,
        "clients": 2,
        "incomplete_clients": 0,
        "virtual_clients_per_node": 1,
        "refused_replies": 3,
        "distrusted_experts": 2,
    }
    assert summary["bytes_per_client"] == {"up": 1540, "down": 100}
    assert summary["nodes"]["bytes"] == {"train.shared": {"down": 8, "up": 16}}
    assert summary["nodes"]["peak_mb"] == [512]
    assert set(summary["privacy"]) == {
        "mechanism",
        "unit",
        "per_release",
        "releases",
        "total",
    }
    assert set(summary["seconds"]) == {"experts", "fit", "generate_per_adapter", "evaluate"}
    wanted = {"method", "split", "metric", "mean", "ci95", "clients", "gap_closed"}
    assert all(wanted <= set(result) for result in summary["results"])
    assert entry(summary, "oracle")["client_seconds"] == 2.5
    assert entry(summary, "ridge")["bytes_down"] == 100


def test_planted_differences_are_found():
    summary = summarise(planted(), FACTS)
    difference = entry(summary, "ridge")["minus"]["topk"]
    assert difference["mean"] == pytest.approx(0.1, abs=0.005)
    assert difference["ci95"][0] > 0.09
    assert entry(summary, "ridge")["gap_closed"] == pytest.approx(0.5, abs=0.02)
    assert entry(summary, "oracle")["gap_closed"] == 1
    assert entry(summary, "zero_shot")["gap_closed"] == 0
    # The clients differ far more than the methods: unpaired, the intervals overlap or nearly so.
    low, high = entry(summary, "ridge")["ci95"]
    assert high - low > 5 * (difference["ci95"][1] - difference["ci95"][0])


def test_seeds_are_not_more_clients():
    rng = np.random.default_rng(1)
    rows = [
        Row(str(client), "combo", seed, "soup", "accuracy", float(0.5 + shift + 0.02 * noise))
        for seed, shift in enumerate((-0.1, 0.0, 0.12))
        for client, noise in enumerate(rng.normal(size=40))
    ]
    found = entry(summarise(rows, FACTS), "soup")
    low, high = found["ci95"]
    assert found["clients"] == 40
    # As wide as three numbers that far apart make it: the t interval of the seeds' means.
    means = [np.mean([row.value for row in rows if row.seed == seed]) for seed in range(3)]
    half = stats.t.ppf(0.975, 2) * np.std(means, ddof=1) / np.sqrt(3)
    assert (high - low) / 2 == pytest.approx(half, rel=0.05)


def test_one_client_has_no_interval():
    found = entry(summarise(rows_of(zero_shot=[0.4], soup=[0.9], oracle=[1.0]), FACTS), "soup")
    assert found["ci95"] is None
    assert found["minus"]["zero_shot"] == {"mean": 0.5, "ci95": None, "clients": 1}
    assert (found["gap_closed"], found["gap_closed_ci95"]) == (pytest.approx(0.5 / 0.6), None)


def test_intervals_end_where_the_values_do():
    found = summarise(rows_of(zero_shot=[0.0, 0.1], soup=[0.2, 1.0]), FACTS)
    assert entry(found, "soup")["ci95"] == [0.0, 1.0]
    assert entry(found, "soup")["minus"]["zero_shot"]["ci95"] == [-1.0, 1.0]


def test_summary_does_not_depend_on_the_order_of_rows():
    rows = planted(20) + rows_of("new_rule", soup=[0.1, 0.9], topk=[0.4, 0.6])
    assert summarise(rows[::-1], FACTS)["results"] == summarise(rows, FACTS)["results"]


def test_methods_are_compared_on_the_clients_that_have_both():
    found = summarise(rows_of(soup=[0.2, 0.4, 0.9], topk=[0.3, 0.5]), FACTS)
    assert entry(found, "soup")["mean"] == pytest.approx(0.5)
    assert entry(found, "soup")["clients"] == 3
    assert entry(found, "soup")["minus"]["topk"] == {
        "mean": pytest.approx(-0.1),
        "ci95": pytest.approx([-0.1, -0.1]),
        "clients": 2,
    }
    assert found["counts"]["incomplete_clients"] == 1


def test_a_client_that_lacks_rows_changes_nothing_for_the_others():
    honest = summarise(planted(20), FACTS)
    hostile = [Row("liar", "combo", 0, "ridge", "accuracy", 1.0)]
    found = summarise(planted(20) + hostile, FACTS)
    for method in ("zero_shot", "topk", "oracle"):
        assert entry(found, method)["mean"] == entry(honest, method)["mean"]
    assert entry(found, "ridge")["minus"] == entry(honest, "ridge")["minus"]
    assert entry(found, "ridge")["gap_closed"] == entry(honest, "ridge")["gap_closed"]
    assert entry(found, "ridge")["clients"] == 21
    assert found["counts"]["incomplete_clients"] == 1


def test_a_client_without_a_metric_or_a_seed_is_counted():
    rows = rows_of(soup=[0.1, 0.2, 0.3]) + rows_of(seed=1, soup=[0.1, 0.2])
    more = [Row("combo-0", "combo", 0, "soup", "other", 0.5)]
    assert summarise(rows, FACTS)["counts"]["incomplete_clients"] == 1
    assert summarise(rows + more, FACTS)["counts"]["incomplete_clients"] == 2


def test_methods_that_share_no_client_are_not_compared():
    rows = [
        Row("a", "combo", 0, "soup", "accuracy", 1.0),
        Row("b", "combo", 0, "topk", "accuracy", 1.0),
    ]
    found = summarise(rows, FACTS)
    assert entry(found, "soup")["minus"] == {}
    assert found["counts"]["incomplete_clients"] == 2


def test_two_values_of_one_thing_are_refused():
    with pytest.raises(ResultsError, match="two values of accuracy of ridge for client 'combo-0'"):
        summarise([*planted(3), planted(3)[6]], FACTS)


def test_retrieval_is_judged_by_the_mean_of_both_directions():
    ways = {"i2t_r1": [0.2, 0.4], "t2i_r1": [0.4, 0.8], "t2i_r5": [1.0, 1.0]}
    rows = [
        Row(str(client), "combo", 0, method, metric, value if method == "soup" else 0.0)
        for metric, values in ways.items()
        for client, value in enumerate(values)
        for method in ("soup", "zero_shot")
    ]
    found = summarise(rows, FACTS)
    (mean,) = [r for r in found["results"] if (r["metric"], r["method"]) == ("r1", "soup")]
    assert mean["mean"] == pytest.approx(0.45)
    assert mean["minus"]["zero_shot"]["mean"] == pytest.approx(0.45)
    assert {r["metric"] for r in found["results"]} == {*ways, "r1"}
    assert len(rows) == 12


@pytest.mark.parametrize(
    ("epsilon", "delta", "total"), [(4.0, 1e-6, (12.0, 3e-6)), (None, None, (None, None))]
)
def test_each_seed_is_a_release_and_they_add_up(epsilon, delta, total):
    bought = {"mechanism": "gaussian", "epsilon": epsilon, "delta": delta, "unit": "one text"}
    facts = replace(FACTS, seeds=(0, 1, 2), privacy=bought)
    assert summarise(planted(3), facts)["privacy"] == {
        "mechanism": "gaussian",
        "unit": "one text",
        "per_release": {"epsilon": epsilon, "delta": delta},
        "releases": 3,
        "total": {"epsilon": total[0], "delta": total[1] and pytest.approx(total[1])},
    }


def test_no_gap_without_its_ends():
    summary = summarise(rows_of(soup=[0.2, 0.4], zero_shot=[0.1, 0.2]), FACTS)
    assert entry(summary, "soup")["gap_closed"] is None
    level = summarise(rows_of(oracle=[0.2, 0.4], zero_shot=[0.2, 0.4]), FACTS)
    assert entry(level, "oracle")["gap_closed"] is None


def test_there_must_be_something_to_summarise():
    with pytest.raises(ResultsError, match="nothing to summarise"):
        summarise([], FACTS)
