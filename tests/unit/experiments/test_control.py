"""Whose description a client is tried with: beside brute force, and where the truth was planted."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from scipy.linalg import eigh

from sglora_fed.errors import ResultsError
from sglora_fed.experiments.control import AT_ONCE, OTHERS, RIDGE, circle, least_alike
from sglora_fed.zoo.rows import Piece, Rows

DIM = 12


def unit(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True), np.float32)


def spoken(rng: np.random.Generator, meanings: np.ndarray, count: int) -> np.ndarray:
    """[n, W, d] unit: how a thing is said, in the last four directions, outweighs what it is."""
    manner = rng.normal(size=(len(meanings), count, 4)) @ np.eye(DIM)[-4:] * 3
    return unit(meanings[:, None] + manner + 0.05 * rng.normal(size=(len(meanings), count, DIM)))


def others(count: int, seed: int) -> np.ndarray:
    """[count, k] at whom each looks."""
    order, steps = circle(count, seed)
    found = np.empty((count, len(steps)), np.int64)
    found[order] = order[(np.arange(count)[:, None] + steps) % count]
    return found


WORDINGS = spoken(np.random.default_rng(0), np.eye(DIM)[:8], 6)


def alike(embeddings: np.ndarray) -> np.ndarray:
    """[n, n] mean cosines over all pairs, in the metric of a generalised eigenvalue problem."""
    means = WORDINGS.astype(np.float64).mean(axis=1)
    scatter = np.cov((WORDINGS - means[:, None]).reshape(-1, DIM), rowvar=False, bias=True)
    within = scatter + RIDGE * np.trace(scatter) / DIM * np.eye(DIM)
    found, vectors = eigh(np.cov(means, rowvar=False, bias=True), within)
    meant = np.clip(found - 1 / WORDINGS.shape[1], 0, None)
    metric = vectors @ np.diag(meant / (1 + meant)) @ vectors.T
    moved = embeddings - means.mean(axis=0)
    products = np.einsum("aid,de,bje->abij", moved, metric, moved)
    lengths = np.sqrt(np.einsum("aid,de,aie->ai", moved, metric, moved))
    cosines = products / lengths[:, None, :, None] / lengths[None, :, None, :]
    return np.asarray(cosines.mean(axis=(2, 3)))


@pytest.mark.parametrize(("count", "replies"), [(2, 1), (33, 1), (20, 3), (700, 1)])
def test_nobody_of_those_looked_at_has_less_to_do_with_it(count: int, replies: int) -> None:
    """Beside every pair, of more clients than are compared together."""
    rng = np.random.default_rng(1)
    embeddings = unit(rng.normal(size=(count, replies, DIM)))
    chosen, every = least_alike(embeddings, WORDINGS, 5), alike(embeddings)
    looked_at = others(count, 5)
    found = every[np.arange(count), chosen]
    least = np.take_along_axis(every, looked_at, axis=1).min(axis=1)
    np.testing.assert_allclose(found, least, atol=1e-5)
    assert (chosen[:, None] == looked_at).any(axis=1).all()


def test_what_is_meant_counts_and_not_how_it_is_said() -> None:
    """Half of the clients mean the opposite; most of a sentence is the speaker's manner."""
    rng = np.random.default_rng(2)
    sides = np.repeat([1.0, -1.0], 40)
    meanings = sides[:, None] * np.eye(DIM)[0] + np.eye(DIM)[1:8].mean(axis=0)
    said = spoken(rng, meanings, 1)
    chosen = least_alike(said, WORDINGS, 0)
    assert (sides[chosen] == -sides).mean() > 0.9
    looked_at = others(len(said), 0)
    cosines = np.einsum("nd,nkd->nk", said[:, 0], said[looked_at, 0])
    plain = np.take_along_axis(looked_at, cosines.argmin(axis=1)[:, None], axis=1)[:, 0]
    assert (sides[plain] == -sides).mean() < 0.8


@pytest.mark.parametrize("count", [2, 5, 33, 34, 1000])
def test_others_are_different_and_everybody_is_looked_at_as_often(count: int) -> None:
    found = others(count, 3)
    assert found.shape == (count, min(OTHERS, count - 1))
    assert not (found == np.arange(count)[:, None]).any()
    assert all(len(set(row)) == len(row) for row in found)
    assert set(np.bincount(found.ravel())) == {found.shape[1]}


def test_the_seed_decides() -> None:
    embeddings = unit(np.random.default_rng(4).normal(size=(200, 1, DIM)))
    one, again, another = (least_alike(embeddings, WORDINGS, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert (one != another).any()


def test_the_first_drawn_of_equals() -> None:
    embeddings = np.broadcast_to(unit(np.ones(DIM)), (50, 1, DIM))
    np.testing.assert_array_equal(least_alike(embeddings, WORDINGS, 7), others(50, 7)[:, 0])


def test_a_client_alone_has_nobody_else() -> None:
    assert least_alike(WORDINGS[:1, :1], WORDINGS, 0).tolist() == [0]


def test_one_wording_an_expert_tells_nothing_of_manners() -> None:
    embeddings = unit(np.random.default_rng(6).normal(size=(10, 1, DIM)))
    moved = unit(embeddings[:, 0] - WORDINGS[:, 0].mean(axis=0))
    cosines = moved @ moved.T
    chosen = least_alike(embeddings, WORDINGS[:, :1], 0)
    np.testing.assert_array_equal(chosen, cosines.argmin(axis=1))


def test_experts_in_files_count_as_those_in_memory(tmp_path: Path) -> None:
    (tmp_path / "rows").write_bytes(WORDINGS.tobytes())
    pieces = (Piece(tmp_path / "rows", 0, len(WORDINGS)),)
    in_files = Rows(pieces, WORDINGS.dtype, WORDINGS.shape[1:], np.arange(len(WORDINGS)))
    embeddings = unit(np.random.default_rng(8).normal(size=(100, 1, DIM)))
    np.testing.assert_array_equal(
        least_alike(embeddings, in_files, 0), least_alike(embeddings, WORDINGS, 0)
    )


def peak(count: int) -> int:
    """Bytes at most of choosing among so many clients, whose descriptions take no memory."""
    rng = np.random.default_rng(9)
    wordings = unit(rng.normal(size=(4, 1, 384)))
    embeddings = np.broadcast_to(wordings[0], (count, 1, 384))
    tracemalloc.start()
    try:
        least_alike(embeddings, wordings, 0)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_little_is_held_of_a_client() -> None:
    """Of its description there are 384 numbers, of those it looks at 32."""
    few, many = 2 * AT_ONCE, 6 * AT_ONCE
    assert (peak(many) - peak(few)) / (many - few) < 100


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="No such file"):
        least_alike(WORDINGS[:, :1], WORDINGS, 0, tmp_path / "away")
