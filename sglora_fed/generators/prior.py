"""The semantic prior of SG-LoRA (Li et al. 2025): the mixture of the nearest experts."""

from __future__ import annotations

import numpy as np


def semantic_prior(
    weights: np.ndarray, means: np.ndarray, variances: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of a mixture, element by element.

    mu* = sum_k alpha_k mu_k;
    sigma*^2 = sum_k alpha_k sigma_k^2 + sum_k alpha_k (mu_k - mu*)^2 (law of total variance).

    Args:
        weights: [n, E] rows that sum to 1, mostly zeros.
        means: [E, D].
        variances: [E, D].

    Returns:
        mu* [n, D] and sigma*^2 [n, D].
    """
    mean = weights @ means
    variance = weights @ variances
    # Differences first: E[x^2] - E[x]^2 would cancel where experts agree.
    for row, row_weights in enumerate(weights):
        near = np.flatnonzero(row_weights)
        variance[row] += row_weights[near] @ (means[near] - mean[row]) ** 2
    return mean, variance
