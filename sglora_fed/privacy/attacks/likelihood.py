"""How likely a release is under each candidate: all that a mechanism tells about its input.

Whoever knows the mechanism, the candidates and their prior can do no better than compare these
numbers (Bayes). They may lack terms that are the same for all candidates.
"""

from __future__ import annotations

import math
from functools import lru_cache, singledispatch

import numpy as np
from numpy.polynomial import Chebyshev
from scipy.special import logsumexp

from sglora_fed.errors import AttackError
from sglora_fed.privacy.catalogue import nearest
from sglora_fed.privacy.mechanisms import (
    GaussianMechanism,
    KrrMechanism,
    Mechanism,
    NoMechanism,
    PrivUnitMechanism,
    ProjectedMechanism,
    SubsetMechanism,
)
from sglora_fed.units import off_unit

VANISHING = 2.0**-11
"""Noise per number that stands for none: the steps of half precision."""

DEGREE = 64
"""Of the polynomial for the density of a noisy direction; it is smooth in the cosine."""


def likelihoods(mechanism: Mechanism, released: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Log-likelihoods of releases under candidates, after checks.

    Args:
        mechanism: that made the releases.
        released: [n, ...] of the mechanism's form.
        candidates: [k, d] unit rows: embeddings that the secret may be.

    Returns:
        [n, k] float64, minus infinity for what cannot be.

    Raises:
        AttackError: for shapes that do not belong together, numbers that are not finite, places
            outside of the catalogue, or a mechanism whose likelihood is not known.
    """
    check_candidates(candidates)
    check_released(mechanism, released)
    if mechanism.epsilon == 0:
        return np.zeros((len(released), len(candidates)))
    return log_likelihoods(mechanism, released, candidates)


def check_candidates(candidates: np.ndarray) -> None:
    """Refuse candidates that no encoder gives.

    Raises:
        AttackError: unless they are at least two finite unit rows.
    """
    if candidates.ndim != 2 or candidates.dtype.kind != "f" or len(candidates) < 2:
        raise AttackError(
            f"candidates {candidates.dtype} of shape {candidates.shape}; need floats (k, d), k >= 2"
        )
    if (norm := off_unit(candidates)) is not None:
        raise AttackError(f"a candidate has norm {norm:g}; need 1")


def check_released(mechanism: Mechanism, released: np.ndarray) -> None:
    """Refuse what a mechanism cannot have released.

    Raises:
        AttackError: for another shape or kind of numbers, NaN or infinity.
    """
    form = mechanism.form
    kind = np.dtype(form.dtype).kind
    if released.shape[1:] != form.shape or released.ndim < 1 or released.dtype.kind != kind:
        raise AttackError(
            f"releases {released.dtype} of shape {released.shape}; {mechanism.name} makes"
            f" {form.dtype} (n, {', '.join(map(str, form.shape))})"
        )
    if kind == "f" and not np.isfinite(released).all():
        raise AttackError("a release holds NaN or infinity")


@singledispatch
def log_likelihoods(
    mechanism: Mechanism, released: np.ndarray, candidates: np.ndarray
) -> np.ndarray:
    """As :func:`likelihoods`, without its checks; ``register`` adds a mechanism of your own.

    Raises:
        AttackError: when the mechanism's likelihood is not known.
    """
    raise AttackError(f"the likelihood of {mechanism.name!r} is not known")


@log_likelihoods.register
def _none(mechanism: NoMechanism, released: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """The limit of noise that vanishes."""
    return (_cosines(released, candidates) - 1) / VANISHING**2


@log_likelihoods.register
def _gaussian(
    mechanism: GaussianMechanism, released: np.ndarray, candidates: np.ndarray
) -> np.ndarray:
    density = _direction(mechanism.dim, mechanism.sigma)
    return np.asarray(density(_cosines(released, candidates).clip(-1, 1)))


@log_likelihoods.register
def _privunit(
    mechanism: PrivUnitMechanism, released: np.ndarray, candidates: np.ndarray
) -> np.ndarray:
    """Two values: in the cap around the candidate, or not."""
    inside = _cosines(released, candidates) >= mechanism.cap.edge
    return np.where(inside, mechanism.epsilon, 0.0)


@log_likelihoods.register(KrrMechanism)
@log_likelihoods.register(SubsetMechanism)
def _places(
    mechanism: KrrMechanism | SubsetMechanism, released: np.ndarray, candidates: np.ndarray
) -> np.ndarray:
    """Two values: the candidate's place was sent, or not."""
    if released.max(initial=0) >= len(mechanism.rows):
        raise AttackError(f"a place of {released.max()}; the catalogue has {len(mechanism.rows)}")
    places = catalogue_places(mechanism, candidates)
    sent = np.zeros((len(released), len(mechanism.rows)), bool)
    np.put_along_axis(sent, released.astype(np.int64), True, axis=1)
    return np.where(sent[:, places], mechanism.epsilon, 0.0)


@log_likelihoods.register
def _projected(
    mechanism: ProjectedMechanism, released: np.ndarray, candidates: np.ndarray
) -> np.ndarray:
    down = np.stack([mechanism.projection.down(row) for row in candidates])
    return log_likelihoods(mechanism.inner, released, down)


def catalogue_places(
    mechanism: KrrMechanism | SubsetMechanism, candidates: np.ndarray
) -> np.ndarray:
    """The place that each candidate is snapped to, [k]."""
    if candidates.shape[1] != mechanism.rows.shape[1]:
        raise AttackError(
            f"candidates {candidates.shape} for a catalogue {mechanism.rows.shape}; need equal d"
        )
    return np.array([nearest(row, mechanism.rows) for row in candidates])


def _cosines(released: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    if released.shape[1] != candidates.shape[1]:
        raise AttackError(
            f"candidates {candidates.shape} for releases {released.shape}; need equal d"
        )
    rows = released.astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(lengths > 0, lengths, 1) @ candidates.T.astype(np.float64))


@lru_cache(maxsize=64)
def _direction(dim: int, sigma: float) -> Chebyshev:
    """Log-density of the direction of x + sigma N(0, I), |x| = 1, as a function of its cosine t.

    With s the length over sigma and a = t / sigma it is the integral of s^(d-1) exp(a s - s^2 / 2)
    over s > 0, up to a constant: a single peak, by Gauss and Legendre's rule around it.
    """

    def log_density(cosines: np.ndarray) -> np.ndarray:
        nodes, weights = np.polynomial.legendre.leggauss(200)
        slope = np.atleast_1d(cosines)[:, None] / sigma
        peak = (slope + np.sqrt(slope**2 + 4 * (dim - 1))) / 2
        reach = 12.0
        low = (peak - reach).clip(min=0)
        half = (np.maximum(peak, 0) + reach - low) / 2
        lengths = low + half * (nodes + 1)
        exponent = (dim - 1) * np.log(lengths) + slope * lengths - lengths**2 / 2
        return np.asarray(logsumexp(exponent + np.log(weights * half), axis=1))

    return Chebyshev.interpolate(log_density, DEGREE, domain=(-1, 1))


def log_posterior(found: np.ndarray, prior: np.ndarray | None) -> np.ndarray:
    """Log-posterior of candidates.

    Args:
        found: [n, k] of :func:`likelihoods`.
        prior: [k], uniform when not given.

    Returns:
        [n, k], each row a distribution.
    """
    weighted = found - math.log(found.shape[1])
    if prior is not None:
        with np.errstate(divide="ignore"):
            weighted = found + np.log(prior)
    return np.asarray(weighted - logsumexp(weighted, axis=1, keepdims=True))
