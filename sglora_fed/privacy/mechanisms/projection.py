"""Fewer numbers before noise: a public subspace, computed from what the server has."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from sglora_fed.errors import PrivacyError
from sglora_fed.privacy.mechanisms.base import Form, Mechanism, checked, direction_of

ORTHONORMAL = 1e-6
"""How far products of two directions may be from 0 or 1."""


@dataclass(frozen=True, eq=False)
class Projection:
    """r public directions; they cost no epsilon, because no client's description is in them.

    Args:
        mean: [d] of public embeddings.
        directions: [d, r] orthonormal columns.
        reach: typical length of a public embedding within the subspace, less the mean.
        unseen: [d] unit vector at right angles to mean and directions that the generator does not
            look at; the server's own, it never travels.

    Raises:
        PrivacyError: for shapes that do not belong together, numbers that are not finite, columns
            that are not orthonormal, or a reach that is not positive.
    """

    mean: np.ndarray
    directions: np.ndarray
    reach: float
    unseen: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.mean.ndim != 1 or self.directions.shape[:-1] != self.mean.shape:
            raise PrivacyError(
                f"directions {self.directions.shape} beside a mean {self.mean.shape};"
                " need (d, r) and (d,)"
            )
        if not (np.isfinite(self.mean).all() and 0 < self.reach < np.inf):
            raise PrivacyError(f"reach={self.reach!r}, or NaN in the mean; need finite numbers")
        products = self.directions.T @ self.directions
        if not np.abs(products - np.eye(len(products))).max(initial=0) <= ORTHONORMAL:
            raise PrivacyError("the directions are not orthonormal; take columns of a QR or SVD")

    @property
    def rank(self) -> int:
        """Number of directions, r."""
        return int(self.directions.shape[1])

    @property
    def sha256(self) -> str:
        """Of shape and numbers in double precision: both sides must project alike."""
        numbers = (self.mean, self.directions, np.float64(self.reach))
        parts = [np.ascontiguousarray(part, "<f8").tobytes() for part in numbers]
        return hashlib.sha256(b"".join([repr(self.directions.shape).encode(), *parts])).hexdigest()

    def down(self, embedding: np.ndarray) -> np.ndarray:
        """The direction of an embedding within the subspace.

        Args:
            embedding: [d].

        Returns:
            An [r] unit vector; the first axis where nothing of the embedding lies in the subspace.

        Raises:
            PrivacyError: when the embedding is no unit vector of the right length.
        """
        return direction_of(self.coordinates(embedding))

    def coordinates(self, embedding: np.ndarray) -> np.ndarray:
        """[r] where an embedding [d] lies in the subspace.

        Raises:
            PrivacyError: when the embedding is no unit vector of the right length.
        """
        return np.asarray(self.directions.T @ (checked(embedding, len(self.mean)) - self.mean))

    def up(self, released: np.ndarray) -> np.ndarray:
        """The embedding that the server puts in place of a release.

        An embedding has length 1, of which the subspace holds a part. What is missing goes where
        the generator does not look: to scale instead would also scale the mean.

        Args:
            released: [r] unit vector.

        Returns:
            A [d] unit vector, float32.
        """
        embedding = self.mean + self.reach * (self.directions @ released)
        missing = 1 - float(embedding @ embedding)
        if self.unseen is not None and missing > 0:
            embedding = embedding + np.sqrt(missing) * self.unseen
        return np.asarray(embedding / np.linalg.norm(embedding), np.float32)


def leading(public: np.ndarray, rank: int) -> Projection:
    """The strongest directions of public embeddings, such as those of a zoo's experts.

    Args:
        public: [n, d].
        rank: directions to keep, r.

    Raises:
        PrivacyError: for fewer than r + 1 embeddings or dimensions than r, or none at all.
    """
    if not 0 < rank < min(len(public), public.shape[1] + 1):
        raise PrivacyError(f"rank={rank} for public embeddings {public.shape}; need 0 < r < n")
    mean = public.mean(axis=0, dtype=np.float64)
    rows = np.linalg.svd(public - mean, full_matrices=False)[2]
    directions = rows[:rank].T
    lengths = np.linalg.norm((public - mean) @ directions, axis=1)
    return Projection(mean, directions, float(np.sqrt(np.mean(lengths**2))))


class Downward(Protocol):
    """Public preprocessing: a function of the embedding and of nothing else that is secret."""

    def down(self, embedding: np.ndarray) -> np.ndarray:
        """The unit vector for another mechanism."""
        ...


@dataclass(frozen=True)
class ProjectedMechanism:
    """Another mechanism on what a public projection leaves; the promise is the other's.

    In front of ``krr`` and ``subset``, whose rows must be projected likewise, it makes the nearest
    description the nearest in what tells the catalogue's entries apart.

    Args:
        projection: public.
        inner: for embeddings of r numbers.
    """

    projection: Downward
    inner: Mechanism
    name: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", f"projected_{self.inner.name}")

    @property
    def epsilon(self) -> float | None:
        """Of one release."""
        return self.inner.epsilon

    @property
    def delta(self) -> float | None:
        """Of one release."""
        return self.inner.delta

    @property
    def unit(self) -> str:
        """What they protect."""
        return self.inner.unit

    @property
    def form(self) -> Form:
        """What the other mechanism sends."""
        return self.inner.form

    @property
    def replies(self) -> int:
        """Adapters that the server sends back."""
        return self.inner.replies

    def release(self, embedding: np.ndarray) -> np.ndarray:
        """What the other mechanism releases; an [r] unit vector is for :meth:`Projection.up`.

        Raises:
            PrivacyError: when the embedding is no [d] unit vector, or the other mechanism is for
                embeddings of another length than r; checked before anything is drawn.
        """
        return self.inner.release(self.projection.down(embedding))
