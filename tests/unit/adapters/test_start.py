"""Adapters as they are delivered are never beyond what a client takes."""

from __future__ import annotations

import numpy as np
import pytest

from sglora_fed.adapters.layout import Layout, ModuleShape, check_vectors
from sglora_fed.adapters.start import norm_bound, within_bound
from sglora_fed.errors import AdapterValueError

LAYOUT = Layout((ModuleShape("query", 40, 30),), 4, 1.0)


def test_who_is_beyond_is_scaled_and_nobody_else() -> None:
    rows = np.random.default_rng(0).normal(size=(3, 2, LAYOUT.size)).astype(np.float32)
    lengths = np.array([[0.5, 0.9], [1.01, 3.0], [1e6, 0.0]], np.float32) * norm_bound(LAYOUT)
    rows *= (lengths / np.linalg.norm(rows, axis=-1))[..., None]
    made = within_bound(rows, LAYOUT).astype(np.float16)
    check_vectors(made, LAYOUT, norm_bound(LAYOUT))
    with pytest.raises(AdapterValueError):
        check_vectors(rows, LAYOUT, norm_bound(LAYOUT))
    np.testing.assert_array_equal(made[0], rows[0].astype(np.float16))
    cosines = (made * rows).sum(axis=-1) / np.maximum(
        np.linalg.norm(made.astype(np.float64), axis=-1) * np.linalg.norm(rows, axis=-1), 1e-9
    )
    np.testing.assert_allclose(cosines, [[1, 1], [1, 1], [1, 0]], atol=1e-3)


def test_what_fits_is_not_touched() -> None:
    rows = np.ones((2, LAYOUT.size), np.float32) * np.float32(1e-3)
    assert within_bound(rows, LAYOUT) is rows
