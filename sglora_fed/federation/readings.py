"""What else a description may mean: the entries of the public catalogue that are nearest to it.

A sentence in unknown words is often taken for something similar, left for right. Whoever has the
catalogue can make an adapter for each of several readings; the client tries them on what it has and
keeps one (:func:`~sglora_fed.federation.answers.chosen`). Readings are made of what the client has
released, so they cost no epsilon, and which one is kept is never told.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sglora_fed.config.schema import RunConfig
from sglora_fed.errors import CatalogueError
from sglora_fed.privacy.catalogue import Catalogue
from sglora_fed.privacy.families import WITH_CATALOGUE, catalogue_of
from sglora_fed.privacy.mechanisms import PLACES
from sglora_fed.privacy.snapping import Snap

logger = logging.getLogger(__name__)

UNREAD = ("subset", "shares")
"""Mechanisms without readings: one brings places of its own, the other is never read."""


def check_count(count: int, entries: int) -> None:
    """Refuse more readings than a description and so many entries of a catalogue give.

    Raises:
        CatalogueError: for these, and for fewer than two.
    """
    if not 2 <= count <= entries + 1:
        raise CatalogueError(
            f"generator.readings={count}: a description and a catalogue of {entries} entries give 2"
            f" to {entries + 1}"
        )


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
        check_count(self.count, len(self.snap.rows))

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


def is_read(config: RunConfig, own_catalogue: Path | None = None) -> bool:
    """Whether descriptions are read in several ways: it is wanted, and there is a public list."""
    named = own_catalogue or config.privacy.catalogue or config.family.name in WITH_CATALOGUE
    wanted = config.generator.readings > 1 and config.privacy.mechanism not in UNREAD
    return bool(wanted and named)


def check_catalogue(config: RunConfig) -> None:
    """Refuse a run without the list that it needs, before anything is trained for it.

    Raises:
        CatalogueError: when there is no catalogue for a mechanism of places, it cannot be used, or
            has too few entries.
    """
    if is_read(config):
        check_count(config.generator.readings, len(run_catalogue(config).descriptions))
    elif config.privacy.mechanism in PLACES:
        run_catalogue(config)
    elif config.generator.readings > 1 and config.privacy.mechanism not in UNREAD:
        told = "family %r has no catalogue: each description has one reading, itself"
        logger.warning(told, config.family.name)


def run_catalogue(config: RunConfig, own: Path | None = None) -> Catalogue:
    """The public list of a run.

    Args:
        config: of the run.
        own: file that a node of its own uses in place of the configured one.

    Raises:
        CatalogueError: when there is none for the family, or it cannot be used.
    """
    told = config.privacy.catalogue
    return catalogue_of(config.family.name, own or (Path(told).expanduser() if told else None))
