"""The semantic prior against loops, and against samples of the mixture that it describes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sglora_fed.generators import semantic_prior


@st.composite
def mixtures(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights [n, E] with at most K non-zero entries, means and variances [E, D]."""
    experts, rows, size = (draw(st.integers(1, high)) for high in (7, 4, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    scale = draw(st.sampled_from([1e-4, 1.0, 1e3]))
    weights = np.zeros((rows, experts))
    for row in weights:
        count = draw(st.integers(1, experts))
        row[rng.permutation(experts)[:count]] = rng.dirichlet(np.ones(count))
    means = rng.normal(size=(experts, size)) * scale
    return weights, means, rng.uniform(0, 1, size=(experts, size)) * scale**2


@given(mixture=mixtures())
def test_mean_and_variance_by_loops(mixture: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """E[x] and E[x^2] - E[x]^2 of the mixture, one number at a time."""
    weights, means, variances = mixture
    found_mean, found_variance = semantic_prior(*mixture)
    assert found_mean.shape == found_variance.shape == (len(weights), means.shape[1])
    largest = max(1e-30, float((means**2).max()))
    for n, row in enumerate(weights):
        for d in range(means.shape[1]):
            first = sum(a * m for a, m in zip(row, means[:, d], strict=True))
            second = sum(
                a * (v + m * m) for a, m, v in zip(row, means[:, d], variances[:, d], strict=True)
            )
            assert found_mean[n, d] == pytest.approx(first, rel=1e-9, abs=1e-12 * largest**0.5)
            assert found_variance[n, d] == pytest.approx(
                second - first**2, rel=1e-6, abs=1e-9 * largest
            )


@given(mixture=mixtures())
def test_law_of_total_variance(mixture: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """Never below the mean variance within the experts, nor below that between them."""
    weights, means, variances = mixture
    _, total = semantic_prior(*mixture)
    for n, row in enumerate(weights):
        within = np.average(variances, axis=0, weights=row)
        between = np.average((means - np.average(means, axis=0, weights=row)) ** 2, 0, row)
        slack = 1e-9 * (1e-12 + np.abs(total[n]).max())
        assert (total[n] >= within - slack).all()
        assert (total[n] >= between - slack).all()


def test_samples_of_the_mixture_have_that_mean_and_variance() -> None:
    rng = np.random.default_rng(3)
    weights = np.array([[0.5, 0.0, 0.3, 0.2]])
    means, variances = rng.normal(size=(4, 3)), rng.uniform(0.01, 0.5, (4, 3))
    mean, variance = semantic_prior(weights, means, variances)
    experts = rng.choice(4, p=weights[0], size=400_000)
    drawn = rng.normal(means[experts], np.sqrt(variances[experts]))
    # Six standard errors of a mean and, by fourth moments, of a variance.
    error = drawn.std(axis=0) / 400_000**0.5
    assert (np.abs(drawn.mean(axis=0) - mean[0]) < 6 * error).all()
    fourth = ((drawn - drawn.mean(axis=0)) ** 4).mean(axis=0) - drawn.var(axis=0) ** 2
    assert (np.abs(drawn.var(axis=0) - variance[0]) < 6 * np.sqrt(fourth / 400_000)).all()


def test_one_expert_is_its_own_prior() -> None:
    means, variances = np.array([[1.0, -2.0], [5.0, 5.0]]), np.array([[0.1, 0.2], [9.0, 9.0]])
    mean, variance = semantic_prior(np.array([[1.0, 0.0]]), means, variances)
    np.testing.assert_array_equal(mean, [[1, -2]])
    np.testing.assert_allclose(variance, [[0.1, 0.2]], rtol=1e-15)


def test_experts_that_agree_leave_no_variance_behind() -> None:
    """E[x^2] - E[x]^2 would leave about 1e-4 here, or a negative number."""
    means = np.full((3, 2), 1e6, np.float32)
    _, variance = semantic_prior(np.full((1, 3), 1 / 3), means, np.zeros((3, 2), np.float32))
    assert (variance >= 0).all()
    assert (variance < 1e-12).all()


def test_single_precision_is_summed_in_double() -> None:
    means = np.array([[1.0], [1.0 + 2**-20]], np.float32)
    _, variance = semantic_prior(np.array([[0.5, 0.5]]), means, np.zeros((2, 1), np.float32))
    assert variance[0, 0] == 2.0**-42


def test_experts_without_weight_count_for_nothing() -> None:
    rng = np.random.default_rng(1)
    weights = np.array([[0.25, 0.75, 0.0]])
    means, variances = rng.normal(size=(3, 4)), rng.uniform(size=(3, 4))
    other_means, other_variances = means.copy(), variances.copy()
    other_means[2], other_variances[2] = 1e9, 1e9
    one, two = (
        semantic_prior(weights, means, variances),
        semantic_prior(weights, other_means, other_variances),
    )
    np.testing.assert_array_equal(one, two)


def test_inputs_are_not_changed() -> None:
    given_arrays = np.array([[0.5, 0.5]]), np.ones((2, 3)), np.ones((2, 3))
    copies = [array.copy() for array in given_arrays]
    semantic_prior(*given_arrays)
    for array, copy in zip(given_arrays, copies, strict=True):
        np.testing.assert_array_equal(array, copy)
