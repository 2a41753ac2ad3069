"""Runs for a tracker: asked before they start, told the numbers of the summary."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sglora_fed.config import compose, config_sha256, config_yaml
from sglora_fed.config.building import option_types
from sglora_fed.errors import ConfigError, TrackingError
from sglora_fed.experiments import tracking
from sglora_fed.experiments.checks import check_runnable
from sglora_fed.experiments.finish import write_results
from sglora_fed.experiments.run import run_experiment
from sglora_fed.experiments.tracking import check_tracking, open_tracker, track
from tests.unit.results.planted import FACTS, planted

CONFIG = compose(["tracking=mlflow", "generator=ridge", "name=trial"])


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SGLORA_FED_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def without_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)


def test_nobody_is_told_unless_asked() -> None:
    assert compose().tracking.name == "none"
    assert open_tracker(compose().tracking) is None
    track(None, compose(), Path("nowhere"))


@pytest.mark.usefixtures("without_mlflow")
def test_a_missing_extra_is_told_before_anything_starts(tmp_path: Path) -> None:
    for refuse in (
        lambda: check_tracking(CONFIG.tracking),
        lambda: check_runnable(CONFIG),
        lambda: run_experiment(CONFIG, None, tmp_path),  # type: ignore[arg-type]
    ):
        with pytest.raises(TrackingError, match=r"pip install 'sglora-fed\[tracking\]'"):
            refuse()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (("tracking.uri=http://h",), "choose tracking=mlflow"),
        (("tracking=mlflow", "tracking.uri=mlruns"), "must be a URI"),
        (("tracking=mlflow", "tracking.uri=sqlite:///runs.db"), "absolute"),
        (("tracking.name=wandb",), "must be one of none, mlflow"),
    ],
)
def test_mistakes_are_told_with_what_is_allowed(overrides: tuple[str, ...], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        compose(overrides)


def test_who_is_told_is_not_part_of_what_a_run_is() -> None:
    same = compose(["generator=ridge", "name=trial"])
    assert config_sha256(CONFIG) == config_sha256(same)
    assert config_sha256(CONFIG) != config_sha256(compose(["name=trial"]))


class TestMlflow:
    """With the real library and a store of its own."""

    @pytest.fixture(autouse=True)
    def _installed(self) -> None:
        pytest.importorskip("mlflow", reason="the extra `tracking`, a part of `dev`")

    def test_a_run_is_there_with_the_numbers_of_its_summary(self, home: Path) -> None:
        folder = home / "run"
        tracker = open_tracker(CONFIG.tracking)
        assert tracker is not None
        write_results(folder, planted(12), FACTS, config_yaml(CONFIG))
        track(tracker, CONFIG, folder)

        (run,) = tracker.client.search_runs([tracker.experiment])
        assert (run.info.run_name, run.info.status) == ("trial", "FINISHED")
        summary = json.loads((folder / "summary.json").read_text())
        expected = {}
        for result in summary["results"]:
            name = "/".join(result[part] for part in ("method", "split", "metric"))
            low, high = result["ci95"]
            expected |= {name: result["mean"], f"{name}/low": low, f"{name}/high": high}
        assert run.data.metrics == expected
        assert run.data.params["generator.name"] == "ridge"
        assert run.data.params["adapter.train.lr"] == str(CONFIG.adapter.train.lr)
        assert set(run.data.params) == set(option_types())
        for name in ("report.html", "summary.json", "config.yaml"):
            kept = tracker.client.download_artifacts(run.info.run_id, name)
            assert Path(kept).read_bytes() == (folder / name).read_bytes()
        assert not (Path.cwd() / "mlruns").exists()

    def test_all_runs_are_one_experiment(self, home: Path) -> None:
        first, second = open_tracker(CONFIG.tracking), open_tracker(CONFIG.tracking)
        assert first is not None
        assert second is not None
        assert first.experiment == second.experiment
        assert [path.name for path in home.iterdir()] == ["tracking"]

    def test_a_store_that_does_not_answer_is_told_before_a_run(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        asked = compose(["tracking=mlflow", "tracking.uri='http://127.0.0.1:9'"])
        with pytest.raises(TrackingError, match=r"http://127\.0\.0\.1:9"):
            run_experiment(asked, None, tmp_path)  # type: ignore[arg-type]
        assert not list(tmp_path.iterdir())

    def test_a_store_that_is_full_leaves_the_results(
        self, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = write_results(home / "run", planted(12), FACTS, config_yaml(CONFIG))
        tracker = open_tracker(CONFIG.tracking)
        # The database cannot be written any more.
        for file in (home / "tracking").glob("mlflow.db*"):
            file.write_bytes(b"no database")
        with pytest.raises(TrackingError, match=r"results in .* are whole"):
            track(tracker, CONFIG, folder)
        assert (folder / "summary.json").exists()
