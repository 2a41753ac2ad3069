"""A new ledger."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sglora_fed.privacy.ledger import Budget, Ledger, create_ledger


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    create_ledger(tmp_path / "node" / "ledger")
    return tmp_path / "node" / "ledger"


@pytest.fixture
def opened(folder: Path) -> Callable[..., Ledger]:
    return lambda epsilon=3.0, delta=0.0: Ledger(folder, Budget(epsilon, delta))
