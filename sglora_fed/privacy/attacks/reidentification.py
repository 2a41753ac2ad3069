"""Which of k descriptions was it? The strongest guess that a release allows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sglora_fed.errors import AttackError
from sglora_fed.privacy.attacks.ceilings import ceiling, ceiling_for, check_prior
from sglora_fed.privacy.attacks.likelihood import catalogue_places, likelihoods
from sglora_fed.privacy.mechanisms import Mechanism, ProjectedMechanism, SubsetMechanism

CHUNK = 4096
"""Releases that are looked at together."""


@dataclass(frozen=True)
class Reidentification:
    """How often the attack was right; ties between candidates count as drawn by lot.

    Attributes:
        trials: releases, n.
        candidates: k.
        top1: share of releases whose likeliest candidate is the truth.
        top5: share whose five likeliest hold it.
        reciprocal_rank: mean of 1 / rank of the truth.
        ceiling: the most that ``top1`` can be expected to be; 1 without a promise.
        chance: ``top1`` of a guess from the prior alone.
    """

    trials: int
    candidates: int
    top1: float
    top5: float
    reciprocal_rank: float
    ceiling: float
    chance: float

    @property
    def standard_error(self) -> float:
        """Of ``top1``, were its expectation the ceiling."""
        return math.sqrt(self.ceiling * (1 - self.ceiling) / self.trials)

    @property
    def within_ceiling(self) -> bool:
        """Not above the ceiling by more than three standard errors."""
        return self.top1 <= self.ceiling + 3 * self.standard_error


def reidentification(
    mechanism: Mechanism,
    released: np.ndarray,
    candidates: np.ndarray,
    truths: np.ndarray,
    prior: np.ndarray | None = None,
) -> Reidentification:
    """Guess every secret by the mechanism's exact likelihood (Bayes' rule).

    Nobody who sees the release alone does better: the guess uses all of the mechanism, the
    candidates and their prior.

    Args:
        mechanism: that made the releases.
        released: [n, ...] of its form.
        candidates: [k, d] unit rows.
        truths: [n] whole numbers below k: what was released.
        prior: [k], uniform when not given.

    Raises:
        AttackError: for arrays that do not belong together, or a mechanism whose likelihood is
            not known.
    """
    _check(released, candidates, truths, prior)
    credits = np.zeros(3)
    for start in range(0, len(released), CHUNK):
        part = slice(start, start + CHUNK)
        scores = likelihoods(mechanism, released[part], candidates)
        if prior is not None:
            with np.errstate(divide="ignore"):
                scores = scores + np.log(prior)
        credits += guess_credits(scores, truths[part])
    top1, top5, rank = (credits / len(released)).tolist()
    count = len(candidates)
    chance = 1 / count if prior is None else float(prior.max())
    most = _ceiling(mechanism, candidates, prior)
    return Reidentification(len(released), count, top1, top5, rank, most, chance)


def reidentify(
    mechanism: Mechanism, candidates: np.ndarray, trials: int, rng: np.random.Generator
) -> Reidentification:
    """The same on fresh releases of candidates drawn at random.

    Args:
        mechanism: on embeddings of d numbers.
        candidates: [k, d] unit rows.
        trials: releases to draw, n.
        rng: draws the secrets; the mechanism's noise is the operating system's.

    Raises:
        AttackError: for no trials, or as :func:`reidentification`.
    """
    if trials < 1:
        raise AttackError(f"trials={trials!r}; need at least 1")
    truths = rng.integers(len(candidates), size=trials)
    released = np.stack([mechanism.release(candidates[truth]) for truth in truths])
    return reidentification(mechanism, released, candidates, truths)


def guess_credits(scores: np.ndarray, truths: np.ndarray) -> np.ndarray:
    """Sums over releases of top-1, top-5 and reciprocal rank, [3]; ties by lot, in expectation."""
    own = np.take_along_axis(scores, truths[:, None], axis=1)
    above, tied = (scores > own).sum(axis=1), (scores == own).sum(axis=1)
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, scores.shape[1] + 1))])
    first = ((1 - above) / tied).clip(0, 1)
    five = ((5 - above) / tied).clip(0, 1)
    rank = (harmonic[above + tied] - harmonic[above]) / tied
    return np.array([first.sum(), five.sum(), rank.sum()])


def _check(
    released: np.ndarray, candidates: np.ndarray, truths: np.ndarray, prior: np.ndarray | None
) -> None:
    if truths.shape != released.shape[:1] or truths.dtype.kind not in "iu" or not len(truths):
        raise AttackError(
            f"truths {truths.dtype} of shape {truths.shape} for releases {released.shape};"
            " need a whole number each, and at least one"
        )
    if truths.min() < 0 or truths.max() >= len(candidates):
        raise AttackError(f"truths from {truths.min()} to {truths.max()}; need 0 to k - 1")
    if prior is not None:
        check_prior(prior, len(candidates))


def _ceiling(mechanism: Mechanism, candidates: np.ndarray, prior: np.ndarray | None) -> float:
    """The subset mechanism's own where the candidates are its catalogue, else that of all."""
    delta = mechanism.delta or 0.0
    if prior is not None:
        return ceiling_for(mechanism.epsilon, prior, delta)
    inner = mechanism.inner if isinstance(mechanism, ProjectedMechanism) else mechanism
    if isinstance(inner, SubsetMechanism) and len(candidates) == len(inner.rows):
        rows = candidates
        if isinstance(mechanism, ProjectedMechanism):
            rows = np.stack([mechanism.projection.down(row) for row in candidates])
        if len(set(catalogue_places(inner, rows).tolist())) == len(rows):
            return ceiling(inner.epsilon, len(rows), inner.replies)
    return ceiling(mechanism.epsilon, len(candidates), delta=delta)
