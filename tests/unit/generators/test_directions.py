"""Directions of a generator: what it looks at, and back to an embedding."""

from __future__ import annotations

import numpy as np
import pytest

from sglora_fed.errors import GeneratorError
from sglora_fed.generators.directions import along, linear_of, strongest
from sglora_fed.generators.linear import LinearGenerator
from sglora_fed.privacy.mechanisms import Projection

DIM, RANK, SIZE = 20, 4, 9


@pytest.fixture
def linear() -> LinearGenerator:
    rng = np.random.default_rng(0)
    basis = rng.normal(size=(RANK, SIZE)) * [[9.0], [3.0], [1.0], [0.1]]
    return LinearGenerator(
        rng.normal(size=DIM) / 10, rng.normal(size=(DIM, RANK)), basis, rng.normal(size=SIZE)
    )


def test_all_directions_together_are_the_generator(linear: LinearGenerator) -> None:
    directions = strongest(linear, None)
    np.testing.assert_allclose(directions.T @ directions, np.eye(RANK), atol=1e-12)
    rows = np.random.default_rng(1).normal(size=(5, DIM))
    made = linear.offset + (rows - linear.centre) @ directions @ along(linear, directions)
    np.testing.assert_allclose(made, linear.adapters(rows), rtol=1e-4, atol=1e-4)


def test_the_first_directions_are_the_best_of_their_number(linear: LinearGenerator) -> None:
    """By the singular values of the whole map from descriptions to adapters (Eckart & Young)."""
    whole = linear.map @ linear.basis
    sizes = np.linalg.svd(whole, compute_uv=False)
    for rank in range(1, RANK):
        kept = strongest(linear, rank)
        rest = whole - kept @ kept.T @ whole
        assert np.linalg.norm(rest, 2) == pytest.approx(sizes[rank], rel=1e-6)


def test_a_release_moves_the_adapter_by_its_own_coordinates_alone() -> None:
    """Where the length is made up in an unseen direction the mean stays as it is."""
    axes = np.eye(5)
    own = Projection(0.6 * axes[0], axes[:, 1:3], 0.5, axes[4])
    embedding = own.up(np.array([1.0, 0.0])).astype(float)
    assert np.linalg.norm(embedding) == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(embedding[:4], [0.6, 0.5, 0, 0], atol=1e-6)


def test_a_generator_that_is_not_linear_is_named() -> None:
    class Other:
        name = "other"

    with pytest.raises(GeneratorError, match="other is not linear"):
        linear_of(Other())  # type: ignore[arg-type]
