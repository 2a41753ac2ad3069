"""No protection: the embedding leaves the client as it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sglora_fed.config.schema import PrivacyConfig
from sglora_fed.privacy.mechanisms.base import UNIT, Form, checked, embedding_form


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
    replies: int = 1

    @property
    def form(self) -> Form:
        """All d numbers."""
        return embedding_form(self.dim)

    def release(self, embedding: np.ndarray) -> np.ndarray:
        """The embedding, [d] float32.

        Raises:
            PrivacyError: when it is no unit vector of the right length.
        """
        return checked(embedding, self.dim).astype(np.float32)


def no_mechanism(config: PrivacyConfig, dim: int) -> NoMechanism:
    """What ``privacy.mechanism=none`` means."""
    return NoMechanism(dim)
