"""A random direction that lies near the embedding a little more often than elsewhere."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sglora_fed.config.schema import PrivacyConfig
from sglora_fed.config.schema.privacy import MAX_PRIVUNIT_EPSILON
from sglora_fed.errors import PrivacyError
from sglora_fed.privacy.mechanisms.base import UNIT, Form, check_epsilon, checked, embedding_form
from sglora_fed.privacy.mechanisms.system import below, system_normals, system_uniform

NARROWEST = 1 - 1e-6
"""Cosine at the edge of the narrowest cap: beyond it double precision hardly tells directions."""

RAREST = 2.0**-90
"""Least probability of the complement: well above the steps of its draw, of 2^-128."""

STEPS = 2048
"""Cap sizes that the calibration compares; the bias factor is flat at its maximum."""


@dataclass(frozen=True)
class Cap:
    """The directions W = <x, V> >= edge around the embedding x, and how often the release is there.

    Attributes:
        edge: least cosine in the cap, gamma.
        size: the cap's share of the sphere, q.
        missed: probability that the release lies outside, 1 - p.
        bias: expected cosine of the release with the embedding, m.
    """

    edge: float
    size: float
    missed: float
    bias: float


def best_cap(dim: int, epsilon: float) -> Cap:
    """The cap with the largest expected cosine for which the release is exactly epsilon private.

    The density inside is p/q and outside (1 - p)/(1 - q); p = e^eps q / (e^eps q + 1 - q) makes
    their ratio e^eps (Bhowmick et al. 2018; that the whole of epsilon goes into it: Asi, Feldman &
    Talwar 2022). (1 + W)/2 of a uniform direction has the distribution Beta((d-1)/2, (d-1)/2).

    Args:
        dim: d, at least 2.
        epsilon: of one release.
    """
    from scipy.special import betainccinv, betaln, expit  # not for who only reads its table

    half = (dim - 1) / 2
    logs = np.linspace(-epsilon - 6, math.log(0.5), STEPS)
    sizes = np.exp(logs)
    edges = 2 * betainccinv(half, half, sizes) - 1
    odds = epsilon + logs - np.log1p(-sizes)
    missed = expit(-odds)
    # The mean of W over the cap times its share of the sphere: f(g)(1 - g^2)/(d - 1).
    log_density = (half - 1) * np.log1p(-(edges.clip(max=NARROWEST) ** 2)) - betaln(0.5, half)
    moment = np.exp(log_density) * (1 - edges**2) / (dim - 1)
    bias = moment * (expit(odds) / sizes - missed / (1 - sizes))
    usable = (edges <= NARROWEST) & (missed >= RAREST)
    best = int(np.where(usable, bias, -np.inf).argmax())
    return Cap(float(edges[best]), float(sizes[best]), float(missed[best]), float(bias[best]))


@dataclass(frozen=True)
class PrivUnitMechanism:
    """PrivUnit in its exact form: pure epsilon, delta 0.

    With probability p a uniform direction of the cap around the embedding, else one of its
    complement. The probabilities are computed and the directions drawn in double precision; whether
    cap or complement is decided by an integer draw whose rounding is on the safe side.

    Args:
        dim: numbers of an embedding, d; a release needs at least 2.
        epsilon: in (0, 64].

    Raises:
        PrivacyError: for an impossible epsilon.
    """

    dim: int
    epsilon: float
    delta: float = 0.0
    name: str = "privunit"
    unit: str = UNIT
    replies: int = 1

    def __post_init__(self) -> None:
        check_epsilon(self.epsilon, MAX_PRIVUNIT_EPSILON)

    @cached_property
    def cap(self) -> Cap:
        """Where releases gather; a mechanism that is only asked for its promise never computes it.

        Raises:
            PrivacyError: for embeddings of a single number, of which no cap is a part.
        """
        if self.dim < 2:
            raise PrivacyError(f"privunit on {self.dim} number(s); need at least 2")
        return best_cap(self.dim, self.epsilon)

    @property
    def form(self) -> Form:
        """All d numbers."""
        return embedding_form(self.dim)

    def release(self, embedding: np.ndarray) -> np.ndarray:
        """A direction, [d] float32.

        Raises:
            PrivacyError: when the embedding is no unit vector of the right length, or of one
                number; checked before anything is drawn.
        """
        centre, cap = checked(embedding, self.dim), self.cap
        cosine = _cosine(cap, (self.dim - 1) / 2)
        aside = system_normals(self.dim)
        aside -= (aside @ centre) * centre
        aside /= np.linalg.norm(aside)
        return (cosine * centre + math.sqrt(1 - cosine**2) * aside).astype(np.float32)


def _cosine(cap: Cap, half: float) -> float:
    """W of a release: in the cap or below it, by the inverse distribution function there."""
    from scipy.special import betainccinv, betaincinv

    outside = below(1 << 128) < math.ceil(math.ldexp(cap.missed, 128))
    place = system_uniform()
    found = (
        betaincinv(half, half, (1 - cap.size) * place)
        if outside
        else betainccinv(half, half, cap.size * place)
    )
    return float(2 * found - 1)


def privunit_mechanism(config: PrivacyConfig, dim: int) -> PrivUnitMechanism:
    """What ``privacy.mechanism=privunit`` means.

    Raises:
        PrivacyError: for a missing or impossible epsilon.
    """
    if config.epsilon is None:
        raise PrivacyError("privunit needs privacy.epsilon")
    return PrivUnitMechanism(dim, config.epsilon)
