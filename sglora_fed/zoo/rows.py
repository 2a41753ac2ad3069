"""Experts' numbers, some rows at a time: a zoo may be larger than memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

CHUNK = 1024
"""Experts whose numbers are in memory together, whatever the size of the zoo."""


def chunks(*arrays: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """Aligned pieces of arrays that have a row for each expert, in order."""
    for start in range(0, len(arrays[0]), CHUNK):
        yield tuple(np.asarray(array[start : start + CHUNK]) for array in arrays)
