"""The Flower app: where it lies, and the copy of it that Flower bundles and sends."""

from __future__ import annotations

import shutil
from pathlib import Path

from sglora_fed.errors import LaunchError

FILES, FOLDERS = ("pyproject.toml", "LICENSE"), ("server", "client")
"""What the app consists of; the library that it imports is installed wherever it runs."""


def app_folder() -> Path:
    """The Flower app: the repository, or the copy inside an installed package.

    Raises:
        LaunchError: when neither is there.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "_app", package.parent):
        if (folder / "server" / "app.py").is_file() and (folder / "pyproject.toml").is_file():
            return folder
    raise LaunchError(f"no Flower app beside or inside {package}; reinstall sglora-fed")


def staged(app: Path, folder: Path) -> Path:
    """A copy of the app alone: Flower looks at every file of the folder, environments included.

    Args:
        app: as :func:`app_folder` gives it.
        folder: made for the copy.

    Returns:
        ``folder``.
    """
    folder.mkdir(parents=True)
    for name in FILES:
        shutil.copy(app / name, folder)
    for name in FOLDERS:
        shutil.copytree(app / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder
