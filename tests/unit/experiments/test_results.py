"""Rows, their summary, and both on disk."""

from __future__ import annotations

import errno
import json
import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sglora_fed.files
from sglora_fed.errors import ResultsError
from sglora_fed.experiments.results import (
    Row,
    RunFacts,
    read_results,
    rows_to_csv,
    summarise,
    write_results,
)

FACTS = RunFacts(
    name="trial",
    generator="ridge",
    seeds=(0, 1),
    seconds=3.0,
    config_sha256="ab" * 32,
    versions={"numpy": "2"},
    experts=5,
    clients=2,
    virtual_clients_per_node=1,
    refused_replies=3,
    distrusted_experts=2,
    privacy={"mechanism": "none", "epsilon": None, "delta": None, "unit": "one description, local"},
    bytes_per_client={"up": 1540, "down": 100},
    seconds_by_stage={"experts": 1.0, "fit": 0.1, "generate_per_adapter": 0.001, "evaluate": 1.0},
    seconds_by_method={"oracle": 2.5},
    bytes_by_method={"ridge": 100},
    confidence={"a": (0.9, 0.1, 0.7), "b": (0.2, 1.3, 0.4)},
    command="sglora-fed simulate",
)


def rows_of(split: str = "combo", seed: int = 0, **values: list[float]) -> list[Row]:
    """Rows of one metric: method -> the clients' values."""
    return [
        Row(f"{split}-{client}", split, seed, method, "accuracy", value)
        for method, own in values.items()
        for client, value in enumerate(own)
    ]


def entry(summary, method: str, split: str = "combo"):
    (found,) = [r for r in summary["results"] if (r["method"], r["split"]) == (method, split)]
    return found


def planted(clients: int = 60) -> list[Row]:
    """Ridge is 10 points above topk for each client, whatever the client's hardness."""
    rng = np.random.default_rng(0)
    floor = rng.uniform(0.2, 0.5, clients)
    noise = rng.normal(0, 0.01, (2, clients))
    return rows_of(
        zero_shot=list(floor),
        topk=list(floor + 0.1 + noise[0]),
        ridge=list(floor + 0.2 + noise[1]),
        oracle=list(floor + 0.4),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_results(tmp_path_factory.mktemp("run"), planted(12), FACTS, "name: trial\n", 200)


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


@pytest.mark.parametrize("value", [math.nan, math.inf, -0.01, 1.01])
def test_a_row_holds_a_fraction(value):
    with pytest.raises(ResultsError, match="'a'"):
        Row("a", "combo", 0, "soup", "accuracy", value)


def test_results_come_back_from_disk(folder):
    summary, rows = read_results(folder)
    assert rows == planted(12)
    assert summary == json.loads(json.dumps(summarise(planted(12), FACTS, 200)))
    assert {path.name for path in folder.iterdir()} == {
        "summary.json",
        "clients.csv",
        "config.yaml",
        "report.html",
        "figures",
    }
    assert folder.is_absolute()


TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1)
ROWS = st.builds(
    Row, TEXT, TEXT, st.integers(0, 2**63), TEXT, TEXT, st.floats(0, 1, allow_nan=False)
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(ROWS, min_size=1, max_size=5))
def test_any_rows_survive_csv(folder, rows):
    written = (folder / "clients.csv").read_bytes()
    (folder / "clients.csv").write_bytes(rows_to_csv(rows).encode())
    try:
        assert read_results(folder)[1] == rows
    finally:
        (folder / "clients.csv").write_bytes(written)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("summary.json", None, "No such file"),
        ("summary.json", lambda text: text[:200], "not JSON"),
        ("summary.json", lambda text: "[]", "schema None"),
        ("summary.json", lambda text: text.replace('"schema": 1', '"schema": 2'), "schema 2"),
        ("summary.json", lambda text: '{"schema": 1}', "without run, counts"),
        ("clients.csv", None, "No such file"),
        ("clients.csv", lambda text: text[:-3], "damaged after 48 rows"),
        ("clients.csv", lambda text: text.replace("value", "score"), "damaged after 0 rows"),
        ("clients.csv", lambda text: text + "a,combo,0,soup,accuracy\n", "after 48 rows"),
        ("clients.csv", lambda text: text + "a,combo,x,soup,accuracy,0.1\n", "after 48 rows"),
        ("clients.csv", lambda text: text + "a,combo,0,soup,accuracy,nan\n", "fraction"),
    ],
)
def test_damaged_results_are_refused_with_the_reason(folder, tmp_path, name, change, message):
    for other in ("summary.json", "clients.csv"):
        text = (folder / other).read_text()
        if other != name:
            (tmp_path / other).write_text(text)
        elif change is not None:
            (tmp_path / other).write_text(change(text))
    with pytest.raises(ResultsError, match=message):
        read_results(tmp_path)


def test_a_full_disk_leaves_the_older_run_whole(folder, monkeypatch):
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(sglora_fed.files.os, "fsync", full)
    with pytest.raises(ResultsError, match="No space left"):
        write_results(folder, planted(30), FACTS, "name: other\n", 100)
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize(
    "facts",
    [
        replace(FACTS, seconds=math.nan),
        replace(FACTS, confidence={"a": (math.inf, 0.0, 0.5)}),
        replace(FACTS, seconds_by_stage={"fit": math.nan}),
    ],
)
def test_measurements_are_kept_when_the_summary_cannot_be_written(tmp_path, facts):
    with pytest.raises(ResultsError, match="finite"):
        write_results(tmp_path, planted(12), facts, "name: trial\n", 50)
    assert len((tmp_path / "clients.csv").read_text().splitlines()) == 1 + 4 * 12
    assert not (tmp_path / "summary.json").exists()
