"""What all tests share: no network, own folders, and as few threads as two workers can use."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

# Before torch is imported: its thread pools are sized then. Runs started by tests inherit them.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["SGLORA_FED_HOME"] = tempfile.mkdtemp(prefix="sglora-tests-")

import shutil

import pytest
import torch

torch.set_num_threads(1)

FOLDERS = ("unit", "integration", "e2e")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test by the folder that it lies in."""
    for item in items:
        part = item.path.relative_to(Path(__file__).parent).parts[0]
        if part in FOLDERS:
            item.add_marker(part)


def pytest_sessionfinish() -> None:
    """Remove the home that this process made."""
    shutil.rmtree(os.environ["SGLORA_FED_HOME"], ignore_errors=True)
