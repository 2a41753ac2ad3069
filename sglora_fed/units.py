"""Lengths of vectors, and one tolerance and one check for whatever must be of length 1."""

from __future__ import annotations

import numpy as np

UNIT_TOLERANCE = 1e-3
"""How far a norm may be from 1: half-precision numbers miss it by up to 5e-4 (2^-11)."""


def lengths(rows: np.ndarray) -> np.ndarray:
    """[...] float64 Euclidean lengths of [..., d] floats, summed in float64 without a copy of them.

    A copy would have four times the bytes of adapters in half precision. Infinity where a square is
    beyond float64.
    """
    with np.errstate(over="ignore"):
        found: np.ndarray = np.sqrt(np.einsum("...d,...d->...", rows, rows, dtype=np.float64))
    return found


def off_unit(rows: np.ndarray) -> float | None:
    """The norm that is farthest from 1 when some row is no unit vector.

    Args:
        rows: [..., d] floats.

    Returns:
        The norm, NaN or infinity where a row holds such numbers; None when all rows are unit
        vectors up to ``UNIT_TOLERANCE``, or there are none.
    """
    norms = lengths(rows).ravel()
    # A comparison that NaN fails; numpy's argmax takes NaN for the largest.
    distances = np.abs(norms - 1)
    return None if (distances <= UNIT_TOLERANCE).all() else float(norms[distances.argmax()])
