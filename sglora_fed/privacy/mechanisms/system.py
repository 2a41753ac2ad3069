"""Randomness of the operating system: no seed, no state, nothing that a fork could share."""

from __future__ import annotations

import secrets

import numpy as np


def below(bound: int) -> int:
    """A whole number of [0, bound), each exactly as likely."""
    return secrets.randbelow(bound)


def system_normals(count: int) -> np.ndarray:
    """[count] standard normals, float64.

    One random bit gives the sign and 52 the place in the lower half of (0, 1), at the middle of one
    of 2^52 equal cells, through the inverse of the normal distribution function: every value is
    exact before that function, finite, and as likely as its negative.
    """
    from scipy.special import ndtri  # who only reads a table of mechanisms draws nothing

    bits = np.frombuffer(secrets.token_bytes(8 * count), np.uint64) >> np.uint64(11)
    lower = ((bits >> np.uint64(1)).astype(np.float64) + 0.5) * 2.0**-53
    return np.asarray(np.where(bits & np.uint64(1), 1.0, -1.0) * ndtri(lower), np.float64)


def system_uniform() -> float:
    """One number of (0, 1): the middle of one of 2^52 equal cells."""
    return (secrets.randbits(52) + 0.5) * 2.0**-52
