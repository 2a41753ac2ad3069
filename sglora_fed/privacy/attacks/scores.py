"""How well scores tell two groups apart, and how well they can under a promise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sglora_fed.errors import AttackError

LOW_RATES = (0.01, 0.001)
"""False positive rates at which an attack is also judged: what it is sure of."""


@dataclass(frozen=True)
class Separation:
    """An attack that says yes to high scores.

    Attributes:
        positives: records of the kind that is looked for.
        negatives: others.
        auc: probability that a positive scores above a negative, ties half.
        standard_error: of the AUC (Hanley & McNeil 1982).
        tpr_at: share of positives above the score that a given share of negatives passes, for each
            of ``LOW_RATES``.
    """

    positives: int
    negatives: int
    auc: float
    standard_error: float
    tpr_at: dict[float, float]


def separation(positives: np.ndarray, negatives: np.ndarray) -> Separation:
    """Judge scores of two groups.

    Args:
        positives: [n] scores of the kind that is looked for.
        negatives: [m] scores of others.

    Raises:
        AttackError: for an empty group, NaN or infinity.
    """
    for scores in (positives, negatives):
        if scores.ndim != 1 or not len(scores) or not np.isfinite(scores).all():
            raise AttackError(f"scores of shape {scores.shape}; need one finite number each")
    auc = _auc(positives, negatives)
    rates = {rate: _tpr(positives, negatives, rate) for rate in LOW_RATES}
    error = _hanley_mcneil(auc, len(positives), len(negatives))
    return Separation(len(positives), len(negatives), auc, error, rates)


def auc_ceiling(epsilon: float | None, delta: float = 0.0) -> float:
    """The largest AUC of any attack between two inputs of an (epsilon, delta) mechanism.

    The area under min(1, e^eps f + delta, 1 - e^-eps (1 - delta - f)) over f (Kairouz, Oh &
    Viswanath 2015): two straight lines that meet at f = (1 - delta) / (1 + e^eps).

    Args:
        epsilon: None promises nothing.
        delta: in [0, 1).

    Raises:
        AttackError: for numbers outside of these ranges.
    """
    if epsilon is None:
        return 1.0
    if not 0 <= epsilon < math.inf or not 0 <= delta < 1:
        raise AttackError(f"epsilon={epsilon!r}, delta={delta!r}; need 0 or more, delta below 1")
    meet = (1 - delta) / (1 + math.exp(epsilon)) if epsilon < 700 else 0.0
    # From (0, delta) to (meet, 1 - meet) to (1 - delta, 1) to (1, 1): trapezoids.
    return (delta + 1 - meet) / 2 * meet + (2 - meet) / 2 * (1 - delta - meet) + delta


def tpr_ceiling(epsilon: float, delta: float, rate: float) -> float:
    """The most true positives at a false positive rate: e^eps f + delta (Kairouz et al. 2015)."""
    return min(1.0, math.exp(min(epsilon, 700.0)) * rate + delta)


def _auc(positives: np.ndarray, negatives: np.ndarray) -> float:
    ordered = np.sort(negatives)
    below = np.searchsorted(ordered, positives, "left")
    upto = np.searchsorted(ordered, positives, "right")
    return float((below + upto).mean() / (2 * len(negatives)))


def _tpr(positives: np.ndarray, negatives: np.ndarray, rate: float) -> float:
    allowed = math.floor(rate * len(negatives))
    threshold = np.sort(negatives)[::-1][min(allowed, len(negatives) - 1)]
    return float((positives > threshold).mean())


def _hanley_mcneil(auc: float, positives: int, negatives: int) -> float:
    one, two = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    spread = auc * (1 - auc) + (positives - 1) * (one - auc**2) + (negatives - 1) * (two - auc**2)
    return math.sqrt(max(spread, 0.0) / (positives * negatives))
