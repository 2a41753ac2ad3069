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
    """[count, clients] how often each client is in each bootstrap sample (Efron 1979)."""
    rng = np.random.default_rng(derive_seed(seed, "bootstrap", clients))
    return rng.multinomial(clients, np.full(clients, 1 / clients), size=count).astype(np.float64)


def estimate(values: np.ndarray, draws: np.ndarray) -> Estimate:
    """Mean of [clients] values with its interval over ``draws`` from :func:`resamples`.

    Given differences between two methods on the same clients, this is the paired interval.
    """
    return _interval(float(values.mean()), draws @ values / draws.sum(axis=1))


def estimate_gap(
    method: np.ndarray, floor: np.ndarray, ceiling: np.ndarray, draws: np.ndarray
) -> Estimate | None:
    """Share of the gap closed: mean(method - floor) / mean(ceiling - floor), clients paired.

    Returns:
        None when the ceiling is not above the floor in the sample or in a resample: the share
        means nothing then.
    """
    gain, gap = method - floor, ceiling - floor
    sampled = draws @ gap
    if gap.mean() <= 0 or (sampled <= 0).any():
        return None
    return _interval(float(gain.mean() / gap.mean()), (draws @ gain) / sampled)


def _interval(mean: float, sampled: np.ndarray) -> Estimate:
    tail = (1 - COVERAGE) / 2
    low, high = np.quantile(sampled, [tail, 1 - tail])
    return Estimate(mean, float(low), float(high))
