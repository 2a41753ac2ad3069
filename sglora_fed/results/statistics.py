"""Intervals over clients and seeds: both are drawn at random, and methods are paired on both.

Why these intervals and how often they cover: ``docs/decisions/0012-intervals.md``.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
from scipy.special import stdtrit

COVERAGE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean over clients and its 95 % interval.

    Attributes:
        mean: over clients of each client's mean over seeds.
        half: half of the interval's width; None where nothing can be said of the spread.
        clients: that have a value.
    """

    mean: float
    half: float | None
    clients: int

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Lower and upper end of the interval."""
        return None if self.half is None else (self.mean - self.half, self.mean + self.half)


def estimate(values: np.ndarray) -> Estimate:
    """Mean of values with Student's interval, clients and seeds being crossed random effects.

    With one seed this is the one-sample t interval over clients. With several, a seed changes all
    clients at once, so that clients of different seeds are not independent: the mean's variance is
    that of the two-way random-effects analysis of variance, its degrees of freedom Satterthwaite's
    (1946, Biometrics Bulletin 2, 110-114). Given differences between two methods on the same
    clients and seeds, it is the paired interval.

    Args:
        values: [clients, seeds], NaN where a client has none; clients without any do not count.

    Returns:
        Without an interval for a single client.

    Raises:
        ValueError: when no client has a value.
    """
    values = values[~np.isnan(values).all(axis=1)]
    clients = len(values)
    if not clients:
        raise ValueError("no client has a value")
    own = np.nanmean(values, axis=1)
    mean = float(own.mean())
    if clients == 1:
        return Estimate(mean, None, clients)
    variance, freedom = _uncertainty(values, own)
    half = float(stdtrit(freedom, (1 + COVERAGE) / 2)) * sqrt(variance)
    return Estimate(mean, half, clients)


def _uncertainty(values: np.ndarray, own: np.ndarray) -> tuple[float, float]:
    """Variance of the mean and its degrees of freedom, for [clients, seeds] and [clients] means.

    Each mean square is divided by the number of cells, so that it is a variance of the mean:
    clients + max(seeds - rest, 0), where ``rest`` is the interaction, which both others contain.
    """
    clients, freedom = len(own), float(len(own) - 1)
    by_client = float(own.var(ddof=1)) / clients
    present = ~np.isnan(values)
    values, present = values[:, present.any(axis=0)], present[:, present.any(axis=0)]
    seeds = values.shape[1]
    within = int(present.sum()) - clients - seeds + 1
    if seeds == 1 or within < 1:
        return by_client, freedom
    # Every client counts the same, and so does each of its seeds.
    weights = present / present.sum(axis=1, keepdims=True) / clients
    shift = np.nansum(weights * (values - own[:, None]), axis=0) / weights.sum(axis=0)
    rest = np.nansum((weights * (values - own[:, None] - shift)) ** 2) * present.sum() / within
    by_seed = float((weights.sum(axis=0) * shift) @ (weights.sum(axis=0) * shift))
    by_seed *= seeds / (seeds - 1)
    if by_seed <= rest:
        return by_client, freedom
    variance = by_client + by_seed - float(rest)
    spread = by_client**2 / freedom + by_seed**2 / (seeds - 1) + float(rest) ** 2 / within
    # The subtraction may leave fewer degrees than the smaller level has: too few to mean anything.
    return variance, max(variance**2 / spread, min(clients, seeds) - 1.0)


def gap_closed(method: np.ndarray, floor: np.ndarray, ceiling: np.ndarray) -> Estimate | None:
    """Share of the gap closed: mean(method - floor) / mean(ceiling - floor), clients paired.

    A ratio of means, not a mean of ratios: one client whose own gap is almost nothing would
    decide the latter. The interval is that of a ratio estimator (Cochran 1977, Sampling Techniques,
    section 6.4): of the residuals method - floor - share * (ceiling - floor).

    Args:
        method: [clients, seeds] as for :func:`estimate`.
        floor: [clients, seeds].
        ceiling: [clients, seeds].

    Returns:
        None when the ceiling is not above the floor: the share means nothing then. Without an
        interval when it is not certainly above.
    """
    whole, part = ceiling - floor, method - floor
    whole = np.where(np.isnan(part), np.nan, whole)
    part = np.where(np.isnan(whole), np.nan, part)
    if np.isnan(whole).all() or (gap := estimate(whole)).mean <= 0:
        return None
    share = estimate(part).mean / gap.mean
    certain = gap.half is not None and gap.mean > gap.half
    rest = estimate((part - share * whole) / gap.mean)
    return Estimate(share, rest.half if certain else None, gap.clients)


def auroc(higher: np.ndarray, lower: np.ndarray) -> float:
    """Chance that one of the first exceeds one of the second; equal ones count half.

    The area under the ROC curve, as the Mann-Whitney statistic (Hanley & McNeil 1982).

    Args:
        higher: [n], n > 0.
        lower: [m], m > 0.
    """
    ordered = np.sort(lower)
    below = np.searchsorted(ordered, higher, "left") + np.searchsorted(ordered, higher, "right")
    return float(below.mean() / (2 * len(lower)))
