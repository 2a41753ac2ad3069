"""Do two releases come from the same description?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from sglora_fed.errors import AttackError
from sglora_fed.privacy.attacks.likelihood import likelihoods, log_posterior
from sglora_fed.privacy.attacks.scores import Separation, auc_ceiling, separation
from sglora_fed.privacy.mechanisms import Mechanism


@dataclass(frozen=True)
class Linkage:
    """How well pairs of one description are told from pairs of two.

    Attributes:
        found: the attack.
        ceiling: of its AUC: whatever the first release says, the second is of an epsilon private
            mechanism.
    """

    found: Separation
    ceiling: float


def linkage(
    mechanism: Mechanism, first: np.ndarray, second: np.ndarray, candidates: np.ndarray
) -> Linkage:
    """Compare the i-th release of one list with the i-th of another, and with another's.

    The score is the exact likelihood ratio of "one description" to "two, drawn independently":
    log sum_x P(x | first) P(second | x) / P(second), with equally likely candidates.

    Args:
        mechanism: that made the releases.
        first: [n, ...] of its form, each of another client.
        second: [n, ...] further releases of the same clients.
        candidates: [k, d] unit rows.

    Raises:
        AttackError: for lists of different lengths or fewer than two, or as :func:`likelihoods`.
    """
    if len(first) != len(second) or len(first) < 2:
        raise AttackError(f"{len(first)} and {len(second)} releases; need as many, two or more")
    one = log_posterior(likelihoods(mechanism, first, candidates), None)
    two = log_posterior(likelihoods(mechanism, second, candidates), None)
    # Posterior over a uniform prior is likelihood over evidence, but for log k.
    same = logsumexp(one + two, axis=1)
    other = logsumexp(one + np.roll(two, 1, axis=0), axis=1)
    floor = np.log(np.finfo(np.float64).tiny)
    found = separation(np.maximum(same, floor), np.maximum(other, floor))
    return Linkage(found, auc_ceiling(mechanism.epsilon, mechanism.delta or 0.0))
