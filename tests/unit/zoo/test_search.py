"""Weights over experts against loops, entropy against SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from sglora_fed.errors import ZooSizeError
from sglora_fed.zoo import entropy, similarities, topk_weights

# Steps of 1/8, so that ties occur and are exact.
similarity_rows = st.integers(1, 6).flatmap(
    lambda experts: st.lists(
        st.lists(st.integers(-8, 8).map(lambda n: n / 8), min_size=experts, max_size=experts),
        min_size=1,
        max_size=4,
    )
)


def softmax_over_nearest(
    row: list[float], neighbours: int, temperature: float, own: int | None
) -> list[float]:
    """One row by hand: the first K of a list sorted by similarity, then by place."""
    places = [place for place in range(len(row)) if place != own]
    chosen = sorted(places, key=lambda place: (-row[place], place))[:neighbours]
    parts = {place: math.exp(row[place] / temperature) for place in chosen}
    total = math.fsum(parts.values())
    return [parts.get(place, 0.0) / total for place in range(len(row))]


@given(rows=similarity_rows, neighbours=st.integers(1, 8), temperature=st.floats(0.03, 50))
def test_weights_are_the_softmax_over_the_nearest(
    rows: list[list[float]], neighbours: int, temperature: float
) -> None:
    found = topk_weights(np.array(rows), neighbours, temperature)
    wanted = [softmax_over_nearest(row, neighbours, temperature, None) for row in rows]
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-300)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-12)


@given(rows=similarity_rows, neighbours=st.integers(1, 8), data=st.data())
def test_the_own_expert_is_left_out(
    rows: list[list[float]], neighbours: int, data: st.DataObject
) -> None:
    experts = len(rows[0])
    own = [data.draw(st.integers(0, experts - 1)) for _ in rows]
    if experts == 1:
        with pytest.raises(ZooSizeError, match="1 expert"):
            topk_weights(np.array(rows), neighbours, 0.1, np.array(own))
        return
    found = topk_weights(np.array(rows), neighbours, 0.1, np.array(own))
    wanted = [softmax_over_nearest(r, neighbours, 0.1, o) for r, o in zip(rows, own, strict=True)]
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-300)
    assert all(found[row, place] == 0 for row, place in enumerate(own))


def test_the_own_experts_similarity_has_no_influence() -> None:
    rows = np.array([[0.1, 0.5, 0.3, 0.2]])
    other = rows.copy()
    other[0, 1] = -0.9
    own = np.array([1])
    np.testing.assert_array_equal(
        topk_weights(rows, 2, 0.05, own), topk_weights(other, 2, 0.05, own)
    )


def test_the_input_is_not_changed() -> None:
    rows = np.array([[0.1, 0.5]])
    topk_weights(rows, 1, 0.05, np.array([1]))
    np.testing.assert_array_equal(rows, [[0.1, 0.5]])


def test_no_expert_is_refused() -> None:
    with pytest.raises(ZooSizeError, match="0 expert"):
        topk_weights(np.empty((2, 0)), 4, 0.05)


def test_small_temperatures_neither_overflow_nor_lose_the_nearest() -> None:
    found = topk_weights(np.array([[0.9, 0.8, 0.1]]), 3, 1e-6)
    np.testing.assert_array_equal(found, [[1, 0, 0]])


@given(
    a=arrays(np.float64, (3, 4), elements=st.floats(0.1, 9)),
    b=arrays(np.float64, (5, 4), elements=st.floats(-9, 9).filter(lambda x: abs(x) > 1e-3)),
)
def test_similarities_are_cosines(a: np.ndarray, b: np.ndarray) -> None:
    unit_a = a / np.linalg.norm(a, axis=1, keepdims=True)
    unit_b = b / np.linalg.norm(b, axis=1, keepdims=True)
    found = similarities(unit_a.astype(np.float32), unit_b.astype(np.float32))
    assert found.shape == (3, 5)
    for i, row in enumerate(a):
        for j, other in enumerate(b):
            dot = math.sumprod(row, other) if hasattr(math, "sumprod") else float(row @ other)
            assert found[i, j] == pytest.approx(
                dot / (math.hypot(*row) * math.hypot(*other)), abs=1e-6
            )


@given(
    weights=st.lists(st.integers(0, 20), min_size=1, max_size=8).filter(any),
)
def test_entropy_is_scipys(weights: list[int]) -> None:
    shares = np.array(weights) / sum(weights)
    np.testing.assert_allclose(entropy(shares[None]), [stats.entropy(weights)], atol=1e-12)


def test_entropy_of_certainty_and_of_none() -> None:
    found = entropy(np.array([[1.0, 0, 0, 0], [0.25] * 4]))
    np.testing.assert_allclose(found, [0, math.log(4)], atol=1e-15)
    assert not np.signbit(found[0]), "nobody wants to read -0.000 nats"
