"""Gaussian noise: the promise holds by independent integration, a weaker one is caught."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.integrate import quad

from sglora_fed.config.schema import PrivacyConfig
from sglora_fed.errors import PrivacyError
from sglora_fed.privacy import GaussianMechanism, make_mechanism
from sglora_fed.privacy.mechanisms import gaussian
from sglora_fed.privacy.mechanisms.base import checked

DIM = 384


def spent_delta(epsilon: float, sigma: float, distance: float) -> float:
    """The least delta of N(0, sigma^2) against N(distance, sigma^2), by its definition.

    It is the hockey-stick divergence, the integral of max(0, p - e^epsilon q): both densities are
    integrated where p - e^epsilon q > 0, which is one half-line. No formula of the mechanism.
    """
    edge = distance / 2 - sigma**2 * epsilon / distance

    def excess(x: float) -> float:
        p, q = stats.norm.pdf(x, 0, sigma), stats.norm.pdf(x, distance, sigma)
        return float(p - math.exp(epsilon) * q)

    assert abs(excess(edge)) < 1e-9 * stats.norm.pdf(edge, 0, sigma) + 1e-300
    assert excess(edge - 0.01 * sigma) > 0
    return float(quad(excess, edge - 40 * sigma, edge, epsabs=0, epsrel=1e-9, limit=400)[0])


def unit(*values: float) -> np.ndarray:
    vector = np.zeros(DIM)
    vector[: len(values)] = values
    return vector / np.linalg.norm(vector)


class TestCalibration:
    @pytest.mark.parametrize("epsilon", [0.1, 1.0, 4.0, 8.0])
    @pytest.mark.parametrize("delta", [1e-6, 1e-3])
    def test_antipodal_descriptions_spend_delta_and_no_more(
        self, epsilon: float, delta: float
    ) -> None:
        sigma = GaussianMechanism(DIM, epsilon, delta).sigma
        farthest = float(np.linalg.norm(unit(3, 4) - unit(-3, -4)))
        assert farthest == pytest.approx(2)
        assert spent_delta(epsilon, sigma, farthest) == pytest.approx(delta, rel=1e-5)

    @pytest.mark.parametrize("epsilon", [0.1, 1.0, 4.0, 8.0])
    def test_a_thousandth_less_noise_breaks_the_promise(self, epsilon: float) -> None:
        sigma = GaussianMechanism(DIM, epsilon, 1e-6).sigma
        assert spent_delta(epsilon, 0.999 * sigma, 2.0) > 1.002e-6

    def test_sensitivity_one_would_be_caught(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(gaussian, "SENSITIVITY", 1.0)
        sigma = GaussianMechanism(DIM, 4.0, 1e-6).sigma
        assert spent_delta(4.0, sigma, 2.0) > 100 * 1e-6

    @settings(max_examples=150, deadline=None)
    @given(st.floats(0.01, 50), st.floats(-9, -1))
    def test_never_on_the_weak_side(self, epsilon: float, exponent: float) -> None:
        """Theorem 8 with scipy's distribution, independent of the calibration's own search."""
        delta = 10**exponent
        ratio = 2 / GaussianMechanism(DIM, epsilon, delta).sigma
        first = stats.norm.cdf(ratio / 2 - epsilon / ratio)
        second = math.exp(epsilon + stats.norm.logcdf(-ratio / 2 - epsilon / ratio))
        assert first - second <= delta
        assert first - second >= delta * (1 - 1e-5)

    @pytest.mark.parametrize(
        ("epsilon", "sigma"),
        [(0.1, 72.61), (1, 8.449), (4, 2.387), (8, 1.306), (16, 0.737), (64, 0.264)],
    )
    def test_published_table(self, epsilon: float, sigma: float) -> None:
        assert GaussianMechanism(DIM, epsilon, 1e-6).sigma == pytest.approx(sigma, rel=2e-3)

    @settings(max_examples=50, deadline=None)
    @given(st.integers(0, 2**32 - 1))
    def test_no_two_descriptions_are_farther_apart_than_the_sensitivity(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        first, second = rng.normal(size=(2, 5))
        pairs = [(first, second), (first, -first), (first * 1e-30, -first)]
        for one, other in pairs:
            one, other = one / np.linalg.norm(one), other / np.linalg.norm(other)
            one, other = (checked(v * 1.0009, 5) for v in (one, other))
            assert np.linalg.norm(one - other) <= gaussian.SENSITIVITY * (1 + 1e-12)


class TestRelease:
    def test_is_the_noisy_vector_at_unit_norm(self, monkeypatch: pytest.MonkeyPatch) -> None:
        noise = np.linspace(-1, 1, DIM)
        monkeypatch.setattr(gaussian, "system_normals", lambda count: noise[:count])
        released = GaussianMechanism(DIM, 8.0, 1e-6).release(unit(1.0))
        expected = unit(1.0) + 1.3059 * noise
        assert released.dtype == np.float32
        np.testing.assert_allclose(released, expected / np.linalg.norm(expected), rtol=2e-4)

    def test_in_one_dimension_the_sign_flips_as_often_as_the_noise_says(self) -> None:
        """A unit vector on the line is +1 or -1, so the release is its sign or the other."""
        mechanism = GaussianMechanism(1, 4.0, 1e-6)
        kept = sum(mechanism.release(np.ones(1))[0] > 0 for _ in range(20_000))
        share = stats.norm.cdf(1 / 2.387)
        assert kept / 20_000 == pytest.approx(share, abs=5 * math.sqrt(0.25 / 20_000))

    def test_published_similarity_at_64(self) -> None:
        """At epsilon 64 and 384 dimensions the expected cosine is 0.190; half the noise: 0.36."""
        mechanism, vector = GaussianMechanism(DIM, 64.0, 1e-6), unit(1.0, 2.0, -1.0)
        cosines = [float(mechanism.release(vector) @ vector) for _ in range(2000)]
        assert np.mean(cosines) == pytest.approx(0.190, abs=0.006)

    def test_the_same_description_twice_differs(self) -> None:
        mechanism = GaussianMechanism(DIM, 8.0, 1e-6)
        assert not np.array_equal(mechanism.release(unit(1.0)), mechanism.release(unit(1.0)))


class TestRefusals:
    @pytest.mark.parametrize(
        ("epsilon", "delta"),
        [
            *((0, 1e-6), (-1, 1e-6), (math.nan, 1e-6), (math.inf, 1e-6), ("4", 1e-6), (None, 1e-6)),
            *((4, 0), (4, 1e-13), (4, 1), (4, math.nan), (4, "1e-6"), (4, None)),
        ],
    )
    def test_impossible_parameters(self, epsilon: Any, delta: Any) -> None:
        with pytest.raises(PrivacyError, match=r"need 0 < epsilon|need 1e-12 <= delta"):
            GaussianMechanism(DIM, epsilon, delta)

    def test_gaussian_without_parameters(self) -> None:
        with pytest.raises(PrivacyError, match=r"needs privacy\.epsilon"):
            make_mechanism(PrivacyConfig("gaussian"), DIM)
