"""Which experts are near a description, and how much each counts. Double precision throughout."""

from __future__ import annotations

import numpy as np

from sglora_fed.errors import ZooSizeError


def similarities(queries: np.ndarray, embeddings: np.ndarray) -> np.ndarray:
    """Cosine of unit rows: [n, d] and [E, d] to [n, E]."""
    return np.asarray(queries, np.float64) @ np.asarray(embeddings, np.float64).T


def topk_weights(
    similarity: np.ndarray, neighbours: int, temperature: float, own: np.ndarray | None = None
) -> np.ndarray:
    """Sparse softmax over the K nearest experts (SG-LoRA, Li et al. 2025: the weights alpha).

    Of experts that are equally near, the first ones count.

    Args:
        similarity: [n, E] cosines.
        neighbours: K; all experts count when there are fewer.
        temperature: tau > 0; infinite: the K nearest count alike.
        own: [n] index of the expert that each row must leave out, or None.

    Returns:
        [n, E] float64 rows that sum to 1 with at most K non-zero entries.

    Raises:
        ZooSizeError: when leaving the own expert out leaves none.
    """
    rows, experts = similarity.shape
    scores = similarity.astype(np.float64)
    if own is not None:
        scores[np.arange(rows), own] = -np.inf
    usable = experts - (own is not None)
    if usable < 1:
        raise ZooSizeError(f"the zoo has {experts} expert(s); need {experts - usable + 1} or more")
    nearest = np.argsort(-scores, axis=1, kind="stable")[:, : min(neighbours, usable)]
    near = np.take_along_axis(scores, nearest, axis=1)
    exponent = np.exp((near - near[:, :1]) / temperature)
    weights = np.zeros_like(scores)
    np.put_along_axis(weights, nearest, exponent / exponent.sum(axis=1, keepdims=True), axis=1)
    return weights


def entropy(weights: np.ndarray) -> np.ndarray:
    """[n] Shannon entropy of each row of weights, in nats; 0 ln 0 = 0."""
    positive = np.where(weights > 0, weights, 1.0)
    return np.asarray((weights * -np.log(positive)).sum(axis=1) + 0.0)
