"""What no attack can pass, whatever it computes: consequences of epsilon and delta alone."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import expit

from sglora_fed.errors import AttackError


def ceiling(epsilon: float | None, count: int, replies: int = 1, delta: float = 0.0) -> float:
    """The most often that anybody guesses one of k equally likely secrets from one release.

    For m = 1: (e^eps + (k - 1) delta) / (e^eps + k - 1), of every (eps, delta) mechanism. By the
    definition, the probability of the guess under its own secret is at most e^eps times that under
    each other, plus delta; k-ary randomised response attains it. For m > 1:
    e^eps / (m e^eps + k - m), of the subset mechanism with m places out of k.

    Args:
        epsilon: of one release; None promises nothing.
        count: k, at least 2.
        replies: m, from 1 to k.
        delta: of one release; with decoys 0.

    Raises:
        AttackError: for numbers outside of these ranges.
    """
    if type(count) is not int or count < 2:
        raise AttackError(f"{count!r} candidates; need a whole number of at least 2")
    if type(replies) is not int or not 0 < replies <= count:
        raise AttackError(f"replies={replies!r}; need a whole number from 1 to {count}")
    if replies > 1 and delta:
        raise AttackError(f"replies={replies!r} with delta={delta!r}; with decoys delta is 0")
    odds = _inverse_odds(epsilon, delta)
    if replies > 1:
        return 1 / (replies + (count - replies) * odds)
    return min(1.0, (1 + (count - 1) * delta * odds) / (1 + (count - 1) * odds))


def ceiling_for(epsilon: float | None, prior: np.ndarray, delta: float = 0.0) -> float:
    """The ceiling for secrets that are not equally likely.

    g (1 + (k - 1) delta e^-eps) with g = e^eps p / (e^eps p + 1 - p) of the likeliest secret,
    p > 0: the argument of :func:`ceiling` with each secret weighted by its prior.

    Args:
        epsilon: of one release; None promises nothing.
        prior: [k], of :func:`check_prior`.
        delta: of one release.

    Raises:
        AttackError: for an impossible prior, epsilon or delta.
    """
    check_prior(prior, len(prior))
    odds, likeliest = _inverse_odds(epsilon, delta), float(prior.max())
    best = likeliest / (likeliest + (1 - likeliest) * odds)
    return min(1.0, best * (1 + (len(prior) - 1) * delta * odds))


def check_prior(prior: np.ndarray, count: int) -> None:
    """Refuse what is no distribution over k secrets.

    Raises:
        AttackError: unless it is [k] finite, not negative, and sums to 1.
    """
    if prior.shape != (count,) or prior.dtype.kind != "f" or count < 2:
        raise AttackError(f"a prior {prior.dtype} of shape {prior.shape}; need floats ({count},)")
    if not (prior >= 0).all() or not abs(prior.sum() - 1) <= 1e-9:
        raise AttackError(f"a prior from {prior.min():g} that sums to {prior.sum():g}; need 1")


def posterior(epsilon: float, prior: float) -> float:
    """The most that an observer may believe in a yes-or-no fact after one release.

    e^eps p / (e^eps p + 1 - p), by Bayes' rule with a likelihood ratio of at most e^eps.

    Args:
        epsilon: of one release, pure.
        prior: what the observer believed before, in (0, 1).

    Raises:
        AttackError: for another prior, or an impossible epsilon.
    """
    if not 0 < prior < 1:
        raise AttackError(f"prior={prior!r}; need 0 < prior < 1")
    _inverse_odds(epsilon, 0.0)
    return float(expit(epsilon + math.log(prior) - math.log1p(-prior)))


def _inverse_odds(epsilon: float | None, delta: float) -> float:
    """e^-eps, 0 without a promise."""
    if epsilon is None:
        return 0.0
    if not 0 <= epsilon < math.inf or not 0 <= delta < 1:
        raise AttackError(
            f"epsilon={epsilon!r}, delta={delta!r}; need 0 <= epsilon, 0 <= delta < 1"
        )
    return math.exp(-epsilon)
