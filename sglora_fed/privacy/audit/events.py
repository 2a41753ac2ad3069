"""Statistics of a release that tell two inputs apart, and the choice of an event among them.

None of them trusts a mechanism's own formula: a wrong mechanism is compared with what it claims, by
what it does.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from sglora_fed.privacy.audit.bounds import certified

DISTINCT = 64
"""Values of a statistic that are all tried as thresholds; of more, quantiles."""

LEVELS = np.concatenate([np.geomspace(1e-6, 0.05, 60), np.linspace(0.06, 0.94, 45)])
"""Of quantiles from the upper end; the lower end is the upper one with the inputs swapped."""


@dataclass(frozen=True)
class Event:
    """``sign * statistic >= threshold``, likelier under the one input than under the other.

    Attributes:
        statistic: its column.
        sign: 1 or -1.
        threshold: of the signed statistic.
        swapped: likelier under the second input.
    """

    statistic: int
    sign: int
    threshold: float
    swapped: bool

    def counts(self, first: np.ndarray, second: np.ndarray) -> tuple[int, int]:
        """Times that it happened under the likelier input and under the other.

        Args:
            first: [n, s] statistics of releases of the first input.
            second: [n, s] of the second.
        """
        pair = (second, first) if self.swapped else (first, second)
        values = [self.sign * x[:, self.statistic] for x in pair]
        hits, alarms = ((value >= self.threshold).sum() for value in values)
        return int(hits), int(alarms)


def choose(first: np.ndarray, second: np.ndarray, delta: float, confidence: float) -> Event:
    """The event with the largest bound on a sample of its own.

    The bound, not the ratio, is compared: an event that was met a few times by luck has a small
    one.

    Args:
        first: [n, s] statistics under the first input.
        second: [n, s] under the second.
        delta: of the claim.
        confidence: of the bound.
    """
    best, found = -1.0, Event(0, 1, 0.0, False)
    for column, sign, swapped in product(range(first.shape[1]), (1, -1), (False, True)):
        pair = (second, first) if swapped else (first, second)
        likely, other = (np.sort(sign * x[:, column]) for x in pair)
        thresholds = _thresholds(likely, other)
        bounds = _bounds(likely, other, thresholds, delta, confidence)
        place = int(bounds.argmax())
        if bounds[place] > best:
            best = float(bounds[place])
            found = Event(column, sign, float(thresholds[place]), swapped)
    return found


def _thresholds(likely: np.ndarray, other: np.ndarray) -> np.ndarray:
    """All values of a statistic that has few, quantiles of another, [t]."""
    both = np.concatenate([likely, other])
    values = np.unique(both)
    if len(values) <= DISTINCT:
        return values
    return np.asarray(np.quantile(both, 1 - LEVELS, method="higher"))


def _bounds(
    likely: np.ndarray, other: np.ndarray, thresholds: np.ndarray, delta: float, confidence: float
) -> np.ndarray:
    """[t] bounds of the events at or above each threshold, for sorted statistics."""
    hits = len(likely) - np.searchsorted(likely, thresholds)
    alarms = len(other) - np.searchsorted(other, thresholds)
    return certified(hits, alarms, len(likely), delta, confidence)
