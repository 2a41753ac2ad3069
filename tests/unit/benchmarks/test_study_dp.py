"""The study of protected experts: one tiny measurement, and shares of known recalls."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture(scope="module")
def study(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("study_dp")


@pytest.fixture(scope="module")
def tables(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("study_dp_table")


def found(epsilon: float | None, seed: int, recall: float) -> dict[str, Any]:
    point = {"experts": 48, "pairs": 256, "clients": 2, "epsilon": epsilon, "overrides": []}
    promise = {"sigma": 4.0} if epsilon else None
    return {
        "point": point, "seed": seed, "promise": promise, "zero_shot": [0.1, 0.1],
        "functional": [recall, recall], "distrusted": 0, "seconds": 1.0, "device": "none",
    }  # fmt: skip


def test_a_point_is_planned_and_measured(study: ModuleType, tmp_path: Path) -> None:
    words = ("federation.generator_rounds=1", "federation.generator_steps=1")
    plan = tmp_path / "plan.json"
    study.plan([study.Point(16, 8, 4, 8.0, words)], [3], plan)
    (job,) = json.loads(plan.read_text(encoding="utf-8"))
    assert job["rates"] == [1.0]
    assert (job["promise"]["steps"], job["promise"]["rate"]) == (3, 1.0)
    made = study.measured(job, plan.with_suffix(".npz"))
    assert len(made["functional"]) == len(made["zero_shot"]) == 4
    assert made["seed"] == 3
    assert all(0 <= value <= 1 for value in made["functional"])


def test_the_share_is_of_the_same_seeds_gain_without_protection(tables: ModuleType) -> None:
    rows = tables.shares(
        [found(None, 1, 0.9), found(8.0, 1, 0.5), found(None, 2, 0.5), found(8.0, 2, 0.4)]
    )
    assert [row["share_by_seed"] for row in rows] == [[1.0, 1.0], [0.5, 0.75]]
    assert rows[1]["share"] == pytest.approx(0.625)
    text = "\n".join(tables.page(rows, {"command": "c", "seeds": [1, 2], "device": "none"}))
    assert "| 48 | 256 | 2 | 8.0 | 4.00 | 45.0 | 62.5 | 50 75 |" in text


def test_what_was_not_measured_again_stays(tables: ModuleType, tmp_path: Path) -> None:
    before = tables.shares([found(None, 1, 0.9), found(8.0, 1, 0.5), found(4.0, 1, 0.3)])
    path = tmp_path / "before.json"
    path.write_text(json.dumps({"rows": before}), encoding="utf-8")
    again = tables.shares([found(None, 1, 0.8), found(8.0, 1, 0.6)])
    rows = tables.with_earlier(again, path)
    assert {row["epsilon"]: row["recall"] for row in rows} == {None: 0.8, 8.0: 0.6, 4.0: 0.3}
    assert len(rows) == 3
    assert tables.with_earlier(again, tmp_path / "none.json") == again
