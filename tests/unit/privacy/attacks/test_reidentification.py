"""Re-identification: attains what theory says, never more, and shows a broken mechanism."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sglora_fed.errors import AttackError
from sglora_fed.privacy import (
    GaussianMechanism,
    KrrMechanism,
    NoMechanism,
    PrivUnitMechanism,
    SubsetMechanism,
)
from sglora_fed.privacy.attacks import reidentification, reidentify
from sglora_fed.privacy.mechanisms import LocalMechanism, ProjectedMechanism, SharesMechanism
from sglora_fed.privacy.mechanisms.projection import leading


def rng() -> np.random.Generator:
    return np.random.default_rng(3)


@pytest.mark.parametrize("epsilon", [1.0, 3.0])
def test_randomised_response_attains_its_ceiling(epsilon: float, candidates: np.ndarray) -> None:
    found = reidentify(KrrMechanism(candidates, epsilon), candidates, 4000, rng())
    assert found.ceiling == pytest.approx(math.exp(epsilon) / (math.exp(epsilon) + 11))
    assert abs(found.top1 - found.ceiling) < 4 * found.standard_error
    assert found.chance == 1 / 12


def test_decoys_have_a_lower_one(candidates: np.ndarray) -> None:
    found = reidentify(SubsetMechanism(candidates, 3.0, 4), candidates, 4000, rng())
    hit = 4 * math.exp(3) / (4 * math.exp(3) + 8)
    assert found.ceiling == pytest.approx(hit / 4)
    assert found.top1 == pytest.approx(hit / 4, abs=0.01)
    assert found.top5 == pytest.approx(hit + (1 - hit) / 8, abs=0.02)


@pytest.mark.parametrize("epsilon", [0.5, 2.0, 8.0])
def test_nobody_passes_it(epsilon: float, candidates: np.ndarray) -> None:
    projection = leading(candidates, 4)
    for mechanism in (
        GaussianMechanism(16, epsilon, 1e-6),
        PrivUnitMechanism(16, epsilon),
        ProjectedMechanism(projection, PrivUnitMechanism(4, epsilon)),
        ProjectedMechanism(projection, GaussianMechanism(4, epsilon, 1e-6)),
    ):
        found = reidentify(mechanism, candidates, 1000, rng())
        assert found.within_ceiling
        assert found.top1 > found.chance - 4 * math.sqrt(found.chance / 1000)


def test_an_embedding_in_the_clear_is_known(candidates: np.ndarray) -> None:
    found = reidentify(NoMechanism(16), candidates, 50, rng())
    assert (found.top1, found.top5, found.reciprocal_rank, found.ceiling) == (1, 1, 1, 1)


def test_too_little_noise_is_seen(candidates: np.ndarray) -> None:
    """Attacked as what it says it is, a mechanism of a larger epsilon passes its ceiling."""
    truths = rng().integers(12, size=2000)
    loud = KrrMechanism(candidates, 4.0)
    released = np.stack([loud.release(candidates[truth]) for truth in truths])
    said = KrrMechanism(candidates, 2.0)
    assert not reidentification(said, released, candidates, truths).within_ceiling


def test_a_prior_is_used(candidates: np.ndarray) -> None:
    prior = np.array([0.89, *[0.01] * 11])
    truths = rng().choice(12, size=2000, p=prior)
    mechanism = KrrMechanism(candidates, 1.0)
    released = np.stack([mechanism.release(candidates[truth]) for truth in truths])
    found = reidentification(mechanism, released, candidates, truths, prior)
    assert found.top1 == (truths == 0).mean()
    assert found.within_ceiling
    assert found.chance == 0.89


def test_ties_count_as_drawn_by_lot() -> None:
    """Two candidates of one place: nothing tells them apart at any epsilon."""
    rows = np.eye(3)
    candidates = np.array([[1, 0, 0], [0.8, 0.6, 0], [0, 0, 1.0]])
    mechanism = KrrMechanism(rows, 50.0)
    released = np.array([[0], [0], [2]], np.uint16)
    found = reidentification(mechanism, released, candidates, np.array([0, 1, 2]))
    assert found.top1 == pytest.approx((0.5 + 0.5 + 1) / 3)
    assert found.reciprocal_rank == pytest.approx((0.75 + 0.75 + 1) / 3)
    assert found.top5 == 1


def test_who_sees_nothing_or_one_share_guesses(candidates: np.ndarray) -> None:
    for mechanism in (LocalMechanism(), SharesMechanism(leading(candidates, 4))):
        found = reidentify(mechanism, candidates, 30, rng())
        assert found.top1 == pytest.approx(1 / 12)
        assert found.ceiling == pytest.approx(1 / 12)


@pytest.mark.parametrize("truths", [[0], [0, 12], [0, -1], [0.0, 1.0], [[0], [1]], []], ids=str)
def test_truths_that_do_not_belong(truths: list[float], candidates: np.ndarray) -> None:
    released = candidates[:2].astype(np.float32)
    with pytest.raises(AttackError, match="truths"):
        reidentification(NoMechanism(16), released, candidates, np.array(truths))
    with pytest.raises(AttackError, match="at least 1"):
        reidentify(NoMechanism(16), candidates, 0, rng())
