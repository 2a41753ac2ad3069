"""Is noise as wide as it is said to be? A direct test: sharper than what an attack can prove."""

from __future__ import annotations

import numpy as np
from scipy.special import chdtr, chdtrc

from sglora_fed.errors import AuditError

FEWEST = 100
"""Numbers; the spread of fewer says little."""


def scale_pvalue(noise: np.ndarray, sigma: float) -> float:
    """Two-sided p-value of "independent normals of mean 0 and this standard deviation".

    The sum of squares over sigma^2 has the chi-square distribution. With 100,000 numbers a
    deviation of 1 % gives less than 1e-5.

    Args:
        noise: what was added, at least 100 finite numbers of any shape.
        sigma: that is claimed, above 0.

    Raises:
        AuditError: for too few numbers, NaN or infinity, or an impossible sigma.
    """
    if noise.dtype.kind != "f" or noise.size < FEWEST or not np.isfinite(noise).all():
        raise AuditError(
            f"noise {noise.dtype} of shape {noise.shape}; need {FEWEST} finite floats or more"
        )
    if not 0 < sigma < np.inf:
        raise AuditError(f"sigma={sigma!r}; need a finite number above 0")
    squares = float(np.square(noise.astype(np.float64) / sigma).sum())
    return float(min(1.0, 2 * min(chdtr(noise.size, squares), chdtrc(noise.size, squares))))


def cosine_pvalue(cosines: np.ndarray, dim: int, sigma: float) -> float:
    """P-value of cosines between x and the direction of x + sigma N(0, I), |x| = 1.

    sqrt(d - 1) t / sqrt(1 - t^2) of such a cosine t has the noncentral t distribution with d - 1
    degrees of freedom and noncentrality 1 / sigma; the test is Kolmogorov's.

    Args:
        cosines: at least 100 finite numbers, of independent releases.
        dim: d, at least 2.
        sigma: that is claimed, above 0.

    Raises:
        AuditError: for too few numbers, NaN or infinity, or an impossible sigma or dimension.
    """
    if cosines.size < FEWEST or not (np.abs(cosines) < 1).all():
        raise AuditError(f"{cosines.size} cosines; need {FEWEST} or more, each below 1 in size")
    if not 0 < sigma < np.inf or dim < 2:
        raise AuditError(f"sigma={sigma!r}, dim={dim!r}; need a finite number above 0, and 2 or up")
    from scipy.stats import kstest, nct

    ratios = np.sqrt(dim - 1) * cosines / np.sqrt(1 - cosines**2)
    return float(kstest(ratios, nct(dim - 1, 1 / sigma).cdf).pvalue)
