"""One check of unit vectors, against lengths known beforehand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sglora_fed import units
from sglora_fed.units import UNIT_TOLERANCE, lengths, off_unit


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_lengths_are_those_of_the_numbers_as_they_are_stored(kind: type) -> None:
    rows = np.random.default_rng(0).normal(size=(4, 3, 9000)).astype(kind) * kind(100)
    exact = [[math.sqrt(math.fsum(float(x) ** 2 for x in row)) for row in some] for some in rows]
    assert np.allclose(lengths(rows), exact, rtol=1e-12)
    assert lengths(rows).dtype == np.float64
    assert lengths(rows[:0]).shape == (0, 3)
    assert lengths(rows[..., :0]).tolist() == [[0.0] * 3] * 4


def test_lengths_of_many_rows_are_those_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "BLOCK", 10)
    rows = np.arange(35, dtype=np.float32).reshape(7, 5)  # two rows at a time, one is left over
    assert lengths(rows) == pytest.approx(np.linalg.norm(rows, axis=1))
    wide = np.ones((3, 16), np.float16)
    assert lengths(wide).tolist() == [4.0] * 3


def test_lengths_beyond_float64_are_infinite() -> None:
    assert lengths(np.full(2, 1e200)) == math.inf


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_unit_rows_of_every_type_pass(kind: type) -> None:
    rows = np.random.default_rng(0).normal(size=(50, 3, 384))
    rows /= np.linalg.norm(rows, axis=-1, keepdims=True)
    assert off_unit(rows.astype(kind)) is None
    assert off_unit(np.empty((0, 384), kind)) is None


@pytest.mark.parametrize("factor", [1 - 2 * UNIT_TOLERANCE, 1 + 2 * UNIT_TOLERANCE, 0.0, 7.0])
def test_the_farthest_norm_is_given(factor: float) -> None:
    rows = np.tile(np.array([0.6, 0.8]), (4, 1))
    rows[1] *= 1 + UNIT_TOLERANCE / 2
    assert off_unit(rows) is None
    rows[2] *= factor
    assert off_unit(rows) == pytest.approx(factor)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e200])
def test_numbers_without_a_length_are_no_unit_vector(value: float) -> None:
    rows = np.array([[0.6, 0.8], [value, 0.0], [5.0, 0.0]])
    found = off_unit(rows)
    assert found is not None
    assert not found <= 5


def test_a_length_beyond_float64_is_no_warning() -> None:
    assert off_unit(np.array([1e200, 1e200])) == math.inf
