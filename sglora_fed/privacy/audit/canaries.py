"""The audit by one training run: canaries of which a coin decided whether they took part."""

from __future__ import annotations

import numpy as np

from sglora_fed.errors import AuditError
from sglora_fed.privacy.audit.bounds import one_run, one_run_gaussian

SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Of the canaries that are guessed on each side; half of them choose, the other half certify."""

FEWEST = 200
"""Canaries; fewer certify hardly anything."""


def canary_bound(
    scores: np.ndarray, included: np.ndarray, delta: float, confidence: float
) -> float:
    """A lower bound of epsilon from how canaries' scores tell whether they took part.

    The highest scores are guessed to be in and the lowest to be out; who is in between is not
    guessed. How many are guessed is chosen on the first half of the canaries, and the second half
    certifies. The claim is the trade-off curve of a Gaussian mechanism where delta is above 0, as
    that of DP-SGD is nearly; for delta 0 any mechanism of that epsilon.

    Args:
        scores: [m] finite, high for canaries that seem to have taken part; in random order.
        included: [m] bool, each by a fair coin of its own.
        delta: of the claim.
        confidence: with which the bound holds, in (0, 1).

    Raises:
        AuditError: for fewer than 200 canaries, arrays that do not belong together, NaN or
            infinity, or impossible numbers.
    """
    _check(scores, included)
    half = len(scores) // 2
    choosing, certifying = slice(0, half), slice(half, None)
    sides = [max(1, int(share * half)) for share in SHARES]

    def bound(part: slice, side: int) -> float:
        guesses = min(2 * side, len(scores[part]))
        right = _right(scores[part], included[part], guesses // 2)
        certify = one_run_gaussian if delta else one_run
        return certify(right, 2 * (guesses // 2), len(scores[part]), delta, confidence)

    best = max(sides, key=lambda side: bound(choosing, side))
    return bound(certifying, best)


def _right(scores: np.ndarray, included: np.ndarray, side: int) -> int:
    """Right guesses when so many of the highest are guessed in, and of the lowest out."""
    order = np.argsort(scores, kind="stable")
    return int(included[order[-side:]].sum() + (~included[order[:side]]).sum())


def _check(scores: np.ndarray, included: np.ndarray) -> None:
    if scores.ndim != 1 or len(scores) < FEWEST or not np.isfinite(scores).all():
        raise AuditError(f"scores {scores.shape}; need {FEWEST} or more finite numbers")
    if included.shape != scores.shape or included.dtype != bool:
        raise AuditError(f"included {included.dtype} {included.shape}; need bool {scores.shape}")
