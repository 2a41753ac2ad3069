"""What a client gains by adopting only when it is sure enough: risk and coverage."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Coverage:
    """The surest k of n clients adopt the generated adapter, the others fall back; k = 1 ... n.

    El-Yaniv & Wiener 2010 call k / n the coverage and the adopters' loss the selective risk.

    Attributes:
        coverage: [n] k / n.
        risk: [n] share of the adopters for whom the fall-back would have been better.
        gain: [n] mean over all n clients of what the adopters gain.
        level: [n] mean of what the adopters reach.
    """

    coverage: np.ndarray
    risk: np.ndarray
    gain: np.ndarray
    level: np.ndarray


def risk_coverage(confidence: np.ndarray, own: np.ndarray, fallback: np.ndarray) -> Coverage:
    """The curve for [n] confidences, and what each client reaches with either adapter."""
    order = np.argsort(-confidence, kind="stable")
    own, gains = own[order], (own - fallback)[order]
    places = np.arange(1, len(gains) + 1)
    risk, gain = np.cumsum(gains < 0) / places, np.cumsum(gains) / len(gains)
    return Coverage(places / len(gains), risk, gain, np.cumsum(own) / places)
