"""An entry of a public table from two servers that do not talk, neither of which learns which one.

Private information retrieval (Chor, Goldreich, Kushilevitz & Sudan 1995): the client draws a set of
places, each of them in it by a coin, and asks one server for the sum of the entries in it, the
other for that of the same set with one place more or one less. The two sums differ by the entry of
that place. Sums are of bits, modulo 2, so nothing is rounded; either set alone is uniform, whatever
the place.
"""

from __future__ import annotations

import secrets

import numpy as np

WORD = 64
"""Places in one number of a set."""


def words_for(entries: int) -> int:
    """Numbers of a set of places in a table of so many entries."""
    return -(-entries // WORD)


def hidden_places(places: np.ndarray, entries: int) -> np.ndarray:
    """Two sets of places for each place: one for each server, none may see both.

    Args:
        places: [m] in a table.
        entries: of the table; bits beyond them are as uniform, and nobody looks at them.

    Returns:
        [2, m, w] uint64, bit i of a number j for place 64 j + i.
    """
    drawn = np.frombuffer(secrets.token_bytes(8 * len(places) * words_for(entries)), np.uint64)
    first = drawn.reshape(len(places), words_for(entries))
    second = first.copy()
    bits = np.uint64(1) << (places % WORD).astype(np.uint64)
    second[np.arange(len(places)), places // WORD] ^= bits
    return np.stack([first, second])


def summed(sets: np.ndarray, table: np.ndarray) -> np.ndarray:
    """One server's answers.

    Args:
        sets: [m, w] uint64.
        table: [k, D] of whole numbers.

    Returns:
        [m, D] the sums, modulo 2 in each bit, of the entries in each set.
    """
    places = np.unpackbits(sets.astype("<u8").view(np.uint8), axis=1, bitorder="little")
    among = places[:, : len(table)].astype(bool)
    sums = [np.bitwise_xor.reduce(table[some], axis=0) for some in among]
    return np.array(sums, table.dtype).reshape(len(sets), table.shape[1])
