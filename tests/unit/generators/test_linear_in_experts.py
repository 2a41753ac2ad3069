"""Sums over experts against the dual form, a row and a column for each wording or expert."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sglora_fed.adapters.layout import Layout, ModuleShape
from sglora_fed.generators import boosting, spans
from sglora_fed.generators.boosting import begun, boosted, judged, smoothed
from sglora_fed.generators.linear import left_out_residuals, moments, regressed, smoother
from sglora_fed.generators.ridge import regression
from sglora_fed.zoo import Zoo, rows
from tests.unit.generators import dual

MakeZoo = Callable[..., Zoo]

LAYOUT = Layout((ModuleShape("one", 8, 40),), 2, 4.0)


@st.composite
def wordings(draw: st.DrawFn) -> np.ndarray:
    """[E, W, d] unit rows: few and many, near one another or not, some of them the same."""
    experts, each, dim = (draw(st.integers(1, high)) for high in (14, 4, 12))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    spread = draw(st.sampled_from([1.0, 0.1, 1e-3]))
    texts = rng.normal(size=dim) + spread * rng.normal(size=(experts, each, dim))
    if draw(st.booleans()):
        texts[: experts // 2] = texts[0]  # several experts that say the same
    if draw(st.booleans()):
        texts[:] = texts[:, :1]  # one wording, several times
    unit: np.ndarray = texts / np.linalg.norm(texts, axis=2, keepdims=True)
    assume(np.linalg.norm(unit.mean(axis=1), axis=1).min() > 0.01)
    return unit.astype(np.float32)


PENALTIES = st.sampled_from([1e-6, 1e-3, 0.3, 100.0])


def zoo_of(texts: np.ndarray, seed: int, size: int) -> Zoo:
    rng, count = np.random.default_rng(seed), len(texts)
    means = 5 + rng.normal(size=(count, size))
    names = tuple(f"e{number:03d}" for number in range(count))
    variances = np.ones((count, size), np.float32)
    return Zoo(names, texts, means.astype(np.float32), variances, np.ones(count, np.int64))


@settings(deadline=None)
@given(texts=wordings(), penalty=PENALTIES, seed=st.integers(0, 99))
def test_weights_and_residuals(texts: np.ndarray, penalty: float, seed: int) -> None:
    centre, weights = dual.ridge_map(texts, penalty)
    found_centre, found = regressed(texts, penalty)
    np.testing.assert_allclose(found_centre, centre, atol=1e-12)
    queries = texts[:, 0].astype(np.float64) - centre
    np.testing.assert_allclose(queries @ found, queries @ weights, atol=1e-5)
    values = np.random.default_rng(seed).normal(size=(len(texts), 3))
    values -= values.mean(axis=0)
    # Two systems one after the other, each of a condition of up to 1 / penalty where texts repeat.
    close = max(1e-5, 1e-10 / penalty)
    np.testing.assert_allclose(
        left_out_residuals(texts, penalty, values),
        dual.left_out_residuals(texts, penalty, values),
        rtol=close,
        atol=close,
    )


@settings(deadline=None)
@given(texts=wordings(), penalty=PENALTIES, seed=st.integers(0, 99))
def test_ridge(texts: np.ndarray, penalty: float, seed: int) -> None:
    zoo = zoo_of(texts, seed, 7)
    centre, weights = dual.ridge_map(texts, penalty)
    queries = zoo.embeddings.astype(np.float64) - centre
    means = zoo.means.astype(np.float64)
    wanted = means.mean(axis=0) + queries @ weights @ (means - means.mean(axis=0))
    found = regression(zoo, penalty)
    np.testing.assert_allclose(found.adapters(zoo.embeddings), wanted, rtol=1e-5, atol=1e-5)
    assert found.map.shape[1] <= max(0, len(texts) - 1)


@settings(max_examples=40, deadline=None)
@given(
    experts=st.integers(2, 40),
    spread=st.sampled_from([1.0, 0.05]),
    twins=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_rounds(make_zoo: MakeZoo, experts: int, spread: float, twins: bool, seed: int) -> None:
    """Some take part, some lie; after each round the generator and everybody's coordinates."""
    rng = np.random.default_rng(seed)
    zoo = make_zoo(experts, 12, LAYOUT.size, seed=seed, wordings=3)
    texts = rng.normal(size=12) + spread * zoo.wordings.astype(np.float64)
    if twins:
        texts[: experts // 3] = texts[0]
    texts /= np.linalg.norm(texts, axis=2, keepdims=True)
    zoo = replace(zoo, wordings=texts.astype(np.float32))
    start, penalty = rng.normal(size=zoo.size).astype(np.float32), 0.1
    law = rng.normal(size=(12, zoo.size)) / spread
    at, wanted = begun(zoo, LAYOUT, penalty, start), dual.first_factors(start, experts)
    for _ in range(3):
        rows = np.sort(rng.choice(experts, rng.integers(1, experts + 1), replace=False))
        updates = zoo.embeddings[rows] @ law + rng.normal(size=(len(rows), zoo.size))
        updates[rng.random(len(rows)) < 0.1] *= -2
        at, sound = boosted(at, rows, updates)
        wanted, wanted_sound = dual.boosted(wanted, zoo, LAYOUT, penalty, rows, updates)
        np.testing.assert_array_equal(sound, wanted_sound)
        size = np.abs(wanted.coordinates()).max()
        found = at.coordinates(np.arange(experts))
        np.testing.assert_allclose(found, wanted.coordinates(), atol=1e-5 * size)
        np.testing.assert_allclose(
            smoothed(at).adapters(zoo.embeddings),
            dual.smoothed(wanted, zoo, penalty).adapters(zoo.embeddings),
            atol=1e-5 * size,
        )


def test_sums_are_the_same_in_pieces(make_zoo: MakeZoo, monkeypatch: pytest.MonkeyPatch) -> None:
    zoo = make_zoo(11, 6, wordings=3)
    whole = regression(zoo, 0.1)
    monkeypatch.setattr(rows, "CHUNK", 4)
    pieces = regression(zoo, 0.1)
    np.testing.assert_allclose(
        pieces.adapters(zoo.embeddings), whole.adapters(zoo.embeddings), atol=1e-6
    )


def test_experts_are_taken_out_of_sums(make_zoo: MakeZoo) -> None:
    zoo, rest = make_zoo(9, 6, wordings=2), np.array([0, 2, 3, 7])
    gone = np.setdiff1d(np.arange(9), rest)
    every = moments(zoo.wordings, zoo.embeddings)
    some = moments(zoo.wordings[gone], zoo.embeddings[gone], every.origin)
    wanted = smoother(moments(zoo.wordings[rest], zoo.embeddings[rest]), 0.1)
    found = smoother(every.without(some), 0.1)
    np.testing.assert_allclose(found.centre, wanted.centre, atol=1e-12)
    np.testing.assert_allclose(found.inverse, wanted.inverse, atol=1e-9)


def test_of_a_large_zoo_those_are_judged_who_took_part(
    make_zoo: MakeZoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    zoo = make_zoo(40, 6, LAYOUT.size)
    at = begun(zoo, LAYOUT, 0.1, np.zeros(zoo.size))
    first, second = np.array([3, 30, 31]), np.array([5, 30])
    for some in (first, second):
        at, _ = boosted(at, some, np.ones((len(some), zoo.size)))
    monkeypatch.setattr(boosting, "MOST_JUDGED", 4)
    np.testing.assert_array_equal(judged(at, second), [3, 5, 30, 31])
    monkeypatch.setattr(boosting, "MOST_JUDGED", 6)
    np.testing.assert_array_equal(judged(at, second), [0, 3, 5, 20, 30, 31])
    monkeypatch.setattr(boosting, "MOST_JUDGED", 40)
    np.testing.assert_array_equal(judged(at, second), np.arange(40))


def test_many_vectors_keep_their_strongest_directions(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(60, 5)) @ rng.normal(size=(5, 80))
    noisy = vectors + 1e-3 * rng.normal(size=vectors.shape)
    weights, rows = spans.sketched(noisy)
    np.testing.assert_array_equal(weights @ rows, noisy)
    monkeypatch.setattr(spans, "MOST_ROWS", 8)
    weights, rows = spans.sketched(noisy)
    assert rows.shape == (8, 80)
    best = np.linalg.norm(np.linalg.svd(noisy)[1][8:])
    assert np.linalg.norm(weights @ rows - noisy) < 1.2 * best
