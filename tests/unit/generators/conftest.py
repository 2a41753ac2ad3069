"""What the tests of the generators share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sglora_fed.config.schema import GeneratorConfig

SMALL = GeneratorConfig(neighbours=3, temperature=0.2, latent=4, hidden=16, steps=30)


@pytest.fixture(scope="session")
def settings() -> Callable[..., GeneratorConfig]:
    """A function of changed fields that gives a configuration small enough for tests."""

    def make(**changes: Any) -> GeneratorConfig:
        return replace(SMALL, **changes)

    return make


@pytest.fixture(scope="session")
def descriptions() -> Callable[..., np.ndarray]:
    """A function of (count, dim, seed) that gives unit rows."""

    def make(count: int = 4, dim: int = 6, seed: int = 100) -> np.ndarray:
        rows = np.random.default_rng(seed).normal(size=(count, dim))
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    return make
