"""Small zoos."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sglora_fed.zoo import Zoo, ZooIdentity, ZooStore, open_zoo

LAYOUT = {"modules": [["query", 3, 2]], "rank": 2, "alpha": 4.0}
SIZE = 2 * (3 + 2)
DIM = 4

MakeZoo = Callable[..., Zoo]


@pytest.fixture
def make_zoo() -> MakeZoo:
    def make(*ids: str, seed: int = 0, dim: int = DIM, size: int = SIZE) -> Zoo:
        random = np.random.default_rng(seed)
        embeddings = random.normal(size=(len(ids), dim))
        embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
        return Zoo(
            ids,
            embeddings.astype(np.float32),
            random.normal(size=(len(ids), size)).astype(np.float32),
            random.uniform(size=(len(ids), size)).astype(np.float32),
            random.integers(1, 100, len(ids)),
        )

    return make


@pytest.fixture
def identity() -> ZooIdentity:
    return ZooIdentity("tiny", "0" * 64, "words", LAYOUT, 3, "c" * 64, {"numpy": "2"})


@pytest.fixture
def store(tmp_path: Path, identity: ZooIdentity, make_zoo: MakeZoo) -> ZooStore:
    """Two shards, three experts."""
    store = open_zoo(tmp_path / "zoo", identity)
    store.add(make_zoo("b", "c", seed=1))
    store.add(make_zoo("a", seed=2))
    return store
