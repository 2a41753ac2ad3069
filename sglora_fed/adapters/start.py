"""Where all LoRAs of a run start, and how far from there one may be."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from sglora_fed.adapters.layout import Layout, initial_vector
from sglora_fed.seeds import derive_seed

NORM_BOUND = 10.0
"""An adapter may have this many times the norm of an untrained one, not more."""


def federation_start(layout: Layout, seed: int) -> np.ndarray:
    """[1, D] the LoRA that every expert of a run starts from."""
    return initial_vector(layout, derive_seed(seed, "adapter_start")).numpy()[None]


@lru_cache(maxsize=4)
def norm_bound(layout: Layout) -> float:
    """The largest norm of an adapter that a client or the server takes."""
    return NORM_BOUND * float(np.linalg.norm(federation_start(layout, 0)))
