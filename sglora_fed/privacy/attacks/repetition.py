"""Many releases of one description: fresh noise averages away, what is remembered does not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sglora_fed.errors import AttackError
from sglora_fed.privacy.attacks.ceilings import ceiling
from sglora_fed.privacy.attacks.likelihood import likelihoods
from sglora_fed.privacy.attacks.reidentification import guess_credits
from sglora_fed.privacy.mechanisms import Mechanism


@dataclass(frozen=True)
class Repetition:
    """What an observer knows after several releases of each description.

    Attributes:
        releases: T, of each description.
        top1: share of descriptions that are guessed by all T releases together.
        ceiling: the most for a mechanism of T epsilon; for releases that are remembered, that of
            one holds.
        cosine: of the mean release with the description; None for places in a catalogue.
    """

    releases: int
    top1: float
    ceiling: float
    cosine: float | None


def repetition(
    mechanism: Mechanism,
    released: np.ndarray,
    candidates: np.ndarray,
    truths: np.ndarray,
    times: tuple[int, ...],
) -> list[Repetition]:
    """Guess descriptions from the first T of their releases, for each T.

    Args:
        mechanism: that made the releases.
        released: [n, T, ...] of its form: T releases of each of n descriptions.
        candidates: [k, d] unit rows.
        truths: [n] whole numbers below k.
        times: numbers of releases to use, each from 1 to T.

    Raises:
        AttackError: for arrays that do not belong together, or as :func:`likelihoods`.
    """
    if released.ndim < 2 or truths.shape != released.shape[:1] or not len(truths):
        raise AttackError(f"truths {truths.shape} for releases {released.shape}; need (n,), (n, T)")
    if not times or min(times) < 1 or max(times) > released.shape[1]:
        raise AttackError(f"times={times!r}; need numbers from 1 to {released.shape[1]}")
    if truths.dtype.kind not in "iu" or truths.min() < 0 or truths.max() >= len(candidates):
        raise AttackError(f"truths {truths.dtype}; need whole numbers from 0 to k - 1")
    scores = np.stack([likelihoods(mechanism, row, candidates) for row in released])
    together = np.cumsum(scores, axis=1)
    places = mechanism.form.dtype == "uint16"
    return [
        Repetition(
            count,
            float(guess_credits(together[:, count - 1], truths)[0] / len(truths)),
            _ceiling(mechanism, count, len(candidates)),
            None if places else _cosine(mechanism, released[:, :count], candidates[truths]),
        )
        for count in times
    ]


def _ceiling(mechanism: Mechanism, count: int, candidates: int) -> float:
    total = None if mechanism.epsilon is None else count * mechanism.epsilon
    delta = min(count * (mechanism.delta or 0.0), 0.999)
    return ceiling(total, candidates, delta=delta)


def _cosine(mechanism: Mechanism, released: np.ndarray, truths: np.ndarray) -> float | None:
    """None where a release has fewer numbers than a description: it is in a subspace."""
    mean = released.astype(np.float64).mean(axis=1)
    if mean.shape != truths.shape:
        return None
    lengths = np.linalg.norm(mean, axis=1) * np.linalg.norm(truths, axis=1)
    return float(((mean * truths).sum(axis=1) / lengths).mean())
