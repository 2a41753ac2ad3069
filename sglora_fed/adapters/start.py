"""Where all LoRAs of a run start, and how far from there one may be."""

from __future__ import annotations

import math

import numpy as np

from sglora_fed.adapters.layout import Layout, initial_vector
from sglora_fed.seeds import derive_seed

NORM_BOUND = 10.0
"""An adapter may have this many times the norm of an untrained one, not more."""

ROUNDING = 1e-3
"""Half precision misses a number by 5e-4 of it (2^-11), at most."""


def federation_start(layout: Layout, seed: int) -> np.ndarray:
    """[1, D] the LoRA that every expert of a run starts from."""
    return initial_vector(layout, derive_seed(seed, "adapter_start")).numpy()[None]


def within_bound(vectors: np.ndarray, layout: Layout) -> np.ndarray:
    """Adapters [..., D] as clients take them, also in half precision: who is beyond is scaled.

    A client refuses a whole message for one adapter beyond the bound, and what a generator makes
    of one liar's numbers may be beyond it.
    """
    most = norm_bound(layout) * (1 - ROUNDING)
    norms = np.linalg.norm(vectors.astype(np.float64), axis=-1, keepdims=True)
    if (norms <= most).all():
        return vectors
    made: np.ndarray = vectors * np.minimum(1.0, most / np.maximum(norms, most)).astype(np.float32)
    return made


def norm_bound(layout: Layout) -> float:
    """The largest norm of an adapter that a client or the server takes.

    An untrained one has rank / 3 as the expected square of each module's norm: rank x d_in numbers,
    uniform in +-1/sqrt(d_in).
    """
    return NORM_BOUND * math.sqrt(len(layout.modules) * layout.rank / 3)
