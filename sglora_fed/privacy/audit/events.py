"""Statistics of a release that tell two inputs apart, and the choice of an event among them.

None of them trusts a mechanism's own formula: a wrong mechanism is compared with what it claims, by
what it does.
"""

from __future__ import annotations

from dataclasses import dataclass

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


def choose(
    first: np.ndarray, second: np.ndarray, draws: int, delta: float, confidence: float
) -> Event:
    """The event that promises the largest bound for so many draws, judged by a sample of its own.

    Args:
        first: [n, s] statistics under the first input.
        second: [n, s] under the second.
        draws: that will certify it.
        delta: of the claim.
        confidence: of the bound.
    """
    best, found = -1.0, Event(0, 1, 0.0, False)
    for column in range(first.shape[1]):
        for sign in (1, -1):
            for swapped in (False, True):
                pair = (second, first) if swapped else (first, second)
                likely, other = (np.sort(sign * x[:, column]) for x in pair)
                thresholds = _thresholds(likely, other)
                promise = _promises(likely, other, thresholds, draws, delta, confidence)
                if (place := int(promise.argmax())) >= 0 and promise[place] > best:
                    best = float(promise[place])
                    found = Event(column, sign, float(thresholds[place]), swapped)
    return found


def _thresholds(likely: np.ndarray, other: np.ndarray) -> np.ndarray:
    values = np.unique(np.concatenate([likely[:: max(1, len(likely) // 2048)], other[-1:]]))
    if len(values) <= DISTINCT:
        return np.unique(np.concatenate([likely, other]))
    both = np.concatenate([likely, other])
    return np.asarray(np.quantile(both, 1 - LEVELS, method="higher"))


def _promises(
    likely: np.ndarray,
    other: np.ndarray,
    thresholds: np.ndarray,
    draws: int,
    delta: float,
    confidence: float,
) -> np.ndarray:
    """Bounds if the counts grew with the draws; one alarm is added, for those that none met."""
    grown = draws / len(likely)
    hits = (len(likely) - np.searchsorted(likely, thresholds)) * grown
    alarms = (len(other) - np.searchsorted(other, thresholds) + 1) * grown
    return certified(hits, np.minimum(alarms, draws), draws, delta, confidence)
