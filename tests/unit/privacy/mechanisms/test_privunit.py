"""PrivUnit: the cap's probabilities by integration of the sphere, the releases by counting."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.integrate import quad

from sglora_fed.config.schema import PrivacyConfig
from sglora_fed.errors import PrivacyError
from sglora_fed.privacy import PrivUnitMechanism, make_mechanism
from sglora_fed.privacy.mechanisms import privunit
from sglora_fed.privacy.mechanisms.privunit import best_cap

TABLE = {384: (0.020, 0.077, 0.139), 32: (0.071, 0.265, 0.461), 8: (0.144, 0.512, 0.792)}
"""Expected cosine at epsilon 1, 4 and 8: reference values."""


def share(edge: float, dim: int, moment: int = 0) -> float:
    """The integral of w^moment over the cap, by the angle to its centre: sin^(d-2) of it."""

    def ring(angle: float) -> float:
        return math.cos(angle) ** moment * math.sin(angle) ** (dim - 2)

    whole = quad(lambda angle: math.sin(angle) ** (dim - 2), 0, math.pi, epsabs=0)[0]
    return float(quad(ring, 0, math.acos(edge), epsabs=0, limit=200)[0] / whole)


class TestCap:
    @pytest.mark.parametrize("dim", [2, 3, 8, 16, 64])
    @pytest.mark.parametrize("epsilon", [0.1, 1.0, 4.0, 8.0])
    def test_densities_differ_by_epsilon_and_no_more(self, dim: int, epsilon: float) -> None:
        cap = best_cap(dim, epsilon)
        size = share(cap.edge, dim)
        assert cap.size == pytest.approx(size, rel=1e-8)
        inside, outside = (1 - cap.missed) / size, cap.missed / (1 - size)
        assert math.log(inside / outside) == pytest.approx(epsilon, abs=1e-8)

    @settings(max_examples=60, deadline=None)
    @given(st.integers(2, 512), st.floats(0.01, 64))
    def test_never_on_the_weak_side(self, dim: int, epsilon: float) -> None:
        cap = best_cap(dim, epsilon)
        ratio = math.log1p(-cap.missed) - math.log(cap.size)
        ratio -= math.log(cap.missed) - math.log1p(-cap.size)
        assert ratio == pytest.approx(epsilon, abs=1e-11 * max(1, epsilon))
        assert 0 < cap.missed < 1
        assert cap.bias < 1

    @pytest.mark.parametrize("dim", [3, 8, 16])
    @pytest.mark.parametrize("epsilon", [1.0, 8.0])
    def test_no_other_edge_is_better(self, dim: int, epsilon: float) -> None:
        def cosine(edge: float) -> float:
            size, moment = share(edge, dim), share(edge, dim, 1)
            p = math.exp(epsilon) * size / (math.exp(epsilon) * size + 1 - size)
            return moment * (p / size - (1 - p) / (1 - size))

        cap = best_cap(dim, epsilon)
        assert cap.bias == pytest.approx(cosine(cap.edge), rel=1e-7)
        assert cap.bias >= max(cosine(edge) for edge in np.linspace(0, 0.99, 100)) * (1 - 1e-4)

    @pytest.mark.parametrize(("dim", "cosines"), TABLE.items())
    def test_reference_values(self, dim: int, cosines: tuple[float, ...]) -> None:
        found = [best_cap(dim, epsilon).bias for epsilon in (1.0, 4.0, 8.0)]
        assert found == pytest.approx(cosines, abs=6e-4)


def unit(*values: float) -> np.ndarray:
    return np.array(values) / np.linalg.norm(values)


class TestRelease:
    @pytest.mark.parametrize(("dim", "epsilon"), [(3, 1.0), (12, 4.0), (384, 8.0)])
    def test_cap_and_cosine_as_calibrated(self, dim: int, epsilon: float) -> None:
        """Forgotten noise, half of epsilon or twice of it: other shares in the same cap."""
        mechanism, centre = PrivUnitMechanism(dim, epsilon), unit(*range(1, dim + 1))
        cosines = np.array([mechanism.release(centre) @ centre for _ in range(4000)])
        inside, p = int((cosines >= mechanism.cap.edge).sum()), 1 - mechanism.cap.missed
        assert stats.binomtest(inside, 4000, p).pvalue > 1e-6
        for wrong in (epsilon / 2, 2 * epsilon):
            size = mechanism.cap.size
            other = math.exp(wrong) * size / (math.exp(wrong) * size + 1 - size)
            assert stats.binomtest(inside, 4000, other).pvalue < 1e-6
        error = cosines.std() / math.sqrt(4000)
        assert cosines.mean() == pytest.approx(mechanism.cap.bias, abs=5 * error)

    def test_in_the_plane_the_density_has_two_levels(self) -> None:
        """Angles of a circle in 12 equal parts, half of them cut by the cap's edge or not."""
        mechanism, centre = PrivUnitMechanism(2, 2.0), unit(1.0, 0.0)
        cap = mechanism.cap
        edge = math.acos(cap.edge)
        released = np.array([mechanism.release(centre) for _ in range(20_000)])
        angles = np.arctan2(released[:, 1], released[:, 0])
        cuts = np.unique(np.r_[np.linspace(-math.pi, math.pi, 13), -edge, edge])
        width = np.diff(cuts) / (2 * math.pi)
        inside = np.abs(cuts[:-1] + cuts[1:]) / 2 < edge
        share = np.where(inside, (1 - cap.missed) / cap.size, cap.missed / (1 - cap.size)) * width
        counts = np.histogram(angles, cuts)[0]
        assert share.sum() == pytest.approx(1)
        assert stats.chisquare(counts, 20_000 * share).pvalue > 1e-6

    def test_around_the_embedding_all_directions_are_alike(self) -> None:
        mechanism, centre = PrivUnitMechanism(3, 4.0), unit(0.0, 0.0, 1.0)
        released = np.array([mechanism.release(centre) for _ in range(4000)])
        turned = np.arctan2(released[:, 1], released[:, 0])
        assert stats.kstest((turned + math.pi) / (2 * math.pi), "uniform").pvalue > 1e-6

    def test_the_draw_that_decides_is_on_the_safe_side(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mechanism, centre = PrivUnitMechanism(12, 4.0), np.eye(12)[0]
        least = math.floor(math.ldexp(mechanism.cap.missed, 128))
        for drawn, is_inside in ((least - 1, False), (least + 1, True), (0, False)):
            monkeypatch.setattr(privunit, "below", lambda bound, drawn=drawn: drawn)
            cosine = float(mechanism.release(centre)[0])
            assert (cosine >= mechanism.cap.edge) == is_inside

    @pytest.mark.parametrize("dim", [2, 12, 384])
    @pytest.mark.parametrize("epsilon", [1e-6, 64.0])
    def test_extreme_epsilons_give_unit_vectors(self, dim: int, epsilon: float) -> None:
        mechanism, centre = PrivUnitMechanism(dim, epsilon), np.eye(dim)[0]
        norms = [np.linalg.norm(mechanism.release(centre)) for _ in range(50)]
        np.testing.assert_allclose(norms, 1, atol=1e-6)


class TestRefusals:
    @pytest.mark.parametrize("epsilon", [0, -1, math.nan, math.inf, 64.1])
    def test_impossible_epsilon(self, epsilon: float) -> None:
        with pytest.raises(PrivacyError, match="need 0 < epsilon <= 64"):
            PrivUnitMechanism(12, epsilon)

    def test_missing_epsilon(self) -> None:
        with pytest.raises(PrivacyError, match=r"needs privacy\.epsilon"):
            make_mechanism(PrivacyConfig("privunit"), 12)

    @pytest.mark.parametrize(
        ("epsilon", "delta", "wrong"),
        [(65.0, None, "epsilon"), (None, None, "epsilon"), (4.0, 1e-6, "delta")],
    )
    def test_configuration(self, epsilon: float, delta: float | None, wrong: str) -> None:
        (found,) = PrivacyConfig("privunit", epsilon, delta).problems()
        assert found.startswith(f"privacy.{wrong}=")
        assert PrivacyConfig("privunit", 64.0).problems() == []

    def test_one_number_has_a_promise_and_no_release(self) -> None:
        mechanism = PrivUnitMechanism(1, 4.0)
        assert (mechanism.epsilon, mechanism.delta) == (4.0, 0.0)
        with pytest.raises(PrivacyError, match="at least 2"):
            mechanism.release(np.ones(1))
