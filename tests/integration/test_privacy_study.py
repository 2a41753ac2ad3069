"""The study of privacy and utility: every row, resumable, and one page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sglora_fed.errors import SweepError
from sglora_fed.experiments.privacy_study import EPSILONS, Point, own_tuning, points, run_study
from sglora_fed.privacy.catalogue import Catalogue, write_catalogue
from sglora_fed.report.privacy import write_study
from sglora_fed.report.words import OWN_TUNING
from tests.integration.conftest import FAST, TINY

FIELDS = {
    "family", "split", "mechanism", "epsilon", "delta", "decoys", "method", "metric", "value",
    "ci95", "share_of_gain", "reidentification", "reidentification_ceiling", "bytes_up",
    "bytes_down", "seed",
}  # fmt: skip
CHOSEN = [
    Point("none", ("privacy=none",)),
    Point("local", ("privacy=local",)),
    Point("krr-8", ("privacy=krr", "privacy.epsilon=8.0")),
]
ALONE = Point("own-4", own_tuning(4.0))
SHORT = [f"experiment.tuning.{name}.steps=2" for name in ("dp_oracle", "dp_shared_full")]


@pytest.fixture
def told(tmp_path: Path) -> list[str]:
    path = tmp_path / "list.json"
    entries = ("cars", "money and banks", "trips", "food and drink", "music")
    write_catalogue(Catalogue("own", 1, entries), path)
    own = [f"privacy.catalogue={path}", "experiment.methods=[zero_shot,ridge]", "seeds=[0]"]
    return [*TINY, *FAST, *own, "federation.nodes=2"]


def test_a_row_for_each_split_method_and_metric(
    told: list[str], home: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    rows = run_study(told, tmp_path / "study", said.append, CHOSEN)
    assert all(set(row) == FIELDS for row in rows)
    assert len(rows) == len(CHOSEN) * 3 * 2  # splits, methods
    assert json.loads((tmp_path / "study" / "sweep.json").read_text())["runs"] == rows
    for row in rows:
        assert row["reidentification"] <= row["reidentification_ceiling"] + 0.1
        clear = row["mechanism"] == "none" and row["method"] == "ridge"
        assert not clear or row["share_of_gain"] in (1.0, None)
        if row["mechanism"] == "local":
            assert row["reidentification"] == pytest.approx(1 / 5)
        assert row["bytes_up"] <= 2048
    page = write_study(tmp_path / "study", rows).read_text()
    assert "krr" in page
    assert "http" not in page.replace("http://www.w3.org", "")


def test_clients_that_fine_tune_alone_are_rows_of_their_own(
    told: list[str], home: Path, tmp_path: Path
) -> None:
    rows = run_study([*told, *SHORT], tmp_path / "study", lambda _: None, [CHOSEN[0], ALONE])
    assert {(r["mechanism"], r["method"]) for r in rows} == {
        *(("none", method) for method in ("zero_shot", "ridge")),
        *((OWN_TUNING, method) for method in ("dp_oracle", "dp_shared_full")),
    }
    own = [row for row in rows if row["mechanism"] == OWN_TUNING]
    assert all(set(row) == FIELDS for row in own)
    # Sixteen examples of each client; nothing about a description, so nothing to guess.
    assert {(row["epsilon"], row["delta"]) for row in own} == {(4.0, 1 / 160)}
    assert {(row["reidentification"], row["bytes_up"]) for row in own} == {(None, 0)}
    down = {row["method"]: row["bytes_down"] for row in own}
    assert down["dp_oracle"] == 0 < down["dp_shared_full"]
    assert (tmp_path / "study" / "own-4" / "point.json").exists()
    assert len(list((home / "zoos").iterdir())) == 1
    assert "What does my privacy cost me?" in write_study(tmp_path / "study", rows).read_text()


def test_what_is_finished_is_not_run_again(
    told: list[str], home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = run_study(told, tmp_path / "study", lambda _: None, CHOSEN[:1])
    module = "sglora_fed.experiments.privacy_study.measured"
    monkeypatch.setattr(module, lambda *_, **__: pytest.fail("measured again"))
    assert run_study(told, tmp_path / "study", lambda _: None, CHOSEN[:1]) == before


def test_a_point_that_fails_says_how_to_go_on(told: list[str], home: Path, tmp_path: Path) -> None:
    broken = Point("shares", ("privacy=shares", "generator=topk", "experiment.methods=[zero_shot]"))
    with pytest.raises(SweepError, match=r"point shares.*not linear.*continues"):
        run_study(told, tmp_path / "other", str, [broken])


def test_all_points_are_different() -> None:
    found = points()
    assert found[0].name == "none"
    assert len({point.name for point in found}) == len(found)
    assert {o for p in found for o in p.overrides} >= {f"privacy.epsilon={e}" for e in EPSILONS}
