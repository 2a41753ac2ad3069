"""Weights against an explicit loop over experts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sglora_fed.errors import ZooSizeError
from sglora_fed.zoo import entropy, similarities, topk_weights

cosines = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 4), st.integers(2, 9)),
    elements=st.floats(-1, 1, width=32),
)


def by_loop(row: list[float], neighbours: int, temperature: float, own: int | None) -> list[float]:
    """Weights of one row by sorting (similarity, position) pairs."""
    candidates = [(-cosine, place) for place, cosine in enumerate(row) if place != own]
    chosen = sorted(candidates)[:neighbours]
    powers = {place: math.exp((-s + chosen[0][0]) / temperature) for s, place in chosen}
    return [powers.get(place, 0.0) / math.fsum(powers.values()) for place in range(len(row))]


class TestTopK:
    @given(cosines, st.integers(1, 12), st.floats(0.01, 5), st.data())
    def test_equals_the_loop(
        self, similarity: np.ndarray, neighbours: int, temperature: float, data: st.DataObject
    ) -> None:
        rows, experts = similarity.shape
        own = data.draw(
            st.none()
            | st.lists(st.integers(0, experts - 1), min_size=rows, max_size=rows).map(np.array)
        )
        before = similarity.copy()
        found = topk_weights(similarity, neighbours, temperature, own)
        owners = [None] * rows if own is None else own.tolist()
        expected = [
            by_loop(row, neighbours, temperature, o)
            for row, o in zip(similarity.tolist(), owners, strict=True)
        ]
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-300)
        np.testing.assert_array_equal(similarity, before)

    def test_a_hand_made_case(self) -> None:
        # exp(ln 3 * (0.9 - 0.9)) : exp(ln 3 * (0.8 - 0.9) * 10) = 1 : 1/3
        found = topk_weights(np.array([[0.8, 0.1, 0.9]]), 2, 0.1 / math.log(3))
        np.testing.assert_allclose(found, [[0.25, 0, 0.75]])

    def test_a_tiny_temperature_does_not_overflow(self) -> None:
        found = topk_weights(np.array([[1.0, 0.999, -1.0]]), 3, 1e-8)
        np.testing.assert_array_equal(found, [[1, 0, 0]])

    def test_the_only_expert_cannot_be_left_out(self) -> None:
        with pytest.raises(ZooSizeError, match=r"has 1 expert\(s\); need 2 or more"):
            topk_weights(np.array([[1.0]]), 4, 0.1, np.array([0]))


class TestConfidence:
    @pytest.mark.parametrize("count", [1, 2, 7])
    def test_equal_weights_have_the_entropy_of_a_fair_die(self, count: int) -> None:
        weights = np.zeros((1, 10))
        weights[0, :count] = 1 / count
        assert entropy(weights)[0] == pytest.approx(math.log(count), abs=1e-15)

    def test_one_expert_decides_without_a_minus_sign(self) -> None:
        assert not np.signbit(entropy(np.array([[0.0, 1.0]]))[0])

    def test_similarities_are_cosines(self) -> None:
        angles = np.radians([0, 60, 90, 180])
        points = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
        np.testing.assert_allclose(similarities(points[:1], points), [[1, 0.5, 0, -1]], atol=1e-7)
