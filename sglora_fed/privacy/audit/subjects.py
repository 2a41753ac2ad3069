"""What is audited: every mechanism of the project, between its two most different inputs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sglora_fed.config.schema import MECHANISMS, PrivacyConfig
from sglora_fed.errors import AuditError
from sglora_fed.privacy.audit.many import Subject
from sglora_fed.privacy.mechanisms import (
    GaussianMechanism,
    KrrMechanism,
    LocalMechanism,
    Mechanism,
    NoMechanism,
    PrivUnitMechanism,
    ProjectedMechanism,
    Projection,
    SharesMechanism,
    SubsetMechanism,
    make_mechanism,
)
from sglora_fed.privacy.snapping import Snap

DIM, RANK = 384, 12
"""Numbers of a description embedding, and of a projected one."""

SHARES = ("shares, first server", "shares, second server")
"""Each server alone; epsilon is 0 while they do not put their shares together."""

PLACES, DECOYS = 16, 4
"""Of the catalogue that is drawn from; epsilon does not depend on them."""


@dataclass(frozen=True)
class Along:
    """Which of two opposite directions a released embedding points to.

    Attributes:
        direction: [d].
    """

    direction: np.ndarray

    def __call__(self, released: np.ndarray) -> np.ndarray:
        """[1]: the product with the direction."""
        return np.array([released @ self.direction])


@dataclass(frozen=True)
class Sent:
    """Which of two places was sent, and which came first: an order may tell.

    Attributes:
        first: a place.
        second: another.
    """

    first: int
    second: int

    def __call__(self, released: np.ndarray) -> np.ndarray:
        """[2], each 1 for the first place, -1 for the second, else 0."""
        sent = released.tolist()
        among = (self.first in sent) - (self.second in sent)
        return np.array([among, (sent[0] == self.first) - (sent[0] == self.second)], np.float64)


@dataclass(frozen=True)
class Share:
    """One of the two shares of a description and of an entry's place, as its server sees it.

    Attributes:
        row: which.
        direction: [k] signs in which the two inputs differ; their entries are the first two.
    """

    row: int
    direction: np.ndarray

    def __call__(self, released: np.ndarray) -> np.ndarray:
        """[4]: the first number, its last byte, the sum along the direction, and a place.

        As parts of the ring, from -1 to 1, the byte from 0 to 1, and which of the two entries is in
        the set of places: 1 for the first alone, -1 for the second.
        """
        share, rank = released[self.row], len(self.direction)
        whole = share[:rank].view(np.int64) / 2.0**63
        places = int(share[rank])
        among = (places & 1) - (places >> 1 & 1)
        return np.array([whole[0], (int(share[0]) & 255) / 256, whole @ self.direction, among])


def nothing(released: np.ndarray) -> np.ndarray:
    """[1]: the number of values that left the client; there should be none."""
    return np.array([float(released.size)])


def subject(name: str, epsilon: float, delta: float) -> Subject:
    """A mechanism with the inputs between which its promise is hardest to keep.

    Args:
        name: of the command's list, or registered.
        epsilon: that it should claim; ``none`` claims nothing.
        delta: that it should claim, where it has one.

    Raises:
        AuditError: for an unknown name.
        PrivacyError: for an epsilon or delta that the mechanism refuses.
    """
    if name in ("krr", "subset"):
        return _places(name, epsilon)
    if name == "local":
        first = _direction(DIM)
        return Subject(name, LocalMechanism(), first, -first, nothing)
    if name in SHARES:
        return _share(name)
    if name.startswith("projected_"):
        return _projected(name.removeprefix("projected_"), epsilon, delta)
    return _opposite(name, _on_embeddings(name, DIM, epsilon, delta))


def _on_embeddings(name: str, dim: int, epsilon: float, delta: float) -> Mechanism:
    if name == "none":
        return NoMechanism(dim)
    if name == "gaussian":
        return GaussianMechanism(dim, epsilon, delta)
    if name == "privunit":
        return PrivUnitMechanism(dim, epsilon)
    if name not in MECHANISMS:
        raise AuditError(f"unknown mechanism {name!r}")
    return make_mechanism(PrivacyConfig(name, epsilon, delta), dim)


def _share(name: str) -> Subject:
    projection = _projection()
    low = _direction(RANK)
    high = projection.directions @ low
    rows = np.stack([high, -high])
    snap = Snap(rows, np.zeros(DIM), np.eye(DIM), rows)
    tells = Share(SHARES.index(name), np.sign(low))
    return Subject(name, SharesMechanism(projection, snap, 1), high, -high, tells)


def _projection() -> Projection:
    """Public directions that favour no coordinate, around 0."""
    directions = np.linalg.qr(np.random.default_rng(0).normal(size=(DIM, RANK)))[0]
    return Projection(np.zeros(DIM), directions, 1.0)


def _opposite(name: str, mechanism: Mechanism) -> Subject:
    """Between a direction and its opposite: no two unit vectors are farther apart."""
    direction = _direction(DIM)
    return Subject(name, mechanism, direction, -direction, Along(direction))


def _projected(inner: str, epsilon: float, delta: float) -> Subject:
    projection = _projection()
    mechanism = ProjectedMechanism(projection, _on_embeddings(inner, RANK, epsilon, delta))
    low = _direction(RANK)
    high = projection.directions @ low
    return Subject(mechanism.name, mechanism, high, -high, Along(low))


def _places(name: str, epsilon: float) -> Subject:
    rows = np.eye(PLACES)
    mechanism: Mechanism = (
        KrrMechanism(rows, epsilon) if name == "krr" else SubsetMechanism(rows, epsilon, DECOYS)
    )
    first, second = PLACES // 3, PLACES - 2
    return Subject(name, mechanism, rows[first], rows[second], Sent(first, second))


def _direction(dim: int) -> np.ndarray:
    """A public unit vector that favours no coordinate."""
    drawn = np.random.default_rng(1).normal(size=dim)
    return np.asarray(drawn / np.linalg.norm(drawn))
