"""Unit vectors: one tolerance and one check for whatever must be of length 1."""

from __future__ import annotations

import numpy as np

UNIT_TOLERANCE = 1e-3
"""How far a norm may be from 1: half-precision numbers miss it by up to 5e-4 (2^-11)."""


def off_unit(rows: np.ndarray) -> float | None:
    """The norm that is farthest from 1 when some row is no unit vector.

    Args:
        rows: [..., d] floats.

    Returns:
        The norm, NaN or infinity where a row holds such numbers; None when all rows are unit
        vectors up to ``UNIT_TOLERANCE``, or there are none.
    """
    with np.errstate(over="ignore"):
        norms = np.linalg.norm(rows.astype(np.float64), axis=-1).ravel()
    # A comparison that NaN fails; numpy's argmax takes NaN for the largest.
    distances = np.abs(norms - 1)
    return None if (distances <= UNIT_TOLERANCE).all() else float(norms[distances.argmax()])
