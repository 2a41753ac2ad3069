"""What else a description may mean: the entries of the public catalogue that are nearest to it.

A sentence in unknown words is often taken for something similar, left for right. Whoever has the
catalogue can make an adapter for each of several readings; the client tries them on what it has and
keeps one (:func:`~sglora_fed.federation.answers.chosen`). Readings are made of what the client has
released, so they cost no epsilon, and which one is kept is never told.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sglora_fed.errors import CatalogueError
from sglora_fed.privacy.snapping import Snap

UNREAD = ("subset", "shares")
"""Mechanisms without readings: one brings places of its own, the other is never read."""


@dataclass(frozen=True, eq=False)
class Readings:
    """How a description is read in several ways.

    Attributes:
        snap: of the catalogue.
        count: readings of each description, m, itself among them; at least 2.

    Raises:
        CatalogueError: when the catalogue has fewer entries.
    """

    snap: Snap
    count: int

    def __post_init__(self) -> None:
        if not 2 <= self.count <= len(self.snap.rows) + 1:
            raise CatalogueError(
                f"generator.readings={self.count}: a description and a catalogue of"
                f" {len(self.snap.rows)} entries give 2 to {len(self.snap.rows) + 1}"
            )

    def of(self, embeddings: np.ndarray) -> np.ndarray:
        """[n, m, d] float32, of descriptions [n, d]: the entries nearest first, then themselves.

        An entry in many wordings says better what is meant than one sentence does, so who cannot
        choose is best served by the nearest.

        Raises:
            PrivacyError: for rows that are no unit vectors.
        """
        near = [self.snap.embeddings[self.snap.nearest(row, self.count - 1)] for row in embeddings]
        made = np.empty((len(embeddings), self.count, embeddings.shape[-1]), np.float32)
        made[:, -1] = embeddings
        if near:
            made[:, :-1] = near
        return made
