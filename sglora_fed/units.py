"""Lengths of vectors, and one tolerance and one check for whatever must be of length 1."""

from __future__ import annotations

import math

import numpy as np

UNIT_TOLERANCE = 1e-3
"""How far a norm may be from 1: half-precision numbers miss it by up to 5e-4 (2^-11)."""

BLOCK = 2**15
"""Numbers that are converted at a time: as float64 they stay in a core's cache."""


def lengths(rows: np.ndarray) -> np.ndarray:
    """[...] float64 Euclidean lengths of [..., d] floats, summed in float64 without a copy of all.

    A copy would have four times the bytes of adapters in half precision. Infinity where a square is
    beyond float64.
    """
    flat = rows.reshape(math.prod(rows.shape[:-1]), rows.shape[-1])
    found = np.empty(len(flat))
    step = max(1, BLOCK // max(1, flat.shape[1]))
    with np.errstate(over="ignore"):
        for start in range(0, len(flat), step):
            # Products of one type are several times as fast as those that are converted on the way.
            some = flat[start : start + step].astype(np.float64, copy=False)
            np.vecdot(some, some, out=found[start : start + step])
    return np.sqrt(found).reshape(rows.shape[:-1])


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
