"""Intervals against enumeration, closed forms, scipy's bootstrap and planted truth."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats

from sglora_fed.results.statistics import estimate, gap_closed, gap_interval, resamples


def test_resamples_are_whole_samples_and_a_function_of_the_seed():
    draws = resamples(7, 300, seed=3)
    assert draws.shape == (300, 7)
    assert (draws.sum(axis=1) == 7).all()
    assert (draws == np.round(draws)).all()
    assert (draws >= 0).all()
    assert np.array_equal(draws, resamples(7, 300, seed=3))
    assert not np.array_equal(draws, resamples(7, 300, seed=4))


def test_interval_is_that_of_all_possible_resamples():
    values = np.array([0.05, 0.11, 0.32, 0.37, 0.64, 0.98])
    everything = np.sort([np.mean(sample) for sample in product(values, repeat=6)])
    found = estimate(values, resamples(6, 40_000, seed=0))
    below_low = np.searchsorted(everything, found.low) / everything.size
    below_high = np.searchsorted(everything, found.high) / everything.size
    assert found.mean == pytest.approx(2.47 / 6)
    assert below_low == pytest.approx(0.025, abs=0.005)
    assert below_high == pytest.approx(0.975, abs=0.005)


def test_interval_agrees_with_scipy_on_skewed_data():
    values = np.random.default_rng(5).beta(0.6, 3.0, 60)
    found = estimate(values, resamples(60, 20_000, seed=0))
    other = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=1
    ).confidence_interval
    width = other.high - other.low
    assert found.low == pytest.approx(other.low, abs=0.03 * width)
    assert found.high == pytest.approx(other.high, abs=0.03 * width)


def test_interval_is_normal_for_many_clients():
    values = np.random.default_rng(6).normal(0.5, 0.1, 2000)
    found = estimate(values, resamples(2000, 4000, seed=0))
    half = 1.959964 * values.std() / np.sqrt(2000)
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.05)
    assert (found.high + found.low) / 2 == pytest.approx(values.mean(), abs=half / 20)


def test_interval_covers_the_truth_as_often_as_promised():
    rng, draws = np.random.default_rng(7), resamples(40, 1000, seed=0)
    hits = 0
    for _ in range(400):
        found = estimate(rng.uniform(0, 1, 40), draws)
        hits += found.low <= 0.5 <= found.high
    assert 0.90 <= hits / 400 <= 0.98


def test_pairing_finds_a_difference_that_unpaired_samples_hide():
    rng = np.random.default_rng(8)
    hardness = rng.normal(0.5, 0.2, 50)
    one, other = hardness + 0.03 + rng.normal(0, 0.02, 50), hardness + rng.normal(0, 0.02, 50)
    paired = estimate(one - other, resamples(50, 4000, seed=0))
    unpaired = stats.bootstrap(
        (one, other), lambda a, b: a.mean() - b.mean(), vectorized=False, n_resamples=2000, rng=2
    ).confidence_interval
    assert 0 < paired.low < 0.03 < paired.high
    assert unpaired.low < 0 < unpaired.high
    assert paired.high - paired.low < (unpaired.high - unpaired.low) / 5


def test_gap_is_exact_when_every_client_closes_the_same_share():
    rng = np.random.default_rng(9)
    floor, gap = rng.uniform(0.2, 0.4, 30), rng.uniform(0.05, 0.6, 30)
    method = floor + 0.4 * gap
    bounds = gap_interval(method, floor, floor + gap, resamples(30, 500, seed=0))
    assert gap_closed(method, floor, floor + gap) == pytest.approx(0.4)
    # Only because numerator and denominator come from the same clients is nothing left to chance.
    assert bounds == pytest.approx((0.4, 0.4))


def test_gap_interval_is_that_of_a_loop_over_resampled_clients():
    rng = np.random.default_rng(10)
    floor = rng.uniform(0.2, 0.4, 12)
    ceiling, method = floor + rng.uniform(0.2, 0.5, 12), floor + rng.uniform(0, 0.4, 12)
    draws = resamples(12, 800, seed=0)
    ratios = []
    for counts in draws.astype(int):
        chosen = [i for i, count in enumerate(counts) for _ in range(count)]
        top = sum(method[i] for i in chosen) - sum(floor[i] for i in chosen)
        ratios.append(top / (sum(ceiling[i] for i in chosen) - sum(floor[i] for i in chosen)))
    assert gap_interval(method, floor, ceiling, draws) == pytest.approx(
        tuple(np.percentile(ratios, [2.5, 97.5]))
    )


def test_gap_is_a_ratio_of_means():
    floor, ceiling = np.array([0.5, 0.5]), np.array([0.9, 0.51])
    method = np.array([0.7, 0.61])
    assert gap_closed(method, floor, ceiling) == pytest.approx(0.31 / 0.41)


@pytest.mark.parametrize("ceiling", [[0.5, 0.5], [0.4, 0.5]])
def test_no_gap_without_an_oracle_above_zero_shot(ceiling):
    floor = np.array([0.5, 0.5])
    assert gap_closed(floor + 0.1, floor, np.array(ceiling)) is None


def test_no_interval_when_resamples_turn_the_gap_round():
    floor, ceiling = np.zeros(4), np.array([0.9, -0.2, -0.2, -0.2])
    method = np.full(4, 0.1)
    assert gap_closed(method, floor, ceiling) == pytest.approx(0.4 / 0.3)
    assert gap_interval(method, floor, ceiling, resamples(4, 500, seed=0)) is None
