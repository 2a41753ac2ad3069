"""Which experts are near a description, and how much each counts. Double precision throughout."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sglora_fed.errors import ZooSizeError
from sglora_fed.zoo.index import Index

EXACT = 100_000
"""Experts up to which every one is looked at for every query; among more, those of an index."""

AT_ONCE, SPARE, ROUNDING = 4096, 28, 1e-4
"""Experts up to which all similarities are in double precision; of more, so many beside the nearest
are compared again, which must be nearer than all others by more than single precision errs."""

BLOCK = 4_000_000
"""Similarities that are in memory together."""


@dataclass(frozen=True)
class Nearest:
    """The nearest experts of some descriptions, the nearest first.

    Attributes:
        rows: [n, K] of the experts.
        similarity: [n, K] cosines.
    """

    rows: np.ndarray
    similarity: np.ndarray


class Search:
    """The nearest of the experts' descriptions.

    Args:
        embeddings: [E, d] unit rows.
    """

    def __init__(self, embeddings: np.ndarray) -> None:
        self._embeddings = embeddings

    def nearest(self, queries: np.ndarray, neighbours: int) -> Nearest:
        """The K nearest of [n, d] unit rows; all experts when there are fewer.

        Of experts that are equally near, the first ones count.

        Raises:
            ZooSizeError: without experts.
            SearchError: when there are more than ``EXACT`` and the extra ``faiss`` is missing.
        """
        count = min(neighbours, len(self._embeddings))
        if count < 1:
            raise ZooSizeError(f"the zoo has {len(self._embeddings)} expert(s); need 1 or more")
        if len(self._embeddings) > EXACT:
            return self._among(queries, self._index.candidates(queries, count), count)
        each = max(1, BLOCK // len(self._embeddings))
        parts = [
            self._looked_at(queries[start : start + each], count)
            for start in range(0, max(1, len(queries)), each)
        ]
        return Nearest(
            np.concatenate([part.rows for part in parts]),
            np.concatenate([part.similarity for part in parts]),
        )

    def _looked_at(self, queries: np.ndarray, count: int) -> Nearest:
        """By all similarities; of many experts in single precision first, as far as it tells."""
        most = count + SPARE
        if len(self._embeddings) <= max(AT_ONCE, most):
            return _first(similarities(queries, self._embeddings), count)
        near = np.asarray(queries, np.float32) @ np.asarray(self._embeddings, np.float32).T
        candidates = np.argpartition(-near, most - 1, axis=1)[:, :most]
        found = self._among(queries, candidates, count)
        least = np.take_along_axis(near, candidates, axis=1).min(axis=1)
        for row in np.flatnonzero(found.similarity[:, -1] - least < ROUNDING):
            exact = _first(similarities(queries[[row]], self._embeddings), count)
            found.rows[row], found.similarity[row] = exact.rows[0], exact.similarity[0]
        return found

    @cached_property
    def _index(self) -> Index:
        return Index(self._embeddings)

    def _among(self, queries: np.ndarray, candidates: np.ndarray, count: int) -> Nearest:
        """An index computes in single precision: its candidates [n, m] are compared again."""
        candidates = np.sort(candidates, axis=1)
        near = self._embeddings[candidates].astype(np.float64)
        cosines = np.einsum("nd,nmd->nm", queries.astype(np.float64), near)
        found = _first(cosines, count)
        return Nearest(np.take_along_axis(candidates, found.rows, axis=1), found.similarity)


def _first(similarity: np.ndarray, count: int) -> Nearest:
    """The largest of each row, the first of equals."""
    least = -np.partition(-similarity, count - 1, axis=1)[:, count - 1, None]
    above, level = similarity > least, similarity == least
    room = count - above.sum(axis=1, keepdims=True)
    chosen = above | (level & (np.cumsum(level, axis=1) <= room))
    rows = np.nonzero(chosen)[1].reshape(len(similarity), count)
    near = np.take_along_axis(similarity, rows, axis=1)
    order = np.argsort(-near, axis=1, kind="stable")
    return Nearest(np.take_along_axis(rows, order, axis=1), np.take_along_axis(near, order, axis=1))


def similarities(queries: np.ndarray, embeddings: np.ndarray) -> np.ndarray:
    """Cosine of unit rows: [n, d] and [E, d] to [n, E]."""
    return np.asarray(queries, np.float64) @ np.asarray(embeddings, np.float64).T


def softmax(similarity: np.ndarray, temperature: float) -> np.ndarray:
    """[n, K] weights of experts, the nearest first (SG-LoRA, Li et al. 2025: the weights alpha).

    Args:
        similarity: [n, K] cosines.
        temperature: tau > 0; infinite: all count alike.
    """
    exponent = np.exp((similarity - similarity[:, :1]) / temperature)
    made: np.ndarray = exponent / exponent.sum(axis=1, keepdims=True)
    return made


def topk_weights(
    similarity: np.ndarray, neighbours: int, temperature: float, own: np.ndarray | None = None
) -> np.ndarray:
    """Sparse softmax over the K nearest experts.

    Of experts that are equally near, the first ones count.

    Args:
        similarity: [n, E] cosines.
        neighbours: K; all experts count when there are fewer.
        temperature: as in :func:`softmax`.
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
    near = _first(scores, min(neighbours, usable))
    weights = np.zeros_like(scores)
    np.put_along_axis(weights, near.rows, softmax(near.similarity, temperature), axis=1)
    return weights


def entropy(weights: np.ndarray) -> np.ndarray:
    """[n] Shannon entropy of each row of weights, in nats; 0 ln 0 = 0."""
    positive = np.where(weights > 0, weights, 1.0)
    return np.asarray((weights * -np.log(positive)).sum(axis=1) + 0.0)
