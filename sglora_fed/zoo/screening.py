"""Which experts to trust: one whose LoRA says the opposite of all others must not be merged.

``docs/decisions/0005-robust-weighting.md`` tells what was measured.
"""

from __future__ import annotations

import numpy as np

from sglora_fed.adapters.layout import Layout, effect_gram

PENALTY = 0.3
"""Of the regression, relative to the mean squared norm of the centred embeddings."""

DIRECTIONS = 16
"""Strongest directions of the experts' effects that are compared: the others are mostly noise."""

OUTLIER = 4.0
"""Robust standard deviations from the median at which an expert is an outlier."""

MAD_TO_SIGMA = 1.4826
"""The standard deviation of normal values over their median absolute deviation."""

FEWEST = 8
"""Experts below which nobody is distrusted: there is no telling who is the exception."""


def trusted(embeddings: np.ndarray, vectors: np.ndarray, layout: Layout) -> np.ndarray:
    """[E] True for experts that do not contradict all others.

    Distrusted is whose effect points against what the others predict for its description, and far
    more so than is usual among these experts; and whose parameters lie far outside the others'
    (Hampel's rule: median and median absolute deviation, which a minority cannot move).

    Args:
        embeddings: [E, d] of the descriptions.
        vectors: [E, D] the experts' adapters.
        layout: of the vectors.
    """
    if len(vectors) < FEWEST:
        return np.ones(len(vectors), bool)
    offsets = vectors.astype(np.float64) - np.median(vectors, axis=0)
    lengths = np.log(np.maximum(np.linalg.norm(offsets, axis=1), 1e-12))
    kept: np.ndarray = _deviations(lengths) <= OUTLIER
    # One huge effect would be the strongest direction of all: only the others are compared.
    rows = np.flatnonzero(kept)
    found = agreement(embeddings[rows], effect_gram(layout, vectors[rows]))
    kept[rows[(found < 0) & (_deviations(found) < -OUTLIER)]] = False
    return kept


def agreement(embeddings: np.ndarray, gram: np.ndarray) -> np.ndarray:
    """Cosine between what each expert does and what the others' would do for its description.

    The others' word is a ridge regression of effects on embeddings without the expert, in the
    closed form of the leave-one-out residual (Allen 1974): r_e = (A y)_e / A_ee with
    A = (K + penalty I)^-1.

    Args:
        embeddings: [E, d] of the descriptions.
        gram: [E, E] inner products of the experts' effects.

    Returns:
        [E] in [-1, 1]; 0 where either side is nothing.
    """
    inputs = embeddings.astype(np.float64) - embeddings.mean(axis=0, dtype=np.float64)
    kernel, effects = inputs @ inputs.T, _coordinates(gram)
    # Descriptions that are all equal carry nothing: any scale gives the same prediction.
    scale = float(np.trace(kernel)) / len(kernel) or 1.0
    inverse = np.linalg.inv(kernel / scale + PENALTY * np.eye(len(kernel)))
    predicted = effects - inverse @ effects / np.diag(inverse)[:, None]
    lengths = np.linalg.norm(effects, axis=1) * np.linalg.norm(predicted, axis=1)
    along = (effects * predicted).sum(axis=1)
    found: np.ndarray = np.divide(along, lengths, out=np.zeros_like(along), where=lengths > 0)
    return found


def _coordinates(gram: np.ndarray) -> np.ndarray:
    """[E, k] the effects less their mean, in their strongest directions (classical scaling)."""
    centring = np.eye(len(gram)) - 1 / len(gram)
    values, vectors = np.linalg.eigh(centring @ gram @ centring)
    strongest = np.argsort(-values)[:DIRECTIONS]
    scores: np.ndarray = vectors[:, strongest] * np.sqrt(np.maximum(values[strongest], 0))
    return scores


def _deviations(values: np.ndarray) -> np.ndarray:
    """[E] from the median, in robust standard deviations; without spread nobody is an outlier."""
    offsets = values - np.median(values)
    spread = MAD_TO_SIGMA * float(np.median(np.abs(offsets)))
    return offsets / spread if spread > 0 else np.zeros_like(offsets)
