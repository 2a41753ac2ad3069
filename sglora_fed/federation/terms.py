"""What both sides must hold alike before anything is released, and what a release then means."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sglora_fed.backbones.types import Describer
from sglora_fed.config.schema import IN_CLEAR, RunConfig
from sglora_fed.errors import CatalogueError, MessageError, PrivacyError
from sglora_fed.federation.codec import Reader, unit_rows
from sglora_fed.federation.readings import Readings, is_read, run_catalogue
from sglora_fed.kept.catalogues import kept_snap
from sglora_fed.privacy.mechanisms import (
    PLACES,
    KrrMechanism,
    Mechanism,
    NoMechanism,
    ProjectedMechanism,
    Projection,
    SharesMechanism,
)
from sglora_fed.privacy.mechanisms.agreed import agreed_mechanism
from sglora_fed.privacy.mechanisms.shares import entries_that_fit
from sglora_fed.privacy.snapping import Snap

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Terms:
    """What the server says that a release refers to; nothing of it is secret.

    Attributes:
        catalogue: hash of the public list; empty where none is used.
        projection: directions in which vectors are sent; None: as they are.
    """

    catalogue: str = ""
    projection: Projection | None = None

    @property
    def sha256(self) -> str:
        """Of both: the same description under other terms is another release."""
        told = [self.catalogue, "" if self.projection is None else self.projection.sha256]
        return hashlib.sha256(" ".join(told).encode()).hexdigest()

    def fields(self) -> dict[str, Any]:
        """Hashes, for a message."""
        projection = [] if self.projection is None else [self.projection.sha256]
        return {"catalogue": [self.catalogue] * bool(self.catalogue), "projection": projection}

    def arrays(self) -> dict[str, np.ndarray]:
        """Numbers, for a message: the mean above the directions, [r + 1, d], and the reach."""
        if (own := self.projection) is None:
            return {"directions": np.empty((0, 0)), "reach": np.empty(0)}
        rows = np.vstack([own.mean, own.directions.T])
        return {"directions": rows.astype(np.float64), "reach": np.array([own.reach])}

    @classmethod
    def parse(cls, read: Reader) -> Terms:
        """Check and read those of a message.

        Raises:
            MessageError, PrivacyError: for wrong types, or a projection that is none, or not the
                one that the hash is of.
        """
        catalogue, told = read.names("catalogue", 1), read.names("projection", 1)
        rows = read.array("directions", "float64", (None, None))
        reach = read.array("reach", "float64", (len(told),))
        if not told:
            return cls("".join(catalogue))
        if len(rows) < 2:
            raise MessageError(f"{len(rows)} rows of a projection; need a mean and directions")
        projection = Projection(rows[0], np.ascontiguousarray(rows[1:].T), float(reach[0]))
        if projection.sha256 != told[0]:
            raise PrivacyError(f"the projection is {projection.sha256}, the server's {told[0]}")
        return cls("".join(catalogue), projection)


ALONE = Terms()
"""Of a release that refers to nothing."""


@dataclass(frozen=True, eq=False)
class Agreement:
    """A mechanism with all that it refers to.

    Attributes:
        terms: as the server says them.
        mechanism: of every release.
        snap: of the catalogue that releases are places of; None where they are none.
        readings: of what a server has decoded; None where it makes one adapter of it.
    """

    terms: Terms
    mechanism: Mechanism
    snap: Snap | None = None
    readings: Readings | None = None

    def public(self, describer: Describer) -> str:
        """What a ledger notes that a release refers to: under other terms it is another release."""
        return f"{describer.fingerprint} {self.terms.sha256}"

    def decoded(self, released: np.ndarray) -> np.ndarray:
        """What the server makes adapters for, of n releases: [n, m, d] float32.

        A place becomes its entry's own embedding, without noise; what tells the server nothing, no
        embedding at all.

        Raises:
            MessageError: for what no mechanism releases.
        """
        if self.snap is not None:
            return np.asarray(self.snap.embeddings[_places(released, self.snap)], np.float32)
        rows = released.astype(np.float32, copy=False)
        if self.mechanism.epsilon == 0:
            return np.empty((len(rows), 0, 0), np.float32)
        unit_rows(rows)
        if self.terms.projection is not None:
            dim = len(self.terms.projection.mean)
            up = [self.terms.projection.up(row) for row in rows.astype(np.float64)]
            rows = np.array(up, np.float32).reshape(len(rows), dim)
        return rows[:, None]

    def read(self, embeddings: np.ndarray) -> np.ndarray:
        """[n, m, d] all that adapters are made for, of what was decoded."""
        if self.readings is None:
            return embeddings
        read = self.readings.of if self.snap is None else self.readings.of_entries
        return read(embeddings[:, 0])


def _places(released: np.ndarray, snap: Snap) -> np.ndarray:
    if released.size and released.max() >= len(snap.rows):
        raise MessageError(f"a place beyond the {len(snap.rows)} of the catalogue")
    if (np.diff(released.astype(np.int64), axis=1) <= 0).any():
        raise MessageError("places that do not ascend; their order must tell nothing")
    return released


def in_clear(dim: int) -> Agreement:
    """What a release is without any mechanism."""
    return Agreement(Terms(), NoMechanism(dim))


def agree(
    config: RunConfig,
    describer: Describer,
    terms: Terms = ALONE,
    own_catalogue: Path | None = None,
) -> Agreement:
    """What a configuration means, on either side.

    Args:
        config: of the run.
        describer: the description encoder.
        terms: of the server: its projection, and whether clients of ``shares`` ask for entries.
        own_catalogue: file that a node of its own uses in place of the configured one.

    Raises:
        CatalogueError: when there is no catalogue for the family, or it cannot be used.
        PrivacyError: for impossible parameters.
    """
    if config.privacy.mechanism == "shares":
        return _agreed_shares(config, describer, terms, own_catalogue)
    if config.privacy.mechanism not in PLACES:
        made = agreed_mechanism(config.privacy, describer.dim, terms.projection)
        return Agreement(Terms("", terms.projection), made)
    catalogue = run_catalogue(config, own_catalogue)
    snap = kept_snap(catalogue, describer)
    made = agreed_mechanism(config.privacy, describer.dim, None, snap)
    return Agreement(Terms(catalogue.sha256), made, snap)


def _agreed_shares(
    config: RunConfig, describer: Describer, terms: Terms, own_catalogue: Path | None
) -> Agreement:
    """Of a client that reads its description itself, where the server has the entries' adapters."""
    if (projection := terms.projection) is None:
        raise PrivacyError("shares needs the directions of a linear generator")
    readings = configured_readings(config, describer, own_catalogue) if terms.catalogue else None
    if readings is None:
        return Agreement(Terms("", projection), SharesMechanism(projection))
    sha256 = run_catalogue(config, own_catalogue).sha256
    wanted, snap = readings.count - 1, readings.snap
    fit = entries_that_fit(projection.rank, len(snap.rows), wanted)
    if fit < wanted:
        logger.warning("%d of %d readings fit into a client's shares", fit + 1, readings.count)
    return Agreement(Terms(sha256, projection), SharesMechanism(projection, snap, fit))


def agree_on_experts(
    config: RunConfig, describer: Describer, own_catalogue: Path | None = None
) -> Agreement:
    """As :func:`agree`, of what leaves of experts' descriptions.

    Raises:
        CatalogueError: when there is no catalogue for the family, or it cannot be used.
    """
    if config.privacy.experts == IN_CLEAR:
        return in_clear(describer.dim)
    catalogue = run_catalogue(config, own_catalogue)
    snap, epsilon = kept_snap(catalogue, describer), config.privacy.experts_epsilon
    if epsilon is None:
        return Agreement(Terms(catalogue.sha256), NoMechanism(describer.dim), snap)
    mechanism = ProjectedMechanism(snap, KrrMechanism(snap.rows, epsilon))
    return Agreement(Terms(catalogue.sha256), mechanism, snap)


def server_agreement(
    config: RunConfig,
    describer: Describer,
    projection: Projection | None,
    experts: np.ndarray,
    known: tuple[str, Snap | None] = ("", None),
) -> Agreement:
    """As :func:`agree`, with the readings of who makes the adapters.

    Args:
        config: of the run.
        describer: the description encoder.
        projection: public, of the server.
        experts: [E, d] their descriptions. A family's list of which they are no part is of another
            family, and nothing is read by it.
        known: as for :func:`configured_readings`.

    Raises:
        CatalogueError, PrivacyError: as the functions that it calls.
    """
    mechanism, readings = config.privacy.mechanism, None
    if mechanism != "local":  # else the clients read for themselves
        readings = _trusted(config, configured_readings(config, describer, known=known), experts)
    if readings is not None and mechanism == "shares":  # so do these, and ask for each
        return agree(config, describer, Terms(run_catalogue(config).sha256, projection))
    return replace(agree(config, describer, Terms("", projection)), readings=readings)


def _trusted(config: RunConfig, readings: Readings | None, experts: np.ndarray) -> Readings | None:
    """Readings by a list that is of the experts' family, or that somebody has named."""
    if readings is None or config.privacy.catalogue is not None or readings.snap.lists(experts):
        return readings
    logger.warning("the experts are not of family %r: one reading each", config.family.name)
    return None


def configured_readings(
    config: RunConfig,
    describer: Describer,
    own_catalogue: Path | None = None,
    known: tuple[str, Snap | None] = ("", None),
) -> Readings | None:
    """How whoever holds the generator reads descriptions; None: as they are.

    Args:
        config: of the run.
        describer: the description encoder.
        own_catalogue: file that a node of its own uses in place of the configured one.
        known: hash of a catalogue and its space, which takes an encoder some seconds to make.

    Raises:
        CatalogueError: when the catalogue cannot be used, or has too few entries.
    """
    if not is_read(config, own_catalogue):
        return None
    catalogue, (sha256, snap) = run_catalogue(config, own_catalogue), known
    if snap is None or sha256 != catalogue.sha256:
        snap = kept_snap(catalogue, describer)
    return Readings(snap, config.generator.readings)


def check_terms(agreement: Agreement, terms: Terms) -> None:
    """Refuse to release anything when the server's terms are not one's own.

    Raises:
        CatalogueError: when it holds another catalogue.
    """
    if agreement.terms.catalogue != terms.catalogue:
        raise CatalogueError(
            f"the catalogue is {agreement.terms.catalogue!r} here and {terms.catalogue!r} on the"
            " other side"
        )
