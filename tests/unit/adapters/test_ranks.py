"""Adapters of several ranks against products written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sglora_fed.adapters.layout import Layout, ModuleShape, initial_vector
from sglora_fed.adapters.ranks import narrowed, widened
from sglora_fed.errors import LayoutError

LAYOUT = Layout((ModuleShape("one", 5, 4), ModuleShape("two", 3, 6)), 4, 8.0)


def effects(layout: Layout, vectors: np.ndarray) -> list[np.ndarray]:
    """Every alpha / rank B A."""
    pairs = layout.unpack(torch.from_numpy(vectors)).values()
    return [layout.scaling * (b @ a).numpy() for a, b in pairs]


def vectors(layout: Layout, count: int = 3) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, layout.size)).astype(np.float32)


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_a_widened_adapter_has_the_same_effect(rank: int) -> None:
    narrow, small = narrowed(LAYOUT, vectors(LAYOUT), rank)
    start = initial_vector(LAYOUT, 1).numpy()
    wide = widened(narrow, small, LAYOUT, start)
    for got, wanted in zip(effects(LAYOUT, wide), effects(narrow, small), strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_a_narrowed_adapter_is_the_first_rows_and_columns() -> None:
    full = vectors(LAYOUT, 1)
    narrow, small = narrowed(LAYOUT, full, 2)
    assert (narrow.rank, narrow.alpha) == (2, 4.0)
    a, b = LAYOUT.unpack(torch.from_numpy(full))["two"]
    found_a, found_b = narrow.unpack(torch.from_numpy(small))["two"]
    np.testing.assert_array_equal(found_a, a[:, :2])
    np.testing.assert_array_equal(found_b, b[:, :, :2])


def test_the_start_is_narrowed_and_widened_without_a_trace() -> None:
    start = initial_vector(LAYOUT, 1).numpy()
    narrow, small = narrowed(LAYOUT, start[None], 2)
    np.testing.assert_array_equal(widened(narrow, small, LAYOUT, start)[0], start)


@pytest.mark.parametrize("rank", [0, 5])
def test_other_ranks_are_refused(rank: int) -> None:
    with pytest.raises(LayoutError, match="between 1 and 4"):
        narrowed(LAYOUT, vectors(LAYOUT), rank)


def test_other_modules_and_scalings_are_refused() -> None:
    start = initial_vector(LAYOUT, 1).numpy()
    for other in (Layout(LAYOUT.modules[:1], 2, 4.0), Layout(LAYOUT.modules, 2, 8.0)):
        with pytest.raises(LayoutError, match="same modules"):
            widened(other, vectors(other), LAYOUT, start)
