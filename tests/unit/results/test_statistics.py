"""Intervals against scipy, a textbook's sums of squares and planted truth."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sglora_fed.results.statistics import auroc, estimate, gap_closed


def column(*values: float) -> np.ndarray:
    return np.array(values)[:, None]


def covered(values: np.ndarray, truth: float = 0.0) -> float:
    """Share of the [trials, clients, seeds] experiments whose interval holds the truth."""
    found = [estimate(own) for own in values]
    return float(np.mean([abs(one.mean - truth) <= one.half for one in found]))


def crossed(clients: int, seeds: int, seed_spread: float, trials: int = 500) -> np.ndarray:
    rng = np.random.default_rng([clients, seeds])
    common, own = rng.normal(size=(trials, 1, seeds)), rng.normal(size=(trials, clients, 1))
    return own + seed_spread * common + rng.normal(size=(trials, clients, seeds))


@pytest.mark.parametrize("clients", [2, 3, 9, 60])
def test_with_one_seed_it_is_the_t_interval_over_clients(clients):
    values = np.random.default_rng(clients).beta(0.6, 3.0, (clients, 1))
    found = estimate(values)
    other = stats.ttest_1samp(values[:, 0], 0).confidence_interval(0.95)
    assert found.bounds == pytest.approx((other.low, other.high))
    assert found.clients == clients


def test_two_levels_are_those_of_the_analysis_of_variance():
    """Sums of squares cell by cell; their variances of the mean and Satterthwaite's freedom."""
    values = crossed(6, 4, 2.0, trials=1)[0]
    n, s = values.shape
    total = values.sum() / (n * s)
    rows, columns = values.sum(axis=1) / s, values.sum(axis=0) / n
    of_clients = s * sum((row - total) ** 2 for row in rows) / (n - 1)
    of_seeds = n * sum((column - total) ** 2 for column in columns) / (s - 1)
    rest = sum(
        (values[i, j] - rows[i] - columns[j] + total) ** 2 for i, j in product(range(n), range(s))
    ) / ((n - 1) * (s - 1))
    assert of_seeds > rest
    variance = (of_clients + of_seeds - rest) / (n * s)
    freedom = (of_clients + of_seeds - rest) ** 2 / (
        of_clients**2 / (n - 1) + of_seeds**2 / (s - 1) + rest**2 / ((n - 1) * (s - 1))
    )
    half = stats.t.ppf(0.975, freedom) * np.sqrt(variance)
    assert estimate(values).mean == pytest.approx(total)
    assert estimate(values).half == pytest.approx(half)


@pytest.mark.parametrize("clients", [2, 4, 8, 12, 20, 40])
@pytest.mark.parametrize(
    "draw",
    [
        lambda rng, n: rng.normal(0.0, 1.0, n),
        lambda rng, n: rng.binomial(60, rng.beta(6, 4, n)) / 60 - 0.6,
    ],
    ids=["normal", "accuracies"],
)
def test_interval_covers_the_truth_as_often_as_promised(clients, draw):
    rng = np.random.default_rng(7)
    values = np.stack([draw(rng, (clients, 1)) for _ in range(1500)])
    assert 0.935 <= covered(values) <= 0.98


@pytest.mark.parametrize("clients", [2, 8, 40])
@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("spread", [0.0, 0.3, 1.0])
def test_interval_covers_with_several_seeds(clients, seeds, spread):
    assert covered(crossed(clients, seeds, spread)) >= 0.9


def test_seeds_are_a_level_of_their_own():
    """Two hundred clients cannot make up for three seeds that differ more than the clients do."""
    values = crossed(200, 3, 2.0, trials=400)
    assert covered(values) >= 0.9
    assert covered(values.reshape(400, -1, 1)) < 0.3
    assert covered(values.mean(axis=2, keepdims=True)) < 0.3


@given(st.integers(2, 9), st.integers(2, 4), st.integers(0, 999))
def test_degrees_of_freedom_are_at_least_those_of_the_smaller_level(clients, seeds, seed):
    values = np.random.default_rng(seed).normal(size=(clients, seeds))
    most = values.mean(axis=1).var(ddof=1) / clients + values.mean(axis=0).var(ddof=1) / seeds
    widest = stats.t.ppf(0.975, min(clients, seeds) - 1) * np.sqrt(most)
    assert estimate(values).half <= widest * (1 + 1e-9)


def test_seeds_that_change_nothing_cost_nothing():
    values = np.repeat(np.random.default_rng(3).normal(size=(12, 1)), 3, axis=1)
    assert estimate(values).half == pytest.approx(estimate(values[:, :1]).half)


def test_interval_covers_when_values_are_missing():
    values = crossed(12, 3, 1.0)
    lost = np.random.default_rng(4).random(values.shape) < 0.2
    lost[:, :, 0] = False
    assert covered(np.where(lost, np.nan, values)) >= 0.9


def test_a_client_counts_once_however_many_seeds_it_has():
    values = np.array([[0.0, 1.0, 1.0], [1.0, np.nan, np.nan], [np.nan] * 3])
    assert estimate(values).mean == pytest.approx((2 / 3 + 1) / 2)
    assert estimate(values).clients == 2


@given(st.integers(2, 6), st.integers(1, 4), st.integers(0, 99))
def test_order_and_origin_do_not_matter(clients, seeds, seed):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(clients, seeds))
    values[1:][rng.random((clients - 1, seeds)) < 0.2] = np.nan
    moved = values[rng.permutation(clients)][:, rng.permutation(seeds)] + 3
    assert estimate(moved).mean == pytest.approx(estimate(values).mean + 3)
    assert estimate(moved).half == pytest.approx(estimate(values).half)


def test_one_client_has_no_interval():
    assert estimate(column(0.7)).bounds is None
    assert estimate(np.array([[0.2, 0.4, 0.6]])).bounds is None
    with pytest.raises(ValueError, match="no client"):
        estimate(column(np.nan))


def test_pairing_finds_a_difference_that_unpaired_samples_hide():
    rng = np.random.default_rng(8)
    hardness = rng.normal(0.5, 0.2, 50)
    one, other = hardness + 0.03 + rng.normal(0, 0.02, 50), hardness + rng.normal(0, 0.02, 50)
    low, high = estimate((one - other)[:, None]).bounds
    unpaired = stats.ttest_ind(one, other, equal_var=False).confidence_interval(0.95)
    assert 0 < low < 0.03 < high
    assert unpaired.low < 0 < unpaired.high
    assert high - low < (unpaired.high - unpaired.low) / 5


def test_gap_is_exact_when_every_client_closes_the_same_share():
    rng = np.random.default_rng(9)
    floor, gap = rng.uniform(0.2, 0.4, (30, 2)), rng.uniform(0.05, 0.6, (30, 2))
    found = gap_closed(floor + 0.4 * gap, floor, floor + gap)
    # Only because numerator and denominator come from the same clients is nothing left to chance.
    assert found.bounds == pytest.approx((0.4, 0.4))


def test_gap_interval_covers_the_planted_share():
    rng, hits = np.random.default_rng(10), []
    for _ in range(1000):
        floor = rng.uniform(0.2, 0.4, (12, 1))
        gap = rng.uniform(0.1, 0.6, (12, 1))
        method = floor + 0.7 * gap + rng.normal(0, 0.05, (12, 1))
        found = gap_closed(method, floor, floor + gap)
        hits.append(abs(found.mean - 0.7) <= found.half)
    assert np.mean(hits) >= 0.93


def test_gap_is_a_ratio_of_means():
    found = gap_closed(column(0.7, 0.61), column(0.5, 0.5), column(0.9, 0.51))
    assert found.mean == pytest.approx(0.31 / 0.41)


def test_gap_is_of_clients_that_have_all_three():
    method, floor = column(0.7, 0.9, np.nan, 0.4), column(0.5, np.nan, 0.1, 0.3)
    found = gap_closed(method, floor, column(0.9, 0.9, 0.9, 0.7))
    assert (found.mean, found.clients) == (pytest.approx(0.3 / 0.8), 2)
    assert gap_closed(method[1:3], floor[1:3], column(0.9, 0.9)) is None


@pytest.mark.parametrize("ceiling", [[0.5, 0.5], [0.4, 0.5]])
def test_no_gap_without_an_oracle_above_zero_shot(ceiling):
    floor = column(0.5, 0.5)
    assert gap_closed(floor + 0.1, floor, column(*ceiling)) is None


def test_no_interval_when_the_oracle_is_not_certainly_above():
    floor = np.zeros((4, 1))
    found = gap_closed(floor + 0.1, floor, column(0.9, -0.2, -0.2, -0.2))
    assert found.mean == pytest.approx(0.4 / 0.3)
    assert found.bounds is None


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=9),
    st.lists(st.integers(0, 5), min_size=1, max_size=9),
)
def test_auroc_is_the_share_of_pairs_in_the_right_order(one: list[int], other: list[int]) -> None:
    counted = np.mean([(a > b) + 0.5 * (a == b) for a in one for b in other])
    assert auroc(np.array(one, float), np.array(other, float)) == pytest.approx(counted)
