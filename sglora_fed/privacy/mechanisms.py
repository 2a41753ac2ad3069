"""What happens to a description embedding before it leaves the client.

The unit of privacy is one description, local: a mechanism makes any two descriptions nearly
indistinguishable to whoever sees the request. Two unit vectors differ by up to 2.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from scipy.special import ndtri

from sglora_fed.config.schema import MAX_EPSILON, MECHANISMS, PrivacyConfig
from sglora_fed.errors import PrivacyError
from sglora_fed.units import off_unit

SENSITIVITY = 2.0
"""Largest Euclidean distance between two unit vectors (replace one description by any other)."""

UNIT = "one description, local"
"""What epsilon and delta protect."""

SOLVER_SLACK = 1e-9
"""Relative; the calibration's root may stop on the weak side of the exact sigma."""


class Mechanism(Protocol):
    """Releases one embedding; epsilon and delta are None when nothing is promised."""

    @property
    def name(self) -> str:
        """What configuration and results call it."""
        ...

    @property
    def epsilon(self) -> float | None:
        """Of one release."""
        ...

    @property
    def delta(self) -> float | None:
        """Of one release."""
        ...

    @property
    def unit(self) -> str:
        """What they protect."""
        ...

    def release(self, embedding: np.ndarray) -> np.ndarray:
        """A [d] unit vector from a [d] unit vector."""
        ...


@dataclass(frozen=True)
class NoMechanism:
    """Releases the embedding as it is; promises nothing.

    Args:
        dim: numbers of an embedding, d.
    """

    dim: int
    name: str = "none"
    epsilon: float | None = None
    delta: float | None = None
    unit: str = UNIT

    def release(self, embedding: np.ndarray) -> np.ndarray:
        """The embedding.

        Raises:
            PrivacyError: when it is no unit vector of the right length.
        """
        return _checked(embedding, self.dim).astype(np.float32)


@dataclass(frozen=True)
class GaussianMechanism:
    """The analytic Gaussian mechanism (Balle & Wang 2018, theorem 8).

    Adds N(0, sigma^2 I) with the smallest sigma that gives (epsilon, delta) at sensitivity 2, then
    scales to unit norm, which is free post-processing. The noise comes from the operating system's
    generator. It is double-precision noise, while the theorem is about real numbers: scaling and
    rounding to single precision make the known attacks on the low bits (Mironov 2012) harder, no
    proof excludes them.

    Args:
        dim: numbers of an embedding, d.
        epsilon: in (0, 1000].
        delta: in (0, 1).

    Attributes:
        sigma: standard deviation of the noise on each coordinate of the unit vector.

    Raises:
        PrivacyError: for impossible parameters.
    """

    dim: int
    epsilon: float
    delta: float
    name: str = "gaussian"
    unit: str = UNIT
    sigma: float = field(init=False)

    def __post_init__(self) -> None:
        if not 0 < self.epsilon <= MAX_EPSILON or not 0 < self.delta < 1:
            raise PrivacyError(
                f"epsilon={self.epsilon!r}, delta={self.delta!r}; need 0 < epsilon <="
                f" {MAX_EPSILON:g} and 0 < delta < 1"
            )
        import dp_accounting  # costs seconds of CPU, which a run without noise need not pay

        exact = SENSITIVITY * float(dp_accounting.get_sigma_gaussian(self.epsilon, self.delta))
        object.__setattr__(self, "sigma", exact * (1 + SOLVER_SLACK))

    def release(self, embedding: np.ndarray) -> np.ndarray:
        """The noisy embedding, scaled to unit norm.

        Raises:
            PrivacyError: when it is no unit vector of the right length; checked before any noise.
        """
        noisy = _checked(embedding, self.dim) + self.sigma * system_normals(self.dim)
        return (noisy / np.linalg.norm(noisy)).astype(np.float32)


def system_normals(count: int) -> np.ndarray:
    """[count] standard normals from the operating system's generator, float64.

    One random bit gives the sign and 52 the place in the lower half of (0, 1), at the middle of one
    of 2^52 equal cells, through the inverse of the normal distribution function: every value is
    exact before that function, finite, and as likely as its negative.
    """
    bits = np.frombuffer(secrets.token_bytes(8 * count), np.uint64) >> np.uint64(11)
    lower = ((bits >> np.uint64(1)).astype(np.float64) + 0.5) * 2.0**-53
    return np.asarray(np.where(bits & np.uint64(1), 1.0, -1.0) * ndtri(lower), np.float64)


def _checked(embedding: np.ndarray, dim: int) -> np.ndarray:
    """The embedding in double precision, exactly on the unit sphere; no value is echoed."""
    if embedding.shape != (dim,) or embedding.dtype.kind != "f":
        raise PrivacyError(
            f"the embedding is {embedding.dtype} of shape {embedding.shape}; need floats ({dim},)"
        )
    values = embedding.astype(np.float64)
    if not np.isfinite(values).all():
        raise PrivacyError("the embedding holds NaN or infinity")
    if off_unit(values) is not None:
        raise PrivacyError("the embedding is no unit vector; normalise it first")
    return np.asarray(values / np.linalg.norm(values))


Factory = Callable[[PrivacyConfig, int], Mechanism]


def no_mechanism(config: PrivacyConfig, dim: int) -> Mechanism:
    """What ``privacy.mechanism=none`` means."""
    return NoMechanism(dim)


def gaussian_mechanism(config: PrivacyConfig, dim: int) -> Mechanism:
    """What ``privacy.mechanism=gaussian`` means.

    Raises:
        PrivacyError: for missing or impossible parameters.
    """
    if config.epsilon is None or config.delta is None:
        raise PrivacyError("gaussian needs privacy.epsilon and privacy.delta")
    return GaussianMechanism(dim, config.epsilon, config.delta)


def register_mechanism(name: str, factory: Factory) -> None:
    """Make a mechanism of your own known by name: ``privacy.mechanism=NAME``.

    Args:
        name: in configuration and results.
        factory: the mechanism for a configuration and a number of dimensions.

    Raises:
        PrivacyError: when the name is taken.
    """
    MECHANISMS.add(name, factory)


def make_mechanism(config: PrivacyConfig, dim: int) -> Mechanism:
    """The configured mechanism for embeddings of ``dim`` numbers.

    Raises:
        PrivacyError: for an unknown name or impossible parameters.
    """
    made: Mechanism = MECHANISMS.get(config.mechanism)(config, dim)
    return made
