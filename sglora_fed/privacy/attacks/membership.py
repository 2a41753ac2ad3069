"""Was this record among an expert's? From what a model makes of it, beside models of one's own.

Shadows are models that the attacker trains on data of the same kind, each with a random half of the
records. How sure a model is of a record is the logit of the probability of its right answer.
"""

from __future__ import annotations

import numpy as np

from sglora_fed.errors import AttackError

SHARE = 0.3
"""How much the probability under models that saw a record is taken to exceed that under others."""


def logits(log_probabilities: np.ndarray) -> np.ndarray:
    """log(p / (1 - p)) from log p, finite: what LiRA compares (Carlini et al. 2022, section IV).

    Args:
        log_probabilities: [...] at most 0.
    """
    clipped = np.clip(log_probabilities.astype(np.float64), -50.0, -1e-12)
    return np.asarray(clipped - np.log(-np.expm1(clipped)))


def lira(target: np.ndarray, shadows: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Likelihood ratio of "in" to "out" for each record (Carlini et al. 2022, algorithm 1).

    Two normals per record, with means of its own and the spread of all records, as the paper
    advises for few shadows.

    Args:
        target: [n] logits under the attacked model.
        shadows: [s, n] logits under the shadows.
        members: [s, n] bool: which shadow saw which record; each record is in and out at least
            once, and some twice.

    Returns:
        [n] log-likelihood ratios, high for members.

    Raises:
        AttackError: for arrays that do not belong together, NaN or infinity, or records that are
            always in or always out.
    """
    _check(target, shadows, members)
    if not (members.any(axis=0) & ~members.all(axis=0)).all():
        raise AttackError("a record is in all shadows or in none; LiRA needs both")
    inside, outside = (_moments(shadows, which) for which in (members, ~members))
    score = np.square(target - outside[0]) / outside[1] - np.square(target - inside[0]) / inside[1]
    return np.asarray(score / 2 + np.log(outside[1] / inside[1]) / 2)


def rmia(
    target: np.ndarray,
    shadows: np.ndarray,
    members: np.ndarray,
    others_target: np.ndarray,
    others_shadows: np.ndarray,
) -> np.ndarray:
    """Share of other records that a record beats in relative likelihood (Zarifzadeh et al. 2024).

    The ratio of a record is p(x | target) / p(x), where p(x) is ((1 + a) q + 1 - a) / 2 for the
    mean probability q under shadows that have not seen it (their offline attack).

    Args:
        target: [n] log-probabilities under the attacked model.
        shadows: [s, n] under the shadows.
        members: [s, n] bool: which shadow saw which record; each record is out at least once.
        others_target: [z] log-probabilities of records that no model saw.
        others_shadows: [s, z] of these under the shadows.

    Returns:
        [n] shares, high for members.

    Raises:
        AttackError: for arrays that do not belong together, NaN or infinity, or a record that is
            in all shadows.
    """
    _check(target, shadows, members)
    _check(others_target, others_shadows, np.zeros(others_shadows.shape, bool))
    if members.all(axis=0).any():
        raise AttackError("a record is in all shadows; RMIA needs some that have not seen it")
    seen = np.exp(np.where(members, -np.inf, shadows)).sum(axis=0) / (~members).sum(axis=0)
    own = target - np.log(((1 + SHARE) * seen + 1 - SHARE) / 2)
    mean = np.exp(others_shadows).mean(axis=0)
    other = np.sort(others_target - np.log(((1 + SHARE) * mean + 1 - SHARE) / 2))
    return np.asarray(np.searchsorted(other, own) / len(other))


def calibrated(target: np.ndarray, shadows: np.ndarray, members: np.ndarray) -> np.ndarray:
    """How much surer the attacked model is than shadows that have not seen the record.

    Args:
        target: [n] log-probabilities or logits under the attacked model.
        shadows: [s, n] under the shadows.
        members: [s, n] bool; each record is out at least once.

    Returns:
        [n] differences, high for members.

    Raises:
        AttackError: as :func:`rmia`.
    """
    _check(target, shadows, members)
    if members.all(axis=0).any():
        raise AttackError("a record is in all shadows; there is nothing to compare with")
    return np.asarray(target - np.where(members, 0, shadows).sum(axis=0) / (~members).sum(axis=0))


def _moments(shadows: np.ndarray, which: np.ndarray) -> tuple[np.ndarray, float]:
    """Each record's mean over its shadows, [n], and the spread of all around these."""
    count = which.sum(axis=0)
    mean = np.where(which, shadows, 0).sum(axis=0) / count
    freedom = max(int(which.sum()) - len(mean), 1)
    spread = float(np.square(np.where(which, shadows - mean, 0)).sum() / freedom)
    return mean, max(spread, 1e-12)


def _check(target: np.ndarray, shadows: np.ndarray, members: np.ndarray) -> None:
    if target.ndim != 1 or shadows.shape[1:] != target.shape or shadows.ndim != 2:
        raise AttackError(f"shadows {shadows.shape} for records {target.shape}; need (s, n), (n,)")
    if members.shape != shadows.shape or members.dtype != bool or not shadows.size:
        raise AttackError(f"members {members.dtype} {members.shape}; need bool {shadows.shape}")
    if not np.isfinite(target).all() or not np.isfinite(shadows).all():
        raise AttackError("a record's value is NaN or infinity")
