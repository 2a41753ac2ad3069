"""Nearest descriptions by an index against all of them, and against a plain sort."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sglora_fed.errors import SearchError, ZooSizeError
from sglora_fed.zoo import Search, index, search


def clustered(count: int, dim: int, seed: int) -> np.ndarray:
    """Unit rows around a few centres."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(20, dim))[rng.integers(20, size=count)]
    rows += 0.5 * rng.normal(size=(count, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@given(
    experts=st.integers(1, 30), queries=st.integers(0, 5), k=st.integers(1, 40), seed=st.integers(0)
)
def test_all_are_looked_at(experts: int, queries: int, k: int, seed: int) -> None:
    """Whole numbers: many cosines are equal, and of equals the first ones count."""
    rng = np.random.default_rng(seed)
    rows, asked = rng.integers(-1, 2, size=(experts, 3)), rng.integers(-1, 2, size=(queries, 3))
    found = Search(rows.astype(np.float32)).nearest(asked.astype(np.float32), k)
    for query, names, cosines in zip(asked, found.rows, found.similarity, strict=True):
        wanted = sorted(range(experts), key=lambda row: (-(rows[row] @ query), row))[:k]
        assert names.tolist() == wanted
        assert cosines.tolist() == [rows[row] @ query for row in wanted]


def test_blocks_of_queries_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, asked = clustered(50, 8, 0), clustered(9, 8, 1)
    whole = Search(rows).nearest(asked, 4)
    monkeypatch.setattr(search, "BLOCK", 100)
    blocks = Search(rows).nearest(asked, 4)
    np.testing.assert_array_equal(blocks.rows, whole.rows)


def test_single_precision_decides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Descriptions that are equal, or nearly so, around those that it leaves over."""
    rng = np.random.default_rng(0)
    rows = np.repeat(clustered(40, 8, 0), 9, axis=0)
    rows[::2] += 1e-7 * rng.normal(size=rows[::2].shape).astype(np.float32)
    rows = np.vstack([rows, clustered(300, 8, 1)])
    asked = np.vstack([clustered(20, 8, 0), clustered(20, 8, 1)])
    whole = Search(rows).nearest(asked, 5)
    monkeypatch.setattr(search, "AT_ONCE", 50)
    for spare in (1, 28):
        monkeypatch.setattr(search, "SPARE", spare)
        found = Search(rows).nearest(asked, 5)
        np.testing.assert_array_equal(found.rows, whole.rows)
        np.testing.assert_allclose(found.similarity, whole.similarity, atol=1e-15)


def test_nobody() -> None:
    with pytest.raises(ZooSizeError, match="need 1 or more"):
        Search(np.empty((0, 3), np.float32)).nearest(np.eye(3), 2)


def test_an_index_finds_almost_all(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faiss")
    rows, asked = np.split(clustered(4200, 32, 2), [4000])
    exact = Search(rows).nearest(asked, 4)
    monkeypatch.setattr(search, "EXACT", 1000)
    found = Search(rows).nearest(asked, 4)
    share = np.mean([np.isin(w, f) for w, f in zip(exact.rows, found.rows, strict=True)])
    assert share > 0.95
    same = (exact.rows == found.rows).all(axis=1)
    # What an index finds is compared again, in double precision.
    np.testing.assert_allclose(found.similarity[same], exact.similarity[same], atol=1e-12)


def test_recall_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faiss")
    rows = clustered(2000, 16, 4)
    assert index.Index(rows).recall >= index.RECALL
    monkeypatch.setattr(index, "RECALL", 1.1)
    with pytest.raises(SearchError, match=r"SGL-511.*half of 89 groups"):
        index.Index(rows)


def test_without_faiss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.setattr(search, "EXACT", 3)
    with pytest.raises(SearchError, match="not installed"):
        Search(np.eye(4, dtype=np.float32)).nearest(np.eye(4), 1)
