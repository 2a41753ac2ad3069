"""Nothing is sent: the generator comes to the client."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sglora_fed.privacy.mechanisms.base import UNIT, Form


@dataclass(frozen=True)
class LocalMechanism:
    """Releases nothing, so epsilon is 0; the generator's bytes travel down instead."""

    epsilon: float = 0.0
    delta: float = 0.0
    name: str = "local"
    unit: str = UNIT
    replies: int = 0

    @property
    def form(self) -> Form:
        """No number."""
        return Form("float16", (0,))

    def release(self, embedding: np.ndarray) -> np.ndarray:
        """Nothing of the embedding, [0]."""
        return np.empty(0, np.float32)
