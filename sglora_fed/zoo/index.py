"""An index over descriptions: which experts may be near a query, without looking at all of them.

Descriptions are grouped around centres, and the groups whose centres are nearest to a query are
searched (Jegou, Douze & Schmid 2011, the inverted file; FAISS, Douze et al. 2024). How many groups
is measured on the zoo itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sglora_fed.errors import SearchError

RECALL = 0.99
"""Share of the nearest ``NEIGHBOURS`` that the index must find of its own descriptions, moved."""

NEIGHBOURS, ASKED, MOVED = 4, 256, 0.7
"""Queries are descriptions of the zoo plus noise of this length: no expert says the very same."""

PER_GROUP = 32
"""Descriptions from which a centre is learnt."""


class Index:
    """Candidates for the nearest of many descriptions.

    Args:
        embeddings: [E, d] unit rows.

    Attributes:
        recall: measured; at least ``RECALL``.

    Raises:
        SearchError: when FAISS is not installed, or no number of groups short of half is enough.
    """

    def __init__(self, embeddings: np.ndarray) -> None:
        faiss = _faiss()
        count, dim = embeddings.shape
        groups = int(2 * np.sqrt(count))
        rng = np.random.default_rng(0)
        learnt = np.sort(rng.choice(count, min(count, PER_GROUP * groups), replace=False))
        rows = np.ascontiguousarray(embeddings, np.float32)
        self._index = faiss.index_factory(dim, f"IVF{groups},Flat", faiss.METRIC_INNER_PRODUCT)
        self._index.cp.min_points_per_centroid = 1
        self._index.train(rows[learnt])
        self._index.add(rows)
        self.recall = self._widen(rows, groups, rng)

    def candidates(self, queries: np.ndarray, count: int) -> np.ndarray:
        """[n, m] rows for each of [n, d] queries, m >= count, among them probably the nearest.

        Raises:
            SearchError: when the groups that are searched hold fewer.
        """
        found = self._index.search(np.ascontiguousarray(queries, np.float32), count)[1]
        if (found < 0).any():
            raise SearchError(f"fewer than {count} descriptions in the groups near a query")
        return np.asarray(found)

    def _widen(self, rows: np.ndarray, groups: int, rng: np.random.Generator) -> float:
        """Search as many groups as the recall needs."""
        noise = rng.normal(size=(min(ASKED, len(rows)), rows.shape[1]))
        noise *= MOVED / np.linalg.norm(noise, axis=1, keepdims=True)
        queries = rows[rng.choice(len(rows), len(noise), replace=False)] + noise
        queries = (queries / np.linalg.norm(queries, axis=1, keepdims=True)).astype(np.float32)
        wanted, count = _largest(queries, rows), min(NEIGHBOURS, len(rows))
        for searched in 2 ** np.arange(int(np.log2(groups))):
            self._index.nprobe = int(searched)
            found = self._index.search(queries, count)[1]
            recall = float(np.mean([np.isin(w, f) for w, f in zip(wanted, found, strict=True)]))
            if recall >= RECALL:
                return recall
        raise SearchError(f"half of {groups} groups hold {recall:.1%} of the nearest descriptions")


def _largest(queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """[n, NEIGHBOURS] rows of the nearest, by looking at all."""
    count, each = min(NEIGHBOURS, len(rows)), 65_536
    best = np.full((len(queries), count), -np.inf, np.float32)
    found = np.zeros((len(queries), count), np.int64)
    for start in range(0, len(rows), each):
        near = np.hstack([best, queries @ rows[start : start + each].T])
        order = np.argpartition(-near, count - 1, axis=1)[:, :count]
        names = np.take_along_axis(found, np.minimum(order, count - 1), axis=1)
        found = np.where(order < count, names, start + order - count)
        best = np.take_along_axis(near, order, axis=1)
    return found


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise SearchError("so many descriptions need FAISS, which is not installed") from error
    return faiss
