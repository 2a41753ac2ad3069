"""Two additive shares of a description, for two servers that do not talk to each other.

What a linear generator needs of a description are its coordinates c in k public directions. The
client rounds them to fixed point, draws k uniform numbers r of the ring of integers modulo 2^64,
and gives r to one server, c - r to the other (additive secret sharing). Each
share alone is uniform whatever the description, so each server learns nothing: epsilon 0, *provided
that the two do not put their shares together*. Each multiplies its share by the generator's map,
rounded to fixed point, and the two answers add up, modulo 2^64, to exactly the product of the
rounded coordinates with the rounded map: ring operations are exact, and the product is smaller than
2^63 (checked).
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import numpy as np

from sglora_fed.errors import PrivacyError
from sglora_fed.privacy.mechanisms.base import UNIT, Form
from sglora_fed.privacy.mechanisms.projection import Projection

SERVERS = 2

POINT = 24
"""Binary places behind the point, of coordinates and of the map."""

LARGEST = 2.0 ** (63 - 2 * POINT)
"""What a sum of products must stay below, so that it is not taken modulo 2^64."""


@dataclass(frozen=True, eq=False)
class SharesMechanism:
    """Both shares of a description's coordinates.

    Args:
        projection: the generator's directions [d, k] and centre; public.
    """

    projection: Projection
    epsilon: float = 0.0
    delta: float = 0.0
    name: str = "shares"
    unit: str = UNIT
    replies: int = 1

    @property
    def form(self) -> Form:
        """Of each server's k numbers."""
        return Form("uint64", (SERVERS, self.projection.rank))

    def release(self, embedding: np.ndarray) -> np.ndarray:
        """[2, k] uint64: a row for each server; none may see both.

        Raises:
            PrivacyError: when the embedding is no unit vector of the right length.
        """
        coordinates = fixed(self.projection.coordinates(embedding))
        drawn = np.frombuffer(secrets.token_bytes(8 * len(coordinates)), np.uint64)
        return np.stack([drawn, coordinates - drawn])


@dataclass(frozen=True, eq=False)
class ShareServer:
    """One of the two servers; it holds the generator's map and sees one share of each client.

    Args:
        weights: [k, D] fixed point.
        offset: [D] fixed point of twice the places, which one of the two adds.
    """

    weights: np.ndarray
    offset: np.ndarray

    def answer(self, shares: np.ndarray) -> np.ndarray:
        """[n, k] shares to [n, D] shares of adapters, all uint64."""
        return np.asarray(shares @ self.weights + self.offset)


def share_servers(weights: np.ndarray, offset: np.ndarray) -> tuple[ShareServer, ShareServer]:
    """The two servers of a linear generator: an adapter is ``offset + coordinates @ weights``.

    Args:
        weights: [k, D].
        offset: [D].

    Raises:
        PrivacyError: when an adapter could be too large for the ring.
    """
    # Coordinates of unit vectors less a mean are at most 2 long.
    reach = 2 * np.linalg.norm(weights, axis=0) + np.abs(offset) + 1
    if not reach.max(initial=0.0) < LARGEST:
        raise PrivacyError(f"an adapter may reach {reach.max():.3g}; shares hold {LARGEST:g}")
    rounded = fixed(weights)
    return (
        ShareServer(rounded, fixed(offset, 2 * POINT)),
        ShareServer(rounded, np.zeros(len(offset), np.uint64)),
    )


def combined(answers: np.ndarray) -> np.ndarray:
    """The adapters that two answers add up to, on the client.

    Args:
        answers: [n, 2, D] uint64.

    Returns:
        [n, D] float32.
    """
    total = answers.sum(axis=1, dtype=np.uint64).view(np.int64)
    return np.asarray(np.ldexp(total.astype(np.float64), -2 * POINT), np.float32)


def fixed(values: np.ndarray, places: int = POINT) -> np.ndarray:
    """Numbers in fixed point modulo 2^64, uint64."""
    scaled = np.rint(np.ldexp(np.asarray(values, np.float64), places))
    return np.asarray(scaled.astype(np.int64).view(np.uint64))
