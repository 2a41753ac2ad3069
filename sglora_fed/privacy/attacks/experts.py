"""Was this expert in the zoo? From how near a generated adapter comes to the expert's own."""

from __future__ import annotations

import numpy as np

from sglora_fed.errors import AttackError
from sglora_fed.privacy.attacks.scores import Separation, separation


def expert_in_zoo(generated: np.ndarray, own: np.ndarray, members: np.ndarray) -> Separation:
    """Compare experts whose adapter the generator has seen with others.

    The score is the cosine between what the generator makes of an expert's description and the
    expert's own adapter, each less the mean of its kind.

    Args:
        generated: [n, D] for the descriptions of n experts.
        own: [n, D] their adapters.
        members: [n] bool: who was in the zoo.

    Raises:
        AttackError: for arrays that do not belong together, NaN or infinity, or all on one side.
    """
    if generated.ndim != 2 or generated.shape != own.shape or members.shape != own.shape[:1]:
        raise AttackError(
            f"generated {generated.shape}, own {own.shape}, members {members.shape};"
            " need (n, D), (n, D), (n,)"
        )
    if not np.isfinite(generated).all() or not np.isfinite(own).all() or members.dtype != bool:
        raise AttackError(f"members {members.dtype}, or NaN in an adapter; need bool and finite")
    one, two = (rows.astype(np.float64) - rows.mean(axis=0) for rows in (generated, own))
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1)
    scores = (one * two).sum(axis=1) / np.where(lengths > 0, lengths, 1)
    return separation(scores[members], scores[~members])
