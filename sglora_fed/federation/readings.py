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
from sglora_fed.privacy.mechanisms.subset import check_replies
from sglora_fed.privacy.snapping import Snap

logger = logging.getLogger(__name__)

UNREAD = "subset"
"""The mechanism without readings: it brings places of its own."""


def check_count(count: int, entries: int, own: int = 1) -> None:
    """Refuse more readings than there can be.

    Args:
        count: of them.
        entries: of the catalogue.
        own: 1 where the description itself is read, too, else 0.

    Raises:
        CatalogueError: for more than these, and for fewer than two.
    """
    if not 2 <= count <= entries + own:
        raise CatalogueError(
            f"generator.readings={count}: the catalogue's {entries} entries give 2 to"
            f" {entries + own}"
        )


@dataclass(frozen=True, eq=False)
class Readings:
    """How a description is read in several ways.

    Attributes:
        snap: of the catalogue.
        count: readings of each description, m, at least 2: itself among them, unless it is an
            entry.

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
        near = _stacked(self.snap, embeddings, self.count - 1)
        return np.concatenate([near, embeddings[:, None].astype(np.float32)], axis=1)

    def of_entries(self, embeddings: np.ndarray) -> np.ndarray:
        """[n, m, d] float32, of entries [n, d]: the nearest first, which each is to itself.

        Raises:
            CatalogueError: when the catalogue has fewer entries.
        """
        return _stacked(self.snap, embeddings, self.count)


def _stacked(snap: Snap, embeddings: np.ndarray, count: int) -> np.ndarray:
    """[n, count, d] float32, the entries that are nearest to embeddings [n, d]."""
    near = [snap.embeddings[snap.nearest(row, count)] for row in embeddings]
    return np.array(near, np.float32).reshape(len(embeddings), count, embeddings.shape[-1])


def is_read(config: RunConfig, own_catalogue: Path | None = None) -> bool:
    """Whether descriptions are read in several ways: it is wanted, and there is a public list."""
    named = own_catalogue or config.privacy.catalogue or config.family.name in WITH_CATALOGUE
    wanted = config.generator.readings > 1 and config.privacy.mechanism != UNREAD
    return bool(wanted and named)


def check_catalogue(config: RunConfig) -> None:
    """Refuse a run without the list that it needs, before anything is trained for it.

    Raises:
        CatalogueError: when there is no catalogue for a mechanism of places, it cannot be used, or
            has too few entries.
        PrivacyError: when as many places are wanted as it has, or more.
    """
    if is_read(config):
        entries = len(run_catalogue(config).descriptions)
        own = int(config.privacy.mechanism not in PLACES)
        check_count(config.generator.readings, entries, own)
    elif config.privacy.mechanism == UNREAD:
        check_replies(config.privacy.replies, len(run_catalogue(config).descriptions))
    elif config.privacy.mechanism in PLACES:
        run_catalogue(config)
    elif config.generator.readings > 1:
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
