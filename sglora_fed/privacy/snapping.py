"""Which entry of a catalogue a description is nearest to, in what tells the entries apart.

Sentences about different things can be nearer to one another than two wordings of one: how somebody
says it fills most of an embedding. Where the catalogue's entries come in several wordings, the
directions in which these scatter are known, and count for less: linear discriminant analysis with
one scatter for all entries (Fisher 1936; Rao 1948). All of it is made of the public list alone, so
it costs no epsilon, and both sides could make it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sglora_fed.errors import CatalogueError
from sglora_fed.privacy.catalogue import check_rows
from sglora_fed.privacy.mechanisms.base import NOTHING_LEFT, checked, direction_of

RIDGE = 0.2
"""Of the mean variance, added in every direction: there are fewer wordings than directions.

The more, the better strangers are understood and the worse the catalogue's own author
(docs/decisions/0017-readings.md)."""

SAME = 0.9
"""Cosine from which a mean of wordings means an entry."""


@dataclass(frozen=True, eq=False)
class Snap:
    """The entries of a catalogue as embeddings, and the space in which the nearest is looked for.

    Attributes:
        embeddings: [k, d] the unit mean of each entry's wordings: what a place stands for.
        mean: [d] of all wordings.
        matrix: [d, d] that makes the scatter within entries alike in all directions.
        rows: [k, d] unit rows, the entries in that space.

    Raises:
        CatalogueError: for embeddings that are no finite unit rows.
    """

    embeddings: np.ndarray
    mean: np.ndarray
    matrix: np.ndarray
    rows: np.ndarray

    def __post_init__(self) -> None:
        check_rows(self.embeddings)
        check_rows(self.rows)

    def down(self, embedding: np.ndarray) -> np.ndarray:
        """An embedding [d] in the space of ``rows``, a [d] unit vector.

        Raises:
            PrivacyError: when it is no unit vector of the right length.
        """
        return direction_of((checked(embedding, len(self.mean)) - self.mean) @ self.matrix)

    def nearest(self, embedding: np.ndarray, count: int) -> np.ndarray:
        """[count] places of the entries that are nearest to an embedding [d], nearest first.

        Raises:
            PrivacyError: when it is no unit vector of the right length.
            CatalogueError: when there are not so many entries.
        """
        if count > len(self.rows):
            raise CatalogueError(f"the catalogue has {len(self.rows)} entries; {count} are wanted")
        order = np.argsort(-(self.rows @ self.down(embedding)), kind="stable")
        return np.asarray(order[:count])

    def lists(self, descriptions: np.ndarray) -> bool:
        """Whether all descriptions, unit means [n, d] of several wordings, are among the entries.

        Those of another family have a cosine of .73 at most with any entry of the cameras' list,
        the cameras' own .98.
        """
        return bool((descriptions @ self.embeddings.T).max(axis=1).min() >= SAME)


def snap_to(wordings: Sequence[np.ndarray]) -> Snap:
    """The space of a catalogue.

    Args:
        wordings: for each of k entries [W, d] unit embeddings, W at least 1.

    Raises:
        CatalogueError: when the wordings of an entry cancel out, or are no unit rows.
    """
    means = np.stack([rows.mean(axis=0, dtype=np.float64) for rows in wordings])
    every = np.concatenate(wordings).astype(np.float64)
    centre = every.mean(axis=0)
    deviations = every - np.repeat(means, [len(rows) for rows in wordings], axis=0)
    matrix = whitening(deviations.T @ deviations / len(deviations), RIDGE)
    return Snap(unit(means), centre, matrix, unit((means - centre) @ matrix))


def whitening(scatter: np.ndarray, ridge: float) -> np.ndarray:
    """The inverse root of a scatter; the identity where nothing scatters.

    Args:
        scatter: [d, d] mean of x x^T, of rows x about their means.
        ridge: part of the mean variance that is added in every direction.

    Returns:
        [d, d] matrix A: of rows x A the scatter is alike in all directions, but for the ridge.
    """
    dim = len(scatter)
    spread = float(np.trace(scatter)) / dim
    if spread < NOTHING_LEFT**2:
        return np.eye(dim)
    values, vectors = np.linalg.eigh(scatter + ridge * spread * np.eye(dim))
    return np.asarray(vectors / np.sqrt(values))


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1.

    Raises:
        CatalogueError: when one has no direction.
    """
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if lengths.min() < NOTHING_LEFT:
        raise CatalogueError("an entry of the catalogue has no direction of its own")
    return np.asarray(rows / lengths)
