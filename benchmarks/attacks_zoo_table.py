"""Lines of the table of ``attacks_zoo.py``: what an attack finds, and how sure that is."""

from __future__ import annotations

from typing import Any

import numpy as np

from sglora_fed.privacy.attacks import Separation, separation


def line(attack: str, found: np.ndarray, inside: np.ndarray) -> dict[str, Any]:
    """A line of the table.

    Args:
        attack: its name.
        found: [E, k] scores of each expert's records.
        inside: [E, k] which were seen.
    """
    whole = separation(found[inside], found[~inside])
    return told(attack, whole, between_experts(found, inside))


def between_experts(found: np.ndarray, inside: np.ndarray) -> float:
    """Standard error of the AUC, by leaving out one expert after the other (jackknife).

    Records of one expert share a model, so they are no independent ones.
    """
    count = len(found)
    rest = [np.delete(np.arange(count), expert) for expert in range(count)]
    aucs = [separation(found[some][inside[some]], found[some][~inside[some]]).auc for some in rest]
    return float(np.sqrt((count - 1) * np.var(aucs)))


def told(attack: str, found: Separation, error: float) -> dict[str, Any]:
    """A line of the table as plain values."""
    return {
        "attack": attack,
        "auc": round(found.auc, 4),
        "standard_error": round(error, 4),
        **{f"tpr at {rate:g}": round(tpr, 4) for rate, tpr in found.tpr_at.items()},
        "members": found.positives,
        "others": found.negatives,
    }
