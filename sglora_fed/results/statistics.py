"""Intervals over clients: the client is the unit, and methods are compared on the same clients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sglora_fed.seeds import derive_seed

COVERAGE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean and its 95 % percentile-bootstrap interval."""

    mean: float
    low: float
    high: float


def resamples(clients: int, count: int, seed: int) -> np.ndarray:
    """[count, clients] how often each client is in each bootstrap sample (Efron 1979).

    Everything that is compared must use the same draws: that is what pairs it.
    """
    rng = np.random.default_rng(derive_seed(seed, "bootstrap", clients))
    return rng.multinomial(clients, np.full(clients, 1 / clients), size=count).astype(np.float64)


def estimate(values: np.ndarray, draws: np.ndarray) -> Estimate:
    """Mean of [clients] values with its interval over ``draws`` from :func:`resamples`.

    Given differences between two methods on the same clients, this is the paired interval.
    """
    return Estimate(float(values.mean()), *_interval(draws @ values / draws.sum(axis=1)))


def gap_closed(method: np.ndarray, floor: np.ndarray, ceiling: np.ndarray) -> float | None:
    """Share of the gap closed: mean(method - floor) / mean(ceiling - floor), clients paired.

    A ratio of means, not a mean of ratios: one client whose own gap is almost nothing would
    decide the latter.

    Returns:
        None when the ceiling is not above the floor: the share means nothing then.
    """
    gap = float((ceiling - floor).mean())
    return float((method - floor).mean()) / gap if gap > 0 else None


def gap_interval(
    method: np.ndarray, floor: np.ndarray, ceiling: np.ndarray, draws: np.ndarray
) -> tuple[float, float] | None:
    """95 % interval of :func:`gap_closed`: numerator and denominator from the same clients.

    Returns:
        None when the ceiling is so little above the floor that a resample turns it round.
    """
    sampled = draws @ (ceiling - floor)
    if (sampled <= 0).any():
        return None
    return _interval((draws @ (method - floor)) / sampled)


def _interval(sampled: np.ndarray) -> tuple[float, float]:
    tail = (1 - COVERAGE) / 2
    low, high = np.quantile(sampled, [tail, 1 - tail])
    return float(low), float(high)
