"""Risk and coverage against what can be counted by hand."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sglora_fed.report.coverage import risk_coverage


def test_four_clients_counted_by_hand() -> None:
    own, fallback = np.array([1.0, 9.0, 5.0, 6.0]), np.array([5.0, 7.0, 5.0, 7.0])
    curve = risk_coverage(np.array([0.2, 0.9, 0.5, 0.7]), own, fallback)
    np.testing.assert_allclose(curve.coverage, [0.25, 0.5, 0.75, 1.0])
    np.testing.assert_allclose(curve.risk, [0, 1 / 2, 1 / 3, 2 / 4])
    np.testing.assert_allclose(curve.gain, [0.5, 0.25, 0.25, -0.75])
    np.testing.assert_allclose(curve.level, [9, 7.5, 20 / 3, 21 / 4])


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(-9, 9)), min_size=1, max_size=30))
def test_the_end_of_the_curve_knows_no_order(pairs: list[tuple[float, float]]) -> None:
    chances, gains = np.array(pairs).T
    curve = risk_coverage(chances, gains + 3, np.full(len(gains), 3.0))
    np.testing.assert_allclose(curve.risk[-1], np.mean(gains + 3 < 3))
    np.testing.assert_allclose(curve.gain[-1], gains.mean(), atol=1e-9)
