"""What a client makes of a generator that a server has chosen to learn something."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from sglora_fed.adapters.layout import Layout, ModuleShape
from sglora_fed.config import compose
from sglora_fed.federation.answers import made_here
from sglora_fed.federation.node import Node
from sglora_fed.tasks.types import Task

LAYOUT, DIM = Layout((ModuleShape("query", 3, 2),), 1, 1.0), 4


def asking(words: np.ndarray) -> Node:
    """A node whose client's words have this embedding."""
    told: Any = SimpleNamespace(
        config=compose(["generator=ridge", "generator.readings=1"]),
        layout=LAYOUT,
        describer=None,
        catalogue=None,
        embed=lambda _: words[None],
    )
    return cast(Node, told)


def split(steepness: float) -> dict[str, np.ndarray]:
    """A ridge regression whose adapters are finite for one half of all descriptions, at 1e30."""
    return {
        "embeddings": np.eye(DIM, dtype=np.float32),
        "centre": np.array([-1.0, 0, 0, 0]),
        "map": np.eye(DIM, 1) * steepness,
        "basis": np.full((1, LAYOUT.size), 1e10, np.float32),
        "offset": np.zeros(LAYOUT.size, np.float32),
    }


@pytest.mark.parametrize("steepness", [1.0, 1e30])
def test_an_answer_does_not_tell_for_whom_a_generator_is_infinite(steepness: float) -> None:
    task = Task("own", "words", {"a": "A", "b": "B"}, (), (), "client", "own")
    for words in np.array([[1.0, 0, 0, 0], [-1.0, 0, 0, 0]], np.float32):
        (made,) = made_here(asking(words), [task], 0, "ridge", split(steepness))
        assert made.dtype == np.float32
        assert np.isfinite(made).all()
        assert made.any() == (words[0] > 0 and steepness == 1)
