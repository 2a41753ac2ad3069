"""Public projection: known subspaces, and nothing that an error could tell."""

from __future__ import annotations

import numpy as np
import pytest

from sglora_fed.errors import PrivacyError
from sglora_fed.privacy.mechanisms import (
    GaussianMechanism,
    KrrMechanism,
    NoMechanism,
    PrivUnitMechanism,
    ProjectedMechanism,
    Projection,
)
from sglora_fed.privacy.mechanisms.projection import leading

EYE = np.eye(6)


@pytest.fixture
def public() -> np.ndarray:
    """60 unit vectors near a plane of axes 2 and 4, a little aside along axis 0."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(60, 6)) * [0.01, 0.01, 1, 0.01, 0.5, 0.01] + 0.3 * EYE[0]
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_the_planted_plane_is_found(public: np.ndarray) -> None:
    directions = leading(public, 2).directions
    np.testing.assert_allclose(directions @ directions.T, np.diag([0, 0, 1, 0, 1, 0]), atol=0.1)


def test_what_lies_in_the_subspace_comes_back() -> None:
    projection = Projection(np.zeros(6), EYE[:, 1:4], 1.0)
    vector = np.array([0, 0.6, 0, -0.8, 0, 0])
    np.testing.assert_allclose(projection.down(vector), [0.6, 0, -0.8])
    np.testing.assert_allclose(projection.up(projection.down(vector)), vector, atol=1e-7)


def test_public_embeddings_come_back_almost(public: np.ndarray) -> None:
    projection = leading(public, 2)
    cosines = [projection.up(projection.down(row)) @ row for row in public]
    assert np.median(cosines) > 0.95


def test_what_lies_outside_becomes_a_fixed_direction() -> None:
    projection = Projection(np.zeros(6), EYE[:, 1:4], 1.0)
    for outside in (EYE[0], -EYE[5], (EYE[0] + EYE[4]) / np.sqrt(2)):
        assert projection.down(outside).tolist() == [1, 0, 0]


def test_the_hash_is_of_every_number_and_of_no_layout_in_memory() -> None:
    mean, directions = EYE[0] / 2, EYE[:, 1:3]
    same = Projection(mean.astype(np.float32), np.asfortranarray(directions), 1.0)
    known = Projection(mean, directions, 1.0).sha256
    assert same.sha256 == known
    others = [
        Projection(mean * 1.0000001, directions, 1.0),
        Projection(mean, directions[:, ::-1], 1.0),
        Projection(mean, directions, 1.0000001),
    ]
    assert len({known, *(other.sha256 for other in others)}) == 4


@pytest.mark.parametrize(
    "inner", [NoMechanism(3), GaussianMechanism(3, 8.0, 1e-6), PrivUnitMechanism(3, 8.0)]
)
def test_the_promise_is_that_of_the_mechanism_within(
    inner: NoMechanism | GaussianMechanism | PrivUnitMechanism,
) -> None:
    mechanism = ProjectedMechanism(Projection(np.zeros(6), EYE[:, :3], 1.0), inner)
    promised = (mechanism.epsilon, mechanism.delta, mechanism.unit, mechanism.replies)
    assert promised == (inner.epsilon, inner.delta, inner.unit, 1)
    assert mechanism.form.nbytes == 6
    assert mechanism.release(EYE[1]).shape == (3,)


def test_nothing_is_released_but_what_the_projection_gives() -> None:
    mechanism = ProjectedMechanism(Projection(EYE[5] / 2, EYE[:, :2], 1.0), NoMechanism(2))
    np.testing.assert_allclose(mechanism.release(EYE[1]), [0, 1])


def test_places_are_nearest_within_the_subspace() -> None:
    """Axis 0 says most about the words and nothing about what counts."""
    projection = Projection(np.zeros(6), EYE[:, 1:3], 1.0)
    rows = np.array([[0.9, 0.1, 0, 0, 0, 0], [-0.9, 0, 0.1, 0, 0, 0]])
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    inside = np.array([projection.down(row) for row in rows])
    mechanism = ProjectedMechanism(projection, KrrMechanism(inside, 60.0))
    vector = np.array([0.9, 0, 0.2, 0, 0, 0]) / np.sqrt(0.85)
    assert mechanism.release(vector).tolist() == [1]
    assert KrrMechanism(rows, 60.0).release(vector).tolist() == [0]


@pytest.mark.parametrize(
    ("mean", "directions", "reach"),
    [
        (np.zeros(6), 2 * EYE[:, :2], 1.0),
        (np.zeros(6), EYE[:, [0, 0]], 1.0),
        (np.zeros(6), EYE[:, :2] * np.nan, 1.0),
        (np.full(6, np.nan), EYE[:, :2], 1.0),
        (np.zeros(5), EYE[:, :2], 1.0),
        (np.zeros(6), EYE[:, :2], 0.0),
        (np.zeros(6), EYE[:, :2], np.nan),
    ],
)
def test_unfit_projections(mean: np.ndarray, directions: np.ndarray, reach: float) -> None:
    with pytest.raises(PrivacyError):
        Projection(mean, directions, reach)


def test_a_mechanism_of_another_length() -> None:
    mechanism = ProjectedMechanism(Projection(np.zeros(6), EYE[:, :2], 1.0), NoMechanism(3))
    with pytest.raises(PrivacyError, match=r"need floats \(3,\)"):
        mechanism.release(EYE[0])


@pytest.mark.parametrize("rank", [0, 7, 60])
def test_more_directions_than_there_are(public: np.ndarray, rank: int) -> None:
    with pytest.raises(PrivacyError, match="0 < r < n"):
        leading(public, rank)
