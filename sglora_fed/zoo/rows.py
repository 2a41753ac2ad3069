"""Experts' numbers, some rows at a time: a zoo may be larger than memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from sglora_fed.errors import ZooTooLargeError

CHUNK = 1024
"""Experts whose numbers are in memory together, whatever the size of the zoo."""


@dataclass(frozen=True)
class Piece:
    """Some rows of an array in a file.

    Attributes:
        path: of the file.
        offset: bytes before the first row.
        rows: how many.
    """

    path: Path
    offset: int
    rows: int


@dataclass(frozen=True)
class Rows:
    """An array [E, ...] that lies in files: rows are read when they are asked for.

    A file is mapped as long as it takes to copy some of its rows, so that what was read does not
    pile up in memory.

    Attributes:
        pieces: that hold the rows, one after the other.
        dtype: of the numbers.
        width: shape of a row.
        order: [E] which of the rows are the array's, in which order.
    """

    pieces: tuple[Piece, ...]
    dtype: np.dtype
    width: tuple[int, ...]
    order: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        """As of an array in memory."""
        return (len(self.order), *self.width)

    @property
    def ndim(self) -> int:
        """As of an array in memory."""
        return len(self.shape)

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, key: int | slice | np.ndarray) -> np.ndarray:
        wanted = np.atleast_1d(self.order[key])
        made = np.empty((len(wanted), *self.width), self.dtype)
        holders = np.searchsorted(self._ends, wanted, "right")
        for holder in np.unique(holders):
            piece, here = self.pieces[holder], holders == holder
            shape = (piece.rows, *self.width)
            mapped = np.memmap(piece.path, self.dtype, "r", piece.offset, shape)
            made[here] = mapped[wanted[here] - (self._ends[holder] - piece.rows)]
        return made[0] if isinstance(key, int | np.integer) else made

    def __array__(self, *_: object, **__: object) -> np.ndarray:
        size = np.prod(self.shape) * self.dtype.itemsize / 1e9
        raise ZooTooLargeError(f"{size:.1f} GB of {self.shape[0]} experts' numbers in memory")

    def select(self, rows: np.ndarray) -> Rows:
        """Some of the rows; nothing is read."""
        return Rows(self.pieces, self.dtype, self.width, self.order[rows])

    @cached_property
    def _ends(self) -> np.ndarray:
        return np.cumsum([piece.rows for piece in self.pieces])


def chunks(*arrays: np.ndarray | Rows) -> Iterator[tuple[np.ndarray, ...]]:
    """Aligned pieces of arrays that have a row for each expert, in order."""
    for start in range(0, len(arrays[0]), CHUNK):
        yield tuple(array[start : start + CHUNK] for array in arrays)


def selected(array: np.ndarray | Rows, rows: np.ndarray) -> np.ndarray | Rows:
    """Some experts' rows; those that lie in files stay there."""
    return array.select(rows) if isinstance(array, Rows) else array[rows]


def joined(arrays: Sequence[np.ndarray | Rows]) -> np.ndarray | Rows:
    """One array after the other: all in memory, or all in files."""
    in_files = [array for array in arrays if isinstance(array, Rows)]
    if not in_files:
        return np.concatenate([np.asarray(array) for array in arrays])
    pieces = tuple(piece for array in in_files for piece in array.pieces)
    starts = np.cumsum([0, *(sum(piece.rows for piece in array.pieces) for array in in_files)])
    order = np.concatenate([a.order + s for a, s in zip(in_files, starts[:-1], strict=True)])
    return Rows(pieces, in_files[0].dtype, in_files[0].width, order)
