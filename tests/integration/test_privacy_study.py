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
    points()[0],
    Point("local", ("privacy=local",)),
    Point("krr-8", ("privacy=krr", "privacy.epsilon=8.0")),
]
ALONE = Point("own-4", own_tuning(4.0))
SHORT = [f"experiment.tuning.{name}.steps=2" for name in ("dp_oracle", "dp_shared_full")]


@pytest.fixture
def one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """All in this process: another one would load torch and Flower first."""
    monkeypatch.setattr("sglora_fed.experiments.privacy_study.cores", lambda: 1)


@pytest.fixture
def told(tmp_path: Path) -> list[str]:
    path = tmp_path / "list.json"
    entries = ("cars", "money and banks", "trips", "food and drink", "music")
    write_catalogue(Catalogue("own", 1, entries), path)
    own = [f"privacy.catalogue={path}", "experiment.methods=[zero_shot,ridge]", "seeds=[0]"]
    return [*TINY, *FAST, *own, "federation.nodes=2"]


@pytest.mark.usefixtures("one_core")
def test_a_row_for_each_split_method_and_metric(
    told: list[str], home: Path, tmp_path: Path
) -> None:
    settings = run_study(told, tmp_path / "study", lambda _: None, CHOSEN)
    kept = json.loads((tmp_path / "study" / "sweep.json").read_text())
    rows = kept["runs"]
    assert kept["settings"] == settings
    assert all(set(row) == FIELDS for row in rows)
    assert len(rows) == len(settings) == len(CHOSEN) * 3 * 2  # splits, methods
    # Of one seed both say the same.
    same = ("mechanism", "split", "method", "value", "ci95", "share_of_gain", "bytes_up")
    assert [[one[k] for k in same] for one in settings] == [[row[k] for k in same] for row in rows]
    for row in rows:
        assert row["reidentification"] <= row["reidentification_ceiling"] + 0.1
        clear = row["mechanism"] == "none" and row["method"] == "ridge"
        assert not clear or row["share_of_gain"] in (1.0, None)
        if row["mechanism"] == "local":
            assert row["reidentification"] == pytest.approx(1 / 5)
        assert row["bytes_up"] <= 2048
    page = write_study(tmp_path / "study", settings).read_text()
    assert "krr" in page
    assert "http" not in page.replace("http://www.w3.org", "")


@pytest.mark.usefixtures("one_core")
def test_clients_that_fine_tune_alone_are_rows_of_their_own(
    told: list[str], home: Path, tmp_path: Path
) -> None:
    told += [*SHORT, "generator.readings=3"]
    settings = run_study(told, tmp_path / "study", lambda _: None, [CHOSEN[0], ALONE])
    rows = json.loads((tmp_path / "study" / "sweep.json").read_text())["runs"]
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
    (made,) = {row["bytes_down"] for row in rows if row["method"] == "ridge"}
    # One adapter, where who describes its task gets three to choose from.
    assert down["dp_oracle"] == 0 < 2 * down["dp_shared_full"] < made
    assert (tmp_path / "study" / "own-4" / "seed-0" / "point.json").exists()
    assert len(list((home / "zoos").iterdir())) == 1
    assert "What does my privacy cost me?" in write_study(tmp_path / "study", settings).read_text()


@pytest.mark.usefixtures("one_core")
def test_what_is_finished_is_not_run_again(
    told: list[str], home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = run_study(told, tmp_path / "study", lambda _: None, CHOSEN[:1])
    module = "sglora_fed.experiments.privacy_point.measured"
    monkeypatch.setattr(module, lambda *_, **__: pytest.fail("measured again"))
    assert run_study(told, tmp_path / "study", lambda _: None, CHOSEN[:1]) == before


def test_seeds_and_points_share_the_cores_and_are_kept_each_by_itself(
    told: list[str], home: Path, tmp_path: Path
) -> None:
    both, chosen, said = [*told, "seeds=[0,1]"], [CHOSEN[0], CHOSEN[2]], list[str]()
    settings = run_study(both, tmp_path / "study", said.append, chosen)
    assert {tuple(one["seeds"]) for one in settings} == {(0, 1)}
    ends = [text.partition(": ")[2] for text in said]
    assert len(ends) == 4
    for seed in (0, 1):
        # What makes the zoo of a seed is there before anything else of that seed begins.
        clear, place = [f"{' '.join(p.overrides)} seeds=[{seed}]" for p in chosen]
        assert ends.index(clear) < ends.index(place)
    assert len(list((home / "zoos").iterdir())) == 2
    rows = json.loads((tmp_path / "study" / "sweep.json").read_text())["runs"]
    for one in settings:
        same = ("mechanism", "split", "method", "metric")
        own = [row["value"] for row in rows if all(row[k] == one[k] for k in same)]
        assert one["value"] == pytest.approx(sum(own) / 2)
    again = run_study(told, tmp_path / "study", lambda _: pytest.fail("measured again"), chosen)
    assert {tuple(one["seeds"]) for one in again} == {(0,)}


@pytest.mark.usefixtures("one_core")
def test_a_point_that_fails_says_how_to_go_on(told: list[str], home: Path, tmp_path: Path) -> None:
    broken = Point("shares", ("privacy=shares", "generator=topk", "experiment.methods=[zero_shot]"))
    with pytest.raises(SweepError, match=r"point shares.*not linear.*continues"):
        run_study(told, tmp_path / "other", str, [broken])


def test_all_points_are_different() -> None:
    found = points()
    assert found[0].name == "none"
    assert len({point.name for point in found}) == len(found)
    assert {o for p in found for o in p.overrides} >= {f"privacy.epsilon={e}" for e in EPSILONS}
