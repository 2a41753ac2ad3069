"""Attacks that are learnt from examples: for whoever lacks a mechanism's formula, or has none.

Weaker than the exact likelihood where that is known; they can look for whatever a label says, a
name or a way of putting it, which no candidate list holds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp, softmax

from sglora_fed.errors import AttackError
from sglora_fed.privacy.attacks.likelihood import check_released
from sglora_fed.privacy.mechanisms import Mechanism

PENALTY = 1e-3
"""On the squared weights of a classifier, per example."""


@dataclass(frozen=True)
class Learnt:
    """How often a learnt attack names the right label, on examples that it has not seen.

    Attributes:
        trials: examples, n.
        labels: that there are.
        accuracy: share of right labels.
        balanced: mean over labels of the share that is right.
        chance: accuracy of the most frequent label of the examples that were learnt from.
    """

    trials: int
    labels: int
    accuracy: float
    balanced: float
    chance: float

    @property
    def standard_error(self) -> float:
        """Of the accuracy, were it chance."""
        return math.sqrt(self.chance * (1 - self.chance) / self.trials)


def features(mechanism: Mechanism, released: np.ndarray, places: int | None = None) -> np.ndarray:
    """Numbers to learn from: an embedding as it is, places as one 0 or 1 each.

    Args:
        mechanism: that made the releases.
        released: [n, ...] of its form.
        places: k of the catalogue, for mechanisms that send places.

    Returns:
        [n, f] float64.

    Raises:
        AttackError: for releases of another form, or a place beyond the catalogue.
    """
    check_released(mechanism, released)
    if mechanism.form.dtype != "uint16":
        return released.reshape(len(released), -1).astype(np.float64)
    if places is None or released.max(initial=0) >= places:
        raise AttackError(f"a place of {released.max(initial=0)} in a catalogue of {places!r}")
    sent = np.zeros((len(released), places))
    np.put_along_axis(sent, released.astype(np.int64), 1.0, axis=1)
    return sent


def learn_labels(values: np.ndarray, labels: np.ndarray, learnt_from: int) -> Learnt:
    """Learn a label from the first examples and guess that of the others.

    Multinomial logistic regression with a small penalty, by L-BFGS.

    Args:
        values: [n, f] of :func:`features`.
        labels: [n] whole numbers from 0 up.
        learnt_from: examples to learn from, fewer than n.

    Raises:
        AttackError: for arrays that do not belong together, NaN or infinity, or a single label.
    """
    _check(values, labels, learnt_from)
    mean, spread = values[:learnt_from].mean(axis=0), values[:learnt_from].std(axis=0)
    scaled = (values - mean) / np.where(spread > 0, spread, 1)
    count = int(labels.max()) + 1
    weights = _fit(scaled[:learnt_from], labels[:learnt_from], count)
    guessed = (scaled[learnt_from:] @ weights[:-1] + weights[-1]).argmax(axis=1)
    truth = labels[learnt_from:]
    right = guessed == truth
    balanced = float(np.mean([right[truth == label].mean() for label in np.unique(truth)]))
    most = np.bincount(labels[:learnt_from], minlength=count).argmax()
    return Learnt(len(truth), count, float(right.mean()), balanced, float((truth == most).mean()))


def _fit(values: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """Weights [f + 1, count], the last row the constants."""
    hot = np.eye(count)[labels]
    shape = (values.shape[1] + 1, count)

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(shape)
        scores = values @ weights[:-1] + weights[-1]
        entropy = (logsumexp(scores, axis=1) - (scores * hot).sum(axis=1)).mean()
        error = (softmax(scores, axis=1) - hot) / len(values)
        slope = np.vstack([values.T @ error, error.sum(axis=0)]) + 2 * PENALTY * weights
        return float(entropy + PENALTY * (weights**2).sum()), slope.ravel()

    found = minimize(loss, np.zeros(math.prod(shape)), jac=True, method="L-BFGS-B")
    return np.asarray(found.x.reshape(shape))


def _check(values: np.ndarray, labels: np.ndarray, learnt_from: int) -> None:
    if values.ndim != 2 or not np.isfinite(values).all():
        raise AttackError(f"values of shape {values.shape}; need finite numbers (n, f)")
    if labels.shape != values.shape[:1] or labels.dtype.kind not in "iu":
        raise AttackError(
            f"labels {labels.dtype} of shape {labels.shape} for values {values.shape};"
            " need a whole number each"
        )
    if not 0 < learnt_from < len(labels):
        raise AttackError(f"learnt_from={learnt_from!r} of {len(labels)} examples; need fewer")
    if labels.min() < 0 or len(np.unique(labels[:learnt_from])) < 2:
        raise AttackError("labels need to be 0 or more, and two different ones to learn from")
