"""Which records made an update of a federated round? From the update and the model it began at."""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls

from sglora_fed.errors import AttackError


def alignment(update: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Cosine between an update and the step that each record alone would make.

    Args:
        update: [D] what the expert sent, less what it began with.
        gradients: [n, D] of the records' losses at the beginning.

    Returns:
        [n] scores, high for records that were trained on.

    Raises:
        AttackError: for arrays that do not belong together, NaN or infinity.
    """
    _check(update, gradients)
    lengths = np.linalg.norm(gradients, axis=1) * np.linalg.norm(update)
    return np.asarray(-(gradients @ update) / np.where(lengths > 0, lengths, 1))


def explained(update: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """The update as a sum of records' steps, each taken a nonnegative number of times.

    Least squares: where records are fewer than parameters, and one step was made, this gives every
    record's weight exactly.

    Args:
        update: [D].
        gradients: [n, D].

    Returns:
        [n] weights, high for records that were trained on.

    Raises:
        AttackError: as :func:`alignment`.
    """
    _check(update, gradients)
    rows = gradients.astype(np.float64)
    # The normal equations by a triangle: D does not matter any more.
    triangle = np.asarray(np.linalg.qr(np.column_stack([-rows.T, update]), mode="r"))
    return np.asarray(nnls(triangle[:, :-1], triangle[:, -1])[0])


def _check(update: np.ndarray, gradients: np.ndarray) -> None:
    if update.ndim != 1 or gradients.ndim != 2 or gradients.shape[1:] != update.shape:
        raise AttackError(f"gradients {gradients.shape} for an update {update.shape}; need (n, D)")
    if not np.isfinite(update).all() or not np.isfinite(gradients).all():
        raise AttackError("an update or a gradient holds NaN or infinity")
