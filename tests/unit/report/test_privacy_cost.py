"""The picture of what privacy costs: which curves, where, with which intervals and labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sglora_fed.report.privacy import main_metric, main_rows, table, write_study
from sglora_fed.report.privacy_cost import cost_figure
from sglora_fed.report.words import OWN_TUNING


def _row(mechanism: str, epsilon: float | None, method: str, value: float) -> dict[str, Any]:
    return {
        "family": "cameras", "split": "new_combination", "mechanism": mechanism,
        "epsilon": epsilon, "delta": 1e-3 if mechanism == OWN_TUNING else None, "decoys": 1,
        "method": method, "metric": "r1", "value": value, "ci95": [value - 0.1, value + 0.1],
        "share_of_gain": None, "share_ci95": [],
        "reidentification": None if mechanism == OWN_TUNING else 0.5,
        "reidentification_ceiling": None if mechanism == OWN_TUNING else 0.6,
        "bytes_up": 2, "bytes_down": 9, "seeds": [0],
    }  # fmt: skip


ROWS = [
    _row("none", None, "zero_shot", 0.1),
    _row("none", None, "functional", 0.8),
    _row("local", None, "functional", 0.8),
    *(_row("krr", e, "functional", v) for e, v in ((1.0, 0.2), (8.0, 0.7))),
    *(_row("krr", e, "zero_shot", 0.1) for e in (1.0, 8.0)),
    _row("subset", 8.0, "functional", 0.75),
    *(_row("subset", 8.0, name, v) for name, v in (("functional@8", 0.5), ("zero_shot@8", 0.1))),
    *(_row(OWN_TUNING, e, "dp_oracle", v) for e, v in ((8.0, 0.4), (1.0, 0.15))),
]


def test_each_curve_has_its_points_intervals_and_units() -> None:
    (axis,) = cost_figure(table(ROWS), "r1").axes
    drawn: dict[str, Any] = {str(bars.get_label()): bars for bars in axis.containers}
    assert set(drawn) == {"adapter, krr", "adapter, subset", "own DP-SGD"}
    line, _, (bars,) = drawn["own DP-SGD"].lines
    assert line.get_ydata() == pytest.approx([15, 40])  # by ascending epsilon
    assert line.get_xdata() == pytest.approx([1, 8], rel=0.1)
    assert [s[:, 1] for s in bars.get_segments()][1] == pytest.approx([30, 50])
    # Eight examples to choose by are no second point of the same curve.
    assert drawn["adapter, subset"].lines[0].get_ydata() == pytest.approx([75])
    levels = {one.get_label(): np.asarray(one.get_ydata())[0] for one in axis.lines}
    assert levels["adapter, local"] == pytest.approx(80)
    assert levels["no adapter"] == pytest.approx(10)
    assert axis.get_ylabel() == "mean R@1, %"
    assert "one description (adapter)" in axis.get_xlabel()
    assert "one example (own DP-SGD)" in axis.get_xlabel()


def test_own_fine_tuning_is_not_among_the_mechanisms(tmp_path: Path) -> None:
    assert OWN_TUNING not in {row["mechanism"] for row in main_rows(ROWS)}
    assert {row["method"] for row in main_rows(ROWS)} == {"functional", "functional@8"}
    page = write_study(tmp_path, ROWS).read_text()
    assert "What does my privacy cost me?" in page
    assert "one training example" in page
    assert page.count("<img") == 2


def test_without_own_fine_tuning_there_is_one_picture(tmp_path: Path) -> None:
    rows = [row for row in ROWS if row["mechanism"] != OWN_TUNING]
    assert write_study(tmp_path, rows).read_text().count("<img") == 1


def test_the_metric_that_people_read_first_is_shown() -> None:
    both = [row | {"metric": name} for row in ROWS for name in ("i2t_r1", "r1")]
    assert main_metric(both) == "r1"
    assert main_metric([ROWS[0] | {"metric": "own"}]) == "own"


def test_of_an_uncertain_gain_no_share_is_shown(tmp_path: Path) -> None:
    unsure, sure = (
        _row("krr", 8.0, "functional", 0.7) | {"share_of_gain": 1.234, "share_ci95": bounds}
        for bounds in ([], [1.2, 1.268])
    )
    assert "123.4" not in write_study(tmp_path, [*ROWS, unsure]).read_text()
    shown = [row for row in ROWS if (row["mechanism"], row["epsilon"]) != ("krr", 8.0)]
    assert "123.4 ± 3.4" in write_study(tmp_path, [*shown, sure]).read_text()
