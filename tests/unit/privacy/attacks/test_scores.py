"""Separation and its ceilings, by counting and by integration."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sglora_fed.errors import AttackError
from sglora_fed.privacy.attacks import auc_ceiling, separation, tpr_ceiling


def test_the_area_counts_pairs_and_half_of_ties() -> None:
    rng = np.random.default_rng(0)
    positives, negatives = rng.integers(0, 6, 40) + 1.0, rng.integers(0, 6, 70) * 1.0
    pairs = positives[:, None] - negatives
    found = separation(positives, negatives)
    assert found.auc == pytest.approx((pairs > 0).mean() + (pairs == 0).mean() / 2)
    assert (found.positives, found.negatives) == (40, 70)


def test_its_standard_error_is_that_of_repetition() -> None:
    rng = np.random.default_rng(0)
    found = [separation(rng.normal(0.5, 1, 60), rng.normal(size=80)) for _ in range(400)]
    spread = float(np.std([one.auc for one in found]))
    assert float(np.mean([one.standard_error for one in found])) == pytest.approx(spread, rel=0.15)


def test_what_an_attack_is_sure_of() -> None:
    negatives = np.arange(1000.0)
    found = separation(np.array([995.5, 998.5, 2000, 0.0]), negatives)
    assert found.tpr_at == {0.01: 0.75, 0.001: 0.25 + 0.25 * (998.5 > 998)}


@pytest.mark.parametrize(("epsilon", "delta"), [(0.0, 0.0), (1.0, 0.0), (4.0, 0.01), (2.0, 0.3)])
def test_the_ceiling_is_the_area_below_the_trade_off(epsilon: float, delta: float) -> None:
    rates = np.linspace(0, 1, 200_001)
    first = np.minimum(1, np.exp(epsilon) * rates + delta)
    second = 1 - np.exp(-epsilon) * (1 - delta - rates)
    area = float(np.trapezoid(np.minimum(first, np.clip(second, 0, 1)), rates))
    assert auc_ceiling(epsilon, delta) == pytest.approx(area, abs=1e-6)
    assert tpr_ceiling(epsilon, delta, 0.01) == pytest.approx(first[2000])


def test_without_a_promise_or_with_none_left() -> None:
    assert auc_ceiling(None) == 1
    assert auc_ceiling(1000.0) == 1
    for epsilon, delta in [(-1.0, 0.0), (math.nan, 0.0), (1.0, 1.0)]:
        with pytest.raises(AttackError, match="epsilon="):
            auc_ceiling(epsilon, delta)


@pytest.mark.parametrize("bad", [np.array([]), np.array([np.nan]), np.zeros((2, 2))])
def test_unfit_scores(bad: np.ndarray) -> None:
    with pytest.raises(AttackError, match="scores"):
        separation(bad, np.zeros(3))
