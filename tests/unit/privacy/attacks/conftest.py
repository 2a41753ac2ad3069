"""Candidates that attacks choose from."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture(scope="session")
def candidates() -> np.ndarray:
    """[12, 16] unit rows."""
    rows = np.random.default_rng(5).normal(size=(12, 16))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
