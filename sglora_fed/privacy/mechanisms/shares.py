"""Two shares of all that a client asks for, for two servers that do not talk to each other.

What a linear generator needs of a description are its coordinates c in k public directions. The
client rounds them to fixed point, draws k uniform numbers r of the ring of integers modulo 2^64,
and gives r to one server, c - r to the other (additive secret sharing). Each
share alone is uniform whatever the description, so each server learns nothing: epsilon 0, *provided
that the two do not put their shares together*. Each multiplies its share by the generator's map,
rounded to fixed point, and the two answers add up, modulo 2^64, to exactly the product of the
rounded coordinates with the rounded map: ring operations are exact, and the product is smaller than
2^63 (checked).

Servers that see uniform numbers cannot read a description in several ways. The client can: it asks
for the adapters of the catalogue's entries that are nearest to it, each from the table of all
entries' adapters (:mod:`~sglora_fed.privacy.mechanisms.retrieval`), in shares that are uniform,
too. How many it asks for depends on public numbers alone.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sglora_fed.errors import PrivacyError
from sglora_fed.privacy.mechanisms.base import UNIT, Form
from sglora_fed.privacy.mechanisms.projection import Projection
from sglora_fed.privacy.mechanisms.retrieval import hidden_places, summed, words_for

if TYPE_CHECKING:
    from sglora_fed.privacy.snapping import Snap

SERVERS = 2

MOST_UP = 1168
"""Bytes of both shares, with which a client's message stays below 2,048: its frame has 880."""

POINT = 24
"""Binary places behind the point, of coordinates and of the map."""

LARGEST = 2.0 ** (63 - 2 * POINT)
"""What a sum of products must stay below, so that it is not taken modulo 2^64."""


@dataclass(frozen=True, eq=False)
class SharesMechanism:
    """Both shares of a description's coordinates, and of the places of entries near it.

    Args:
        projection: the generator's directions [d, k] and centre; public.
        snap: of the catalogue; None where no entry is asked for.
        entries: of it that are asked for, e: the nearest.
    """

    projection: Projection
    snap: Snap | None = None
    entries: int = 0
    epsilon: float = 0.0
    delta: float = 0.0
    name: str = "shares"
    unit: str = UNIT

    @property
    def replies(self) -> int:
        """Adapters that both servers' answers give: of the entries, and of the description."""
        return self.entries + 1

    @property
    def form(self) -> Form:
        """Of each server's k numbers, and w for each entry."""
        words = 0 if self.snap is None else words_for(len(self.snap.rows))
        return Form("uint64", (SERVERS, self.projection.rank + self.entries * words))

    def release(self, embedding: np.ndarray) -> np.ndarray:
        """[2, k + e w] uint64: a row for each server; none may see both.

        Raises:
            PrivacyError: when the embedding is no unit vector of the right length.
        """
        coordinates = fixed(self.projection.coordinates(embedding))
        drawn = np.frombuffer(secrets.token_bytes(8 * len(coordinates)), np.uint64)
        own = np.stack([drawn, coordinates - drawn])
        if self.snap is None:
            return own
        places = self.snap.nearest(embedding, self.entries)
        sets = hidden_places(places, len(self.snap.rows))
        return np.concatenate([own, sets.reshape(SERVERS, -1)], axis=1)


def entries_that_fit(rank: int, listed: int, wanted: int) -> int:
    """Entries that a client asks for beside its description: as many as are wanted and fit.

    Args:
        rank: directions, k.
        listed: entries of the catalogue.
        wanted: of them.
    """
    left = MOST_UP - SERVERS * 8 * rank
    return max(0, min(wanted, left // (SERVERS * 8 * words_for(listed))))


@dataclass(frozen=True, eq=False)
class Answers:
    """Both servers' answers to n clients.

    Attributes:
        own: [n, 2, D] uint64, of the descriptions.
        entries: [n, 2, e, D] uint16, of the entries: sums of numbers' bits in half precision.
    """

    own: np.ndarray
    entries: np.ndarray

    def of(self, rows: np.ndarray) -> Answers:
        """For some of the clients."""
        return Answers(self.own[rows], self.entries[rows])


@dataclass(frozen=True, eq=False)
class ShareServer:
    """One of the two servers; it holds the generator's map and sees one share of each client.

    Args:
        weights: [k, D] fixed point.
        offset: [D] fixed point of twice the places, which one of the two adds.
        table: [K, D] uint16, the bits of all entries' adapters; both hold the same.
    """

    weights: np.ndarray
    offset: np.ndarray
    table: np.ndarray

    def answer(self, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """[n, k + e w] shares to [n, D] uint64 and [n, e, D] uint16, shares of adapters."""
        (count, numbers), (rank, size) = shares.shape, self.weights.shape
        words = max(1, words_for(len(self.table)))
        asked = (numbers - rank) // words
        sums = summed(shares[:, rank:].reshape(count * asked, words), self.table)
        own = np.asarray(shares[:, :rank] @ self.weights + self.offset)
        return own, sums.reshape(count, asked, size)


def share_servers(
    weights: np.ndarray, offset: np.ndarray, adapters: np.ndarray | None = None
) -> tuple[ShareServer, ShareServer]:
    """The two servers of a linear generator: an adapter is ``offset + coordinates @ weights``.

    Args:
        weights: [k, D].
        offset: [D].
        adapters: [K, D] float16, of all entries of the catalogue; None where none are asked for.

    Raises:
        PrivacyError: when an adapter could be too large for the ring.
    """
    # Coordinates of unit vectors less a mean are at most 2 long.
    reach = 2 * np.linalg.norm(weights, axis=0) + np.abs(offset) + 1
    if not reach.max(initial=0.0) < LARGEST:
        raise PrivacyError(f"an adapter may reach {reach.max():.3g}; shares hold {LARGEST:g}")
    listed = np.empty((0, len(offset)), np.float16) if adapters is None else adapters
    rounded, table = fixed(weights), listed.view(np.uint16)
    return (
        ShareServer(rounded, fixed(offset, 2 * POINT), table),
        ShareServer(rounded, np.zeros(len(offset), np.uint64), table),
    )


def answers(servers: Sequence[ShareServer], released: np.ndarray) -> Answers:
    """What both say to n clients' shares [n, 2, k + e w]; each reads its own alone."""
    said = [server.answer(released[:, row]) for row, server in enumerate(servers)]
    own, entries = zip(*said, strict=True)
    return Answers(np.stack(own, axis=1), np.stack(entries, axis=1))


def combined(both: Answers) -> np.ndarray:
    """The adapters that two servers' answers add up to, on the client.

    Returns:
        [n, e + 1, D] float32: of the entries, the nearest first, then of the description.
    """
    total = both.own.sum(axis=1, dtype=np.uint64).view(np.int64)
    own = np.ldexp(total.astype(np.float64), -2 * POINT).astype(np.float32)
    entries = np.bitwise_xor.reduce(both.entries, axis=1).view(np.float16).astype(np.float32)
    return np.concatenate([entries, own[:, None]], axis=1)


def fixed(values: np.ndarray, places: int = POINT) -> np.ndarray:
    """Numbers in fixed point modulo 2^64, uint64."""
    scaled = np.rint(np.ldexp(np.asarray(values, np.float64), places))
    return np.asarray(scaled.astype(np.int64).view(np.uint64))
