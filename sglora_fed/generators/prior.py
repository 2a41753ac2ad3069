"""The semantic prior of SG-LoRA (Li et al. 2025): the mixture of the nearest experts."""

from __future__ import annotations

import numpy as np


def semantic_prior(
    weights: np.ndarray, means: np.ndarray, variances: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of a mixture, element by element, in double precision.

    mu* = sum_k alpha_k mu_k;
    sigma*^2 = sum_k alpha_k sigma_k^2 + sum_k alpha_k (mu_k - mu*)^2 (law of total variance).

    Args:
        weights: [n, E] rows that sum to 1, mostly zeros.
        means: [E, D].
        variances: [E, D].

    Returns:
        mu* [n, D] and sigma*^2 [n, D]. The work space has K n D numbers, K the most non-zero
        weights in a row.
    """
    most = int(np.count_nonzero(weights, axis=1).max(initial=1))
    nearest = np.argsort(-weights, axis=1, kind="stable")[:, :most]
    alpha = np.take_along_axis(weights, nearest, axis=1).astype(np.float64)
    near = means[nearest].astype(np.float64)
    mean = np.einsum("nk,nkd->nd", alpha, near)
    # Differences first: E[x^2] - E[x]^2 would cancel where experts agree.
    spread = variances[nearest] + (near - mean[:, None]) ** 2
    return mean, np.einsum("nk,nkd->nd", alpha, spread)
