"""The control of a run: whose description has least to do with a client's own."""

from __future__ import annotations

import numpy as np

from sglora_fed.federation.describe import Decoded
from sglora_fed.privacy.snapping import whitening
from sglora_fed.seeds import derive_seed
from sglora_fed.zoo.rows import Rows, chunks

SHUFFLED = "shuffled"
"""The adopted generator's adapter for somebody else's description."""

OTHERS = 32
"""Clients among whom each has its other looked for, so that the work grows with the clients alone.

In a family whose tasks share parts a single one by chance would often wish for much the same."""

RIDGE = 0.3
"""Of the mean variance, added in every direction: few experts' wordings do not fill all of them."""

AT_ONCE = 512
"""Clients who are compared with their others together."""


def least_alike(
    embeddings: np.ndarray | Decoded, wordings: np.ndarray | Rows, seed: int
) -> np.ndarray:
    """For each client the one of some others whose description has least to do with its own.

    Of how much two have to do with one another the cosine tells, in a space of what experts mean:
    how somebody speaks fills most of an embedding. Of several descriptions for each client it is
    the mean over all pairs. All of it is made of what clients have released and experts have told,
    so it costs no privacy; noise makes the choice more random, as it does what the generator reads.

    Args:
        embeddings: [n, m, d] what adapters are made for.
        wordings: [E, W, d] unit embeddings of what experts say.
        seed: of the run.

    Returns:
        [n] rows, nobody's own unless there is nobody else; the first drawn of equals.
    """
    count = len(embeddings)
    if count == 1:
        return np.zeros(1, np.int64)
    candidates, told = others(count, seed), _told(embeddings, wordings)
    chosen = np.empty(count, np.int64)
    for start in range(0, count, AT_ONCE):
        some = slice(start, start + AT_ONCE)
        alike = (told[candidates[some]] @ told[some, :, None])[..., 0]
        best = alike.argmin(axis=1)[:, None]
        chosen[some] = np.take_along_axis(candidates[some], best, axis=1)[:, 0]
    return chosen


def others(count: int, seed: int) -> np.ndarray:
    """For each of some clients different others, as many as ``OTHERS`` where there are.

    Everybody stands in a circle, in an order by the seed, and looks at those that are some drawn
    numbers of places further on: so each is looked at as often as it looks.

    Returns:
        [count, k] rows.
    """
    rng = np.random.default_rng(derive_seed(seed, SHUFFLED))
    order = rng.permutation(count)
    steps = 1 + rng.permutation(count - 1)[:OTHERS]
    found = np.empty((count, len(steps)), np.int64)
    found[order] = order[(np.arange(count)[:, None] + steps) % count]
    return found


def _told(embeddings: np.ndarray | Decoded, wordings: np.ndarray | Rows) -> np.ndarray:
    """[n, d] of each client the mean of its descriptions, unit vectors in the space of meanings."""
    centre, matrix = _meanings(wordings)
    told = np.empty((len(embeddings), len(centre)), np.float32)
    for start in range(0, len(embeddings), AT_ONCE):
        rows = (embeddings[start : start + AT_ONCE] - centre) @ matrix
        lengths = np.maximum(np.linalg.norm(rows, axis=2, keepdims=True), np.finfo(float).tiny)
        told[start : start + AT_ONCE] = (rows / lengths).mean(axis=1)
    return told


def _meanings(wordings: np.ndarray | Rows) -> tuple[np.ndarray, np.ndarray]:
    """The mean [d] of experts' wordings, and a matrix [d, d] into a space of what they mean.

    Wordings of one expert scatter alike in all its directions, and each counts for the share of
    what is meant in the variance along it (probabilistic linear discriminant analysis, Ioffe 2006).
    With one wording each nothing is known of manners: all directions count the same.
    """
    _, each, dim = wordings.shape
    centre, within, between = _spread(wordings)
    if each == 1:
        return centre, np.eye(dim)
    white = whitening(within, RIDGE)
    found, directions = np.linalg.eigh(white.T @ between @ white)
    # The mean of W wordings scatters by 1 / W although nothing else be meant.
    meant = np.maximum(found - 1 / each, 0)
    return centre, white @ (directions * np.sqrt(meant / (meant + 1)))


def _spread(wordings: np.ndarray | Rows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The mean [d] of experts' wordings; the scatters [d, d] within experts, and of their means."""
    experts, each, dim = wordings.shape
    origin = wordings[:1][0].mean(axis=0, dtype=np.float64)
    total, within, squares = np.zeros(dim), np.zeros((dim, dim)), np.zeros((dim, dim))
    for (texts,) in chunks(wordings):
        means = texts.mean(axis=1, dtype=np.float64)
        away, moved = (texts - means[:, None]).reshape(-1, dim), means - origin
        within += away.T @ away
        squares += moved.T @ moved
        total += moved.sum(axis=0)
    mean = total / experts
    return origin + mean, within / (experts * each), squares / experts - np.outer(mean, mean)
