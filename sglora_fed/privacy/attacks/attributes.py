"""One fact about a description, such as whether it is about health: the strongest guess."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from sglora_fed.errors import AttackError
from sglora_fed.privacy.attacks.ceilings import ceiling_for
from sglora_fed.privacy.attacks.likelihood import likelihoods, log_posterior
from sglora_fed.privacy.mechanisms import Mechanism


@dataclass(frozen=True)
class AttributeInference:
    """How often the attribute of a description was guessed.

    Attributes:
        trials: releases, n.
        values: that the attribute can have.
        accuracy: share of right guesses; ties count as drawn by lot.
        balanced: mean over values of the share that is right.
        ceiling: the most that ``accuracy`` can be expected to be.
        chance: share of the likeliest value among the candidates.
    """

    trials: int
    values: int
    accuracy: float
    balanced: float
    ceiling: float
    chance: float


def attribute_inference(
    mechanism: Mechanism,
    released: np.ndarray,
    candidates: np.ndarray,
    attributes: np.ndarray,
    truths: np.ndarray,
) -> AttributeInference:
    """Guess an attribute by the posterior of all candidates that have it (Bayes' rule).

    Candidates are equally likely; a value that many of them have is likelier from the start.

    Args:
        mechanism: that made the releases.
        released: [n, ...] of its form.
        candidates: [k, d] unit rows.
        attributes: [k] whole numbers from 0 up: the value of each candidate.
        truths: [n] whole numbers below k: the candidate that was released.

    Raises:
        AttackError: for arrays that do not belong together, a single value, or as
            :func:`likelihoods`.
    """
    _check(released, candidates, attributes, truths)
    found = log_posterior(likelihoods(mechanism, released, candidates), None)
    values = np.unique(attributes)
    scores = np.stack([logsumexp(found[:, attributes == v], axis=1) for v in values], axis=1)
    own = np.searchsorted(values, attributes[truths])
    best = scores >= scores.max(axis=1, keepdims=True) - 1e-12
    right = best[np.arange(len(own)), own] / best.sum(axis=1)
    prior = np.array([(attributes == v).mean() for v in values])
    balanced = float(np.mean([right[own == value].mean() for value in np.unique(own)]))
    most = ceiling_for(mechanism.epsilon, prior, mechanism.delta or 0.0)
    return AttributeInference(
        len(own), len(values), float(right.mean()), balanced, most, float(prior.max())
    )


def _check(
    released: np.ndarray, candidates: np.ndarray, attributes: np.ndarray, truths: np.ndarray
) -> None:
    if attributes.shape != candidates.shape[:1] or attributes.dtype.kind not in "iu":
        raise AttackError(
            f"attributes {attributes.dtype} of shape {attributes.shape} for candidates"
            f" {candidates.shape}; need a whole number each"
        )
    if len(np.unique(attributes)) < 2:
        raise AttackError("all candidates have one value; there is nothing to infer")
    if truths.shape != released.shape[:1] or truths.dtype.kind not in "iu" or not len(truths):
        raise AttackError(f"truths of shape {truths.shape} for releases {released.shape}")
    if truths.min() < 0 or truths.max() >= len(candidates):
        raise AttackError(f"truths from {truths.min()} to {truths.max()}; need 0 to k - 1")
