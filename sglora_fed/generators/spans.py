"""Directions of many vectors that lie in the span of a few."""

from __future__ import annotations

import numpy as np

MOST_ROWS = 512
"""Vectors up to which their span is kept as it is; of more, as many directions."""

PASSES = 2
"""Of power iteration: directions of almost equal strength are told apart."""


def sketched(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vectors [n, D] as ``weights @ rows``, with at most ``MOST_ROWS`` rows.

    Of more vectors than that the strongest directions are found at random (Halko, Martinsson &
    Tropp 2011, algorithm 4.4) and the rest is left out; their Gram matrix is never formed.

    Returns:
        Weights [n, r] and rows [r, D].
    """
    if len(vectors) <= MOST_ROWS:
        return np.eye(len(vectors)), vectors
    rows = np.random.default_rng(0).normal(size=(MOST_ROWS, len(vectors))) @ vectors
    for _ in range(PASSES):
        weights, _ = np.linalg.qr(vectors @ np.linalg.qr(rows.T)[0])
        rows = weights.T @ vectors
    return weights, rows


def directions(moments: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The principal directions of vectors ``c @ rows``, the strongest first.

    Args:
        moments: [r, r] sum of c^T c over the vectors, however many they are.
        rows: [r, D].

    Returns:
        Orthonormal directions [k, D], and [r, k] from c to coordinates along them.
    """
    values, vectors = np.linalg.eigh(moments)
    # As many vectors as rows, with the same second moments as all.
    alike = (vectors * np.sqrt(np.maximum(values, 0))).T @ rows
    # Few of them beside D: the eigenvectors of the small Gram matrix give the directions.
    values, vectors = np.linalg.eigh(alike @ alike.T)
    kept = np.argsort(-values)
    kept = kept[values[kept] > values.max(initial=0.0) * 1e-10]
    basis = vectors[:, kept].T @ alike / np.sqrt(values[kept])[:, None]
    return basis, rows @ basis.T
