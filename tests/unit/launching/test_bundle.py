"""What leaves the machine when a run starts."""

from __future__ import annotations

import io
import shutil
import zipfile
from pathlib import Path

import pytest
from flwr.cli.build import build_fab_from_disk

from sglora_fed.launching.bundle import FILES, FOLDERS, app_folder, staged

APP = {"server/__init__.py", "server/app.py", "client/__init__.py", "client/app.py"}
BUNDLE = APP | {"pyproject.toml", "LICENSE", ".info/CONTENT"}

DECOYS = (
    "secrets/prod.yaml",
    "customers/x.jsonl",
    "certs/ca.toml",
    "clients/names.py",
    "server/keys.json",
    "client/data/tasks.jsonl",
    "sglora_fed/notes.md",
    "data/server/app.py",
    "client.py",
    "report.json",
)
"""What a user may have lying about in a checkout."""


def bundled(app: Path) -> set[str]:
    """Names of the files that Flower takes from a folder."""
    return set(zipfile.ZipFile(io.BytesIO(build_fab_from_disk(app))).namelist())


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The app with other people's files around and inside it."""
    app = staged(app_folder(), tmp_path / "checkout")
    for name in DECOYS:
        (app / name).parent.mkdir(parents=True, exist_ok=True)
        (app / name).write_text("confidential")
    return app


def test_flowers_own_builder_takes_the_apps_and_no_decoy(checkout: Path) -> None:
    assert bundled(checkout) == BUNDLE


def test_the_bundle_is_the_same_from_the_repository_and_from_the_copy(tmp_path: Path) -> None:
    assert bundled(staged(app_folder(), tmp_path / "app")) == bundled(app_folder()) == BUNDLE


def test_the_packages_copy_of_the_app_is_a_whole_app(tmp_path: Path) -> None:
    # As the wheel's force-include lays it out: the apps, without the library.
    inside = tmp_path / "_app"
    for name in FOLDERS:
        shutil.copytree(app_folder() / name, inside / name)
    for name in FILES:
        shutil.copy(app_folder() / name, inside)
    assert bundled(inside) == BUNDLE


def test_the_app_has_both_halves_and_its_licence() -> None:
    for name in ("pyproject.toml", "LICENSE", "server/app.py", "client/app.py"):
        assert (app_folder() / name).is_file()
