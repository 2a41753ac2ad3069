"""Gaussian noise on every number of the embedding."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from sglora_fed.config.schema import PrivacyConfig
from sglora_fed.config.schema.privacy import MIN_DELTA
from sglora_fed.errors import PrivacyError
from sglora_fed.privacy.mechanisms.base import (
    UNIT,
    Form,
    check_epsilon,
    checked,
    embedding_form,
    is_number,
)
from sglora_fed.privacy.mechanisms.system import system_normals

SENSITIVITY = 2.0
"""Largest Euclidean distance between two unit vectors (replace one description by any other)."""

SOLVER_SLACK = 1e-9
"""Relative; the calibration's root may stop on the weak side of the exact sigma."""


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
        delta: in [1e-12, 1).

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
    replies: int = 1
    sigma: float = field(init=False)

    def __post_init__(self) -> None:
        check_epsilon(self.epsilon)
        if not is_number(self.delta) or not MIN_DELTA <= self.delta < 1:
            raise PrivacyError(f"delta={self.delta!r}; need {MIN_DELTA:g} <= delta < 1")
        import dp_accounting  # costs seconds of CPU, which a run without noise need not pay

        exact = SENSITIVITY * float(dp_accounting.get_sigma_gaussian(self.epsilon, self.delta))
        object.__setattr__(self, "sigma", exact * (1 + SOLVER_SLACK))

    @property
    def form(self) -> Form:
        """All d numbers."""
        return embedding_form(self.dim)

    def release(self, embedding: np.ndarray) -> np.ndarray:
        """The noisy embedding, scaled to unit norm, [d] float32.

        Raises:
            PrivacyError: when it is no unit vector of the right length; checked before any noise.
        """
        noisy = checked(embedding, self.dim) + self.sigma * system_normals(self.dim)
        return (noisy / np.linalg.norm(noisy)).astype(np.float32)


def gaussian_mechanism(config: PrivacyConfig, dim: int) -> GaussianMechanism:
    """What ``privacy.mechanism=gaussian`` means.

    Raises:
        PrivacyError: for missing or impossible parameters.
    """
    if config.epsilon is None or config.delta is None:
        raise PrivacyError("gaussian needs privacy.epsilon and privacy.delta")
    return GaussianMechanism(dim, config.epsilon, config.delta)
