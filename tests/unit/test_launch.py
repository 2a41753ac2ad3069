"""What the launcher works out before it starts anything."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
from flwr.cli.build import build_fab_from_disk

from sglora_fed.config import compose
from sglora_fed.launch import app_folder, staged, with_absolute_paths


def test_relative_paths_mean_the_same_in_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "it's a [place]"
    (here / "model").mkdir(parents=True)
    monkeypatch.chdir(here)
    overrides = ["zoo.path=my-zoo", "backbone.path=model", "seeds=[2]"]
    sent = with_absolute_paths(compose(overrides), overrides)
    monkeypatch.chdir(tmp_path)
    there = compose(sent)
    assert there.zoo.path == str(here / "my-zoo")
    assert there.backbone.path == str(here / "model")
    assert there.seeds == (2,)


def test_a_hub_id_and_absolute_paths_stay_as_they_are(tmp_path: Path) -> None:
    overrides = ["backbone=clip", "backbone.path=someone/some-clip", f"zoo.path={tmp_path}"]
    assert with_absolute_paths(compose(overrides), overrides) == overrides


def test_the_app_has_both_halves_and_its_licence() -> None:
    for name in ("pyproject.toml", "LICENSE", "server/app.py", "client/app.py"):
        assert (app_folder() / name).is_file()


def bundled(app: Path) -> set[str]:
    """Names of the files that Flower takes from a folder."""
    return set(zipfile.ZipFile(io.BytesIO(build_fab_from_disk(app))).namelist())


def test_the_bundle_holds_the_whole_app_and_nothing_else(tmp_path: Path) -> None:
    app = app_folder()
    bundle = bundled(staged(app, tmp_path / "app"))
    assert bundle == bundled(app)
    needed = {
        path.relative_to(app).as_posix()
        for part in ("sglora_fed", "server", "client", "configs")
        for path in (app / part).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.name != "py.typed"
    }
    assert bundle == needed | {"pyproject.toml", "LICENSE", ".info/CONTENT"}
