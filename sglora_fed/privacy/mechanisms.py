"""What happens to a description embedding before it leaves the client.

The unit of privacy is one description, local: a mechanism makes any two descriptions nearly
indistinguishable to whoever sees the request. Two unit vectors differ by up to 2.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import dp_accounting
import numpy as np
from scipy.special import ndtri

from sglora_fed.config.schema import PrivacyConfig
from sglora_fed.errors import PrivacyError

SENSITIVITY = 2.0
"""Largest Euclidean distance between two unit vectors (replace one description by any other)."""

UNIT_TOLERANCE = 1e-3


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
    generator. It is continuous noise in double precision: the attacks on floating-point noise
    (Mironov 2012) are made harder by the rounding to single precision, not excluded by proof.

    Args:
        dim: numbers of an embedding, d.
        epsilon: > 0.
        delta: in (0, 1).

    Raises:
        PrivacyError: for impossible parameters.
    """

    dim: int
    epsilon: float
    delta: float
    name: str = "gaussian"

    def __post_init__(self) -> None:
        if not self.epsilon > 0 or not 0 < self.delta < 1:
            raise PrivacyError(
                f"epsilon={self.epsilon!r}, delta={self.delta!r}; need epsilon > 0, 0 < delta < 1"
            )

    @property
    def sigma(self) -> float:
        """Standard deviation of the noise on each coordinate."""
        return SENSITIVITY * float(dp_accounting.get_sigma_gaussian(self.epsilon, self.delta))

    def release(self, embedding: np.ndarray) -> np.ndarray:
        """The noisy embedding, scaled to unit norm.

        Raises:
            PrivacyError: when it is no unit vector of the right length; checked before any noise.
        """
        noisy = _checked(embedding, self.dim) + self.sigma * system_normals(self.dim)
        return (noisy / np.linalg.norm(noisy)).astype(np.float32)


def system_normals(count: int) -> np.ndarray:
    """[count] standard normals from the operating system's generator, float64.

    53 random bits each, placed at the middle of their cell of (0, 1), through the inverse of the
    normal distribution function.
    """
    bits = np.frombuffer(secrets.token_bytes(8 * count), np.uint64) >> np.uint64(11)
    return np.asarray(ndtri((bits.astype(np.float64) + 0.5) * 2.0**-53), np.float64)


def _checked(embedding: np.ndarray, dim: int) -> np.ndarray:
    """The embedding in double precision, exactly on the unit sphere; no value is echoed."""
    if embedding.shape != (dim,):
        raise PrivacyError(f"the embedding has shape {embedding.shape}; need ({dim},)")
    values = embedding.astype(np.float64)
    if not np.isfinite(values).all():
        raise PrivacyError("the embedding holds NaN or infinity")
    norm = float(np.linalg.norm(values))
    if abs(norm - 1) > UNIT_TOLERANCE:
        raise PrivacyError("the embedding is no unit vector; normalise it first")
    return np.asarray(values / norm)


Factory = Callable[[PrivacyConfig, int], Mechanism]


def _gaussian(config: PrivacyConfig, dim: int) -> Mechanism:
    if config.epsilon is None or config.delta is None:
        raise PrivacyError("gaussian needs privacy.epsilon and privacy.delta")
    return GaussianMechanism(dim, config.epsilon, config.delta)


_FACTORIES: dict[str, Factory] = {
    "none": lambda config, dim: NoMechanism(dim),
    "gaussian": _gaussian,
}


def register_mechanism(name: str, factory: Factory) -> None:
    """Make a mechanism of your own known by name.

    Raises:
        PrivacyError: when the name is taken.
    """
    if name in _FACTORIES:
        raise PrivacyError(f"the name {name!r} is taken; there are {sorted(_FACTORIES)}")
    _FACTORIES[name] = factory


def make_mechanism(config: PrivacyConfig, dim: int) -> Mechanism:
    """The configured mechanism for embeddings of ``dim`` numbers.

    Raises:
        PrivacyError: for an unknown name or impossible parameters.
    """
    if config.mechanism not in _FACTORIES:
        raise PrivacyError(
            f"unknown mechanism {config.mechanism!r}; there are {sorted(_FACTORIES)}"
        )
    return _FACTORIES[config.mechanism](config, dim)
