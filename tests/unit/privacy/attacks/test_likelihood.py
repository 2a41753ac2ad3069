"""Likelihoods against closed forms, simulation, and enumeration."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import ndtr

from sglora_fed.errors import AttackError
from sglora_fed.privacy import (
    GaussianMechanism,
    KrrMechanism,
    Mechanism,
    NoMechanism,
    PrivUnitMechanism,
    SubsetMechanism,
)
from sglora_fed.privacy.attacks import likelihoods
from sglora_fed.privacy.attacks.likelihood import log_posterior
from sglora_fed.privacy.mechanisms import ProjectedMechanism, Projection


def test_a_noisy_direction_in_the_plane_has_its_closed_form() -> None:
    """The projected normal of the circle: 1 + a Phi(a) / phi(a), a = t / sigma (Mardia 1972)."""
    mechanism = GaussianMechanism(2, 6.0, 1e-5)
    angles = np.linspace(0, math.pi, 31)
    released = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    found = likelihoods(mechanism, released, np.eye(2))[:, 0]
    slope = np.cos(angles) / mechanism.sigma
    wanted = np.log1p(slope * ndtr(slope) * math.sqrt(2 * math.pi) * np.exp(slope**2 / 2))
    assert found - found[0] == pytest.approx(wanted - wanted[0], abs=1e-9)


@pytest.mark.parametrize("make", ["gaussian", "privunit", "krr", "subset"])
def test_a_posterior_means_what_it_says(make: str, candidates: np.ndarray) -> None:
    """Of guesses that the posterior gives a probability p, the share p is right."""
    mechanism: Mechanism = {
        "gaussian": lambda: GaussianMechanism(16, 30.0, 1e-3),
        "privunit": lambda: PrivUnitMechanism(16, 6.0),
        "krr": lambda: KrrMechanism(candidates, 2.0),
        "subset": lambda: SubsetMechanism(candidates, 2.0, 3),
    }[make]()
    rng, prior = np.random.default_rng(1), np.arange(1, 13) / 78
    truths = rng.choice(12, size=3000, p=prior)
    released = np.stack([mechanism.release(candidates[truth]) for truth in truths])
    believed = np.exp(log_posterior(likelihoods(mechanism, released, candidates), prior))
    right = believed.argmax(axis=1) == truths
    expected = believed.max(axis=1)
    error = math.sqrt((expected * (1 - expected)).sum()) / 3000
    assert abs(right.mean() - expected.mean()) < 5 * error


def test_two_values_that_differ_by_epsilon(candidates: np.ndarray) -> None:
    for mechanism in (
        PrivUnitMechanism(16, 3.0),
        KrrMechanism(candidates, 3.0),
        SubsetMechanism(candidates, 3.0, 4),
    ):
        released = np.stack([mechanism.release(candidates[0]) for _ in range(300)])
        assert set(likelihoods(mechanism, released, candidates).ravel()) == {0.0, 3.0}


def test_a_projection_is_part_of_the_likelihood(candidates: np.ndarray) -> None:
    directions = np.linalg.qr(np.random.default_rng(2).normal(size=(16, 4)))[0]
    projection = Projection(np.zeros(16), directions, 1.0)
    mechanism = ProjectedMechanism(projection, PrivUnitMechanism(4, 2.0))
    down = np.stack([projection.down(row) for row in candidates])
    released = np.stack([mechanism.release(candidates[0]) for _ in range(20)])
    wanted = likelihoods(mechanism.inner, released, down)
    assert (likelihoods(mechanism, released, candidates) == wanted).all()


@pytest.mark.parametrize(
    "released",
    [
        np.full((2, 16), np.nan, np.float32),
        np.full((2, 16), np.inf, np.float32),
        np.zeros((2, 15), np.float32),
        np.zeros((2, 16), np.int64),
        np.zeros(16, np.float32),
        np.float32(1),
    ],
    ids=["nan", "inf", "length", "type", "vector", "number"],
)
def test_what_was_not_released(released: np.ndarray, candidates: np.ndarray) -> None:
    with pytest.raises(AttackError, match="release"):
        likelihoods(NoMechanism(16), released, candidates)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 2.0])
def test_unfit_candidates(bad: float, candidates: np.ndarray) -> None:
    released = np.zeros((2, 16), np.float32)
    with pytest.raises(AttackError, match="norm"):
        likelihoods(NoMechanism(16), released, candidates * bad)
    for rows in (candidates[:1], candidates[0], candidates.astype(int)):
        with pytest.raises(AttackError, match="candidates"):
            likelihoods(NoMechanism(16), released, rows)
    with pytest.raises(AttackError, match="need equal d"):
        likelihoods(NoMechanism(16), released, np.eye(9))
    with pytest.raises(AttackError, match="need equal d"):
        likelihoods(KrrMechanism(candidates, 1.0), np.zeros((2, 1), np.uint16), np.eye(9))


def test_a_place_beyond_the_catalogue(candidates: np.ndarray) -> None:
    with pytest.raises(AttackError, match="place of 12"):
        likelihoods(KrrMechanism(candidates, 1.0), np.array([[12]], np.uint16), candidates)


def test_a_mechanism_that_nobody_knows(candidates: np.ndarray) -> None:
    class Own(NoMechanism):
        pass

    class Stranger:
        name, epsilon, form = "stranger", 1.0, NoMechanism(16).form

    released = candidates.astype(np.float32)
    assert likelihoods(Own(16), released, candidates).shape == (12, 12)
    with pytest.raises(AttackError, match="'stranger' is not known"):
        likelihoods(Stranger(), released, candidates)  # type: ignore[arg-type]
