"""Bounds of an audit: against scipy's intervals, published values, and known mechanisms."""

from __future__ import annotations

import math

import dp_accounting
import numpy as np
import pytest
from scipy import stats

from sglora_fed.errors import AuditError
from sglora_fed.privacy.audit import certified, one_run, one_run_gaussian
from sglora_fed.privacy.audit.bounds import gaussian_mean


def test_the_intervals_are_those_of_scipy() -> None:
    for hits, alarms, draws in [(900, 30, 1000), (1000, 0, 1000), (25, 1, 50)]:
        low = stats.binomtest(hits, draws).proportion_ci(0.99, "exact").low
        high = stats.binomtest(alarms, draws).proportion_ci(0.99, "exact").high
        found = certified(np.array(hits), np.array(alarms), draws, 0.01, 0.99)
        assert found == pytest.approx(math.log((low - 0.01) / high))


@pytest.mark.parametrize(("draws", "most"), [(10**4, 7.5), (10**5, 9.9), (10**6, 12.2)])
def test_the_most_that_draws_can_certify(draws: int, most: float) -> None:
    assert certified(np.array(draws), np.array(0), draws, 0, 0.99) == pytest.approx(most, abs=0.06)


def test_nothing_is_certified_from_nothing() -> None:
    hits, alarms = np.array([0, 5, 10, 0]), np.array([0, 5, 10, 10])
    assert (certified(hits, alarms, 10, 0.0, 0.99) == 0).all()


def test_a_bound_is_wrong_as_rarely_as_it_says() -> None:
    rng, true = np.random.default_rng(0), 1.0
    share = 1 / (1 + math.exp(true))
    hits = rng.binomial(400, 1 - share, 20_000)
    alarms = rng.binomial(400, share, 20_000)
    wrong = (certified(hits, alarms, 400, 0.0, 0.9) > true).mean()
    assert wrong <= 0.1


@pytest.mark.parametrize(
    ("canaries", "most"), [(100, 3.5), (500, 5.1), (1000, 5.8), (5000, 7.4), (10_000, 8.1)]
)
def test_one_run_with_all_guesses_right(canaries: int, most: float) -> None:
    assert one_run(canaries, canaries, canaries, 0.0, 0.95) == pytest.approx(most, abs=0.06)


def test_one_run_by_its_definition() -> None:
    """The p-value at the bound is the significance, summed by scipy's binomial distribution."""
    bound = one_run(850, 1000, 2000, 1e-5, 0.95)
    tail = stats.binom(1000, 1 / (1 + math.exp(-bound))).sf
    sure = tail(849)
    more = max((tail(849 - i) - sure) / i for i in range(1, 851))
    assert sure + 2 * 2000 * 1e-5 * more == pytest.approx(0.05, abs=1e-5)
    assert bound < one_run(850, 1000, 2000, 0.0, 0.95)


def test_guesses_by_chance_prove_nothing() -> None:
    assert one_run(500, 1000, 1000, 1e-5, 0.95) == 0
    assert one_run_gaussian(500, 1000, 1000, 1e-5, 0.95) == 0
    assert one_run(0, 1, 10, 0.5, 0.95) == 0


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 4.0, 8.0, 30.0])
def test_the_gaussian_curve_is_that_of_dp_accounting(epsilon: float) -> None:
    sigma = dp_accounting.get_sigma_gaussian(epsilon, 1e-5)
    assert gaussian_mean(epsilon, 1e-5) == pytest.approx(1 / sigma, rel=1e-4)


@pytest.mark.parametrize("mean", [0.5, 1.0, 2.0])
def test_a_gaussian_run_is_never_refuted_and_the_sharper_bound_is_larger(mean: float) -> None:
    """Canaries with scores N(0, 1) out and N(mu, 1) in are a Gaussian mechanism's of that mu."""
    from scipy.optimize import brentq

    true = brentq(lambda epsilon: gaussian_mean(epsilon, 1e-5) - mean, 1e-3, 50)
    rng, bounds = np.random.default_rng(4), []
    for _ in range(20):
        included = rng.random(4000) < 0.5
        scores = rng.normal(size=4000) + mean * included
        order = np.argsort(scores)
        right = int((~included[order[:400]]).sum() + included[order[-400:]].sum())
        counts = (right, 800, 4000, 1e-5, 0.99)
        bounds.append((one_run(*counts), one_run_gaussian(*counts)))
    weak, sharp = np.array(bounds).T
    assert (sharp <= true).all()
    assert (weak <= true).all()
    assert sharp.mean() > 1.3 * weak.mean() > 0


@pytest.mark.parametrize("counts", [(2, 1, 5), (1, 6, 5), (-1, 3, 5), (0, 0, 5), (1.0, 2, 5)])
def test_counts_that_cannot_be(counts: tuple[int, int, int]) -> None:
    for bound in (one_run, one_run_gaussian):
        with pytest.raises(AuditError, match="correct, guesses, canaries"):
            bound(*counts, 1e-5, 0.95)


@pytest.mark.parametrize(
    ("delta", "confidence"), [(1.0, 0.9), (-1, 0.9), (math.nan, 0.9), (0.1, 1), (0.1, math.nan)]
)
def test_what_is_no_probability(delta: float, confidence: float) -> None:
    with pytest.raises(AuditError, match="confidence="):
        one_run(1, 2, 5, delta, confidence)
    with pytest.raises(AuditError, match="delta=0"):
        one_run_gaussian(1, 2, 5, 0.0, 0.9)
