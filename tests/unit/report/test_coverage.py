"""Risk and coverage against what can be counted by hand."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sglora_fed.report.coverage import risk_coverage


def test_four_clients_counted_by_hand() -> None:
    curve = risk_coverage(np.array([0.2, 0.9, 0.5, 0.7]), np.array([-4.0, 2.0, 0.0, -1.0]))
    np.testing.assert_allclose(curve.coverage, [0.25, 0.5, 0.75, 1.0])
    np.testing.assert_allclose(curve.risk, [0, 1 / 2, 1 / 3, 2 / 4])
    np.testing.assert_allclose(curve.gain, [0.5, 0.25, 0.25, -0.75])


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(-9, 9)), min_size=1, max_size=30))
def test_the_end_of_the_curve_knows_no_order(pairs: list[tuple[float, float]]) -> None:
    chances, gains = np.array(pairs).T
    curve = risk_coverage(chances, gains)
    np.testing.assert_allclose(curve.risk[-1], np.mean(gains < 0))
    np.testing.assert_allclose(curve.gain[-1], gains.mean(), atol=1e-9)
